"""Lists, rewritten while they come, however they are cut into pieces."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import listing, rewrite

ITEM = {"apiVersion": rewrite.STORED, "metadata": {"name": "wéb", "managedFields": [{"apiVersion": "x/v1"}]}}
LISTS: list[dict[str, Any]] = [
    {},
    {"items": []},
    {"items": None, "kind": "L"},
    {"apiVersion": rewrite.STORED, "items": [ITEM, ITEM], "metadata": {"resourceVersion": "12"}, "n": 123},
    {"kind": "Table", "rows": [{"cells": ["a", 1], "object": ITEM}, {"cells": []}], "metadata": {}},
]


def read(*pieces: bytes) -> Any:
    return json.loads(b"".join(listing.to_caller(iter(pieces))))


@given(st.sampled_from(LISTS), st.integers(1, 40), st.sampled_from([None, 2]))
def test_as_rewriting_the_whole(thing: dict[str, Any], step: int, indent: int | None) -> None:
    text = json.dumps(thing, indent=indent, ensure_ascii=False).encode() + b"\n"
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert read(*pieces) == rewrite.to_caller(thing)


@pytest.mark.parametrize("thing", LISTS)
def test_a_list_that_is_cut_is_never_whole(thing: dict[str, Any]) -> None:
    text = json.dumps(thing).encode()
    for end in range(len(text)):
        with pytest.raises(ValueError):
            read(text[:end])


@pytest.mark.parametrize("text", [b"[]", b"{}{}", b"7", b'{"a" 1}', b'{"items":[{} {}]}', b"\xff"])
def test_what_is_no_list(text: bytes) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_memory_does_not_grow_with_the_list() -> None:
    item = json.dumps(ITEM | {"padding": "x" * 1000}).encode()

    def pieces() -> Iterator[bytes]:
        yield b'{"items":[' + item
        for _ in range(20_000):
            yield b"," + item
        yield b"]}"

    tracemalloc.start()
    try:
        assert sum(map(len, listing.to_caller(pieces()))) > 20_000_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
