"""Bodies that go on: nothing said twice is lost, and nothing takes long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import payload, rewrite
from coredump_shim.status import ApiError

TWICE = b'{"a":1,"spec":{"x":1,"x":{"y":2,"y":3}},"a":2}'

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_what_is_said_twice_is_kept_and_the_last_counts() -> None:
    found = payload.from_json(TWICE)
    assert rewrite.encoded(found) == TWICE
    assert (found["a"], found["spec"]["x"]["y"]) == (2, 3)


def test_a_member_is_replaced_or_added_where_others_are_said_twice() -> None:
    found = payload.from_json(TWICE)
    assert rewrite.encoded(payload.replaced(found["spec"], "z", 0)) == b'{"x":1,"x":{"y":2,"y":3},"z":0}'
    assert rewrite.encoded(payload.replaced(found["spec"], "x", 0)) == b'{"x":0,"x":0}'
    assert payload.replaced({}, "a", 1) == {"a": 1}


@given(values)
def test_json_comes_back(value: Any) -> None:
    assert payload.from_json(rewrite.encoded(value)) == value


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for read in (payload.from_json, payload.from_yaml):
        try:
            rewrite.encoded(read(text))
        except ApiError as error:
            assert error.code == 400


def test_yaml() -> None:
    lines = (b"when: 2026-01-31T12:00:00Z", b"day: 2026-01-31", b"list: [1, 2.5, null, true]")
    text = b"apiVersion: v1\nspec:\n" + b"".join(b"  " + line + b"\n" for line in lines)
    spec = {"when": "2026-01-31T12:00:00Z", "day": "2026-01-31", "list": [1, 2.5, None, True]}
    assert payload.from_yaml(text) == {"apiVersion": "v1", "spec": spec}
    assert rewrite.encoded(payload.from_yaml(b"a: 1\na: 2\n")) == b'{"a":1,"a":2}'
    assert payload.from_yaml(b' {"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a [1]\nb: *a\n",
        b"!!python/object/apply:os.system [id]",
        b"!!binary aGVsbG8=",
        b"!!set {a}",
        b"!!timestamp 2026-01-31",
        b"1: x",
        b"<<: {a: b}",
        b"x: .inf",
        b"x: .nan",
        b"x: 0x" + b"f" * 5000,
        b"[" * 5000,
        b"a: b: c",
        b"--- 1\n--- 2\n",
        b"\x00",
        b"\xff",
    ],
)
def test_yaml_that_is_not_read(text: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        payload.from_yaml(text)
    assert refused.value.code == 400


def test_long_yaml_is_refused_and_long_json_is_not() -> None:
    with pytest.raises(ApiError, match="send it as JSON") as refused:
        payload.from_yaml(b"a: " + b"x" * payload.MAX_YAML)
    assert refused.value.code == 413
    assert payload.from_yaml(b'{"a":"' + b"x" * payload.MAX_YAML + b'"}')


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[1e999]", b"[" * 100_000, b"1" * 5000, b'"\xff"'])
def test_json_that_is_not_read(text: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        payload.from_json(text)
    assert refused.value.code == 400
