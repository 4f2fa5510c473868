from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim.controller.observed import Observed, parsed

SEEN = Observed("11111111-2222-3333-4444-555555555555", "0123456789abcdef", 4711)


def test_what_is_written_is_read() -> None:
    assert parsed(SEEN.text()) == SEEN


@pytest.mark.parametrize(
    "change",
    [{"poduid": "../x"}, {"poduid": 1}, {"signature": None}, {"storedBytes": -1}, {"storedBytes": True}],
)
def test_what_a_user_wrote_is_none_of_ours(change: dict[str, object]) -> None:
    assert parsed(json.dumps(json.loads(SEEN.text()) | change)) is None


@given(st.none() | st.text() | st.recursive(st.none(), st.lists).map(json.dumps))
def test_anything_can_be_there(text: str | None) -> None:
    assert parsed(text) is None


def test_what_is_too_long_is_not_read() -> None:
    assert parsed(SEEN.text() + " " * 1000) is None
