"""Merge patches; test_objects has them over HTTP."""

from __future__ import annotations

import pytest

from coredump_shim import mergepatch


@pytest.mark.parametrize(
    ("thing", "patch", "expected"),
    # The examples of RFC 7396, appendix A, whose patch is an object.
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_apply(thing: dict[str, object], patch: dict[str, object], expected: dict[str, object]) -> None:
    before = repr(thing)
    assert mergepatch.apply(thing, patch) == expected
    assert repr(thing) == before
