"""Label and field selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import filters
from coredump_shim.status import ApiError

THING = {"metadata": {"name": "web", "namespace": "demo", "labels": {"app": "shop", "a.b/c": ""}}}
BARE = {"metadata": {"name": "db", "namespace": "demo"}}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, True),
        ("", True),
        ("app=shop", True),
        ("app==shop", True),
        ("app = shop", True),
        ("app!=shop", False),
        ("app=other", False),
        ("none!=x", True),
        ("app", True),
        ("!app", False),
        ("! none", True),
        ("none", False),
        ("app in (shop, other)", True),
        ("app in (other)", False),
        ("app notin (shop)", False),
        ("none notin (shop)", True),
        ("a.b/c=", True),
        ("app in (shop,other),a.b/c,!none", True),
        ("app=shop,none", False),
    ],
)
def test_labels(labels: str | None, expected: bool) -> None:
    assert filters.both(labels, None)(THING) is expected


def test_object_without_labels() -> None:
    assert filters.both("!app,app!=shop,app notin (shop)", None)(BARE)
    assert not filters.both("app", None)(BARE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name=db", False),
        ("metadata.name!=db", True),
        ("metadata.namespace=demo,metadata.name=web", True),
        ("metadata.namespace=other", False),
        ("metadata.name=", False),
    ],
)
def test_fields(fields: str, expected: bool) -> None:
    assert filters.both(None, fields)(THING) is expected


@pytest.mark.parametrize("labels", ["a b", "=x", "a in b", "a in (", "a=b=c", ",", "a>1", "a\0"])
def test_bad_labels_are_named(labels: str) -> None:
    with pytest.raises(ApiError, match="labelSelector: ") as caught:
        filters.both(labels, None)
    assert caught.value.code == 400


@pytest.mark.parametrize("fields", ["spec.poduid=x", "metadata.name", "status.dumps=1", "=", ","])
def test_bad_fields_are_named(fields: str) -> None:
    with pytest.raises(
        ApiError, match=r"fieldSelector: .* metadata\.name and metadata\.namespace are"
    ) as caught:
        filters.both(None, fields)
    assert caught.value.code == 400


@given(st.text(), st.text())
def test_any_text_is_a_filter_or_a_bad_request(labels: str, fields: str) -> None:
    try:
        assert filters.both(labels, fields)(THING) in (True, False)
    except ApiError as error:
        assert error.code == 400
