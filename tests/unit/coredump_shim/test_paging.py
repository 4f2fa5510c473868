"""Pages and numbers."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import paging
from coredump_shim.endpoint import Object
from coredump_shim.history import History
from coredump_shim.status import ApiError


def things(*names: str) -> list[Object]:
    return [{"metadata": {"namespace": "demo", "name": name}} for name in names]


def test_pages_put_together_are_the_list() -> None:
    history = History()
    version, _ = history.current(None)
    objects = things(*"abcdefg")
    token, seen = None, []
    for _ in range(3):
        page, metadata = paging.page(objects, version, "3", token, history)
        seen += page
        token = metadata.get("continue")
    assert seen == objects
    assert token is None


@pytest.mark.parametrize("limit", [None, "", "0", "7", "99"])
def test_no_limit_that_matters(limit: str | None) -> None:
    page, metadata = paging.page(things(*"abcdefg"), 5, limit, None, History())
    assert (len(page), metadata) == (7, {"resourceVersion": "5"})


def test_token_from_before_a_restart_is_expired() -> None:
    _, metadata = paging.page(things("a", "b"), 5, "1", None, History())
    with pytest.raises(ApiError) as caught:
        paging.page(things("a", "b"), 6, "1", metadata["continue"], History())
    assert caught.value.code == 410


@pytest.mark.parametrize(
    "content", [5, [], [1], ["1", "a", "b"], [1, 2, 3], [True, "a", "b"], {"a": 1, "b": 2, "c": 3}]
)
def test_token_of_another_shape(content: object) -> None:
    token = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    with pytest.raises(ApiError, match="continue: "):
        paging.page([], 5, None, token, History())


@given(st.text(min_size=1))
def test_token_that_is_none(token: str) -> None:
    with pytest.raises(ApiError, match="continue: ") as caught:
        paging.page([], 5, None, token, History())
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("text", "number"), [(None, None), ("", None), ("0", 0), ("007", 7), ("9" * 19, int("9" * 19))]
)
def test_whole_number(text: str | None, number: int | None) -> None:
    assert paging.whole_number("limit", text) == number


@pytest.mark.parametrize("text", ["-1", "1.5", "x", " 1", "\u0661", "9" * 5000, "1\0"])
def test_number_that_is_none(text: str) -> None:
    with pytest.raises(ApiError, match=r"limit: .* is not a whole number") as caught:
        paging.whole_number("limit", text)
    assert caught.value.code == 400
