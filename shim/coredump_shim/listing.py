"""A list as it comes from kube-apiserver, changed item by item, so that it is never held whole.

Not here: how an item is changed (rewrite).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

from coredump_shim import rewrite
from coredump_shim.endpoint import Object

_ITEMS: dict[str, Callable[[Object], Object]] = {
    "items": rewrite.to_caller,
    "rows": rewrite.row_to_caller,
}
"""The members of a list or a Table that are long, and what becomes of each of their items."""


def to_caller(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the JSON object that the chunks are, as the caller asked for it. Raises ValueError."""
    text = _Text(chunks)
    text.expect("{")
    before = b"{"
    while text.next() != "}":
        name = text.value()
        text.expect(":")
        yield before + rewrite.encoded(name) + b":"
        if name in _ITEMS and text.next() == "[":
            yield from _array(text, _ITEMS[name])
        else:
            value = text.value()
            yield rewrite.encoded(rewrite.to_caller({name: value})[name])
        if text.next() != "}":
            text.expect(",")
        before = b","
    text.expect("}")
    text.end()
    yield (b"{}" if before == b"{" else b"}") + b"\n"


def _array(text: _Text, change: Callable[[Object], Object]) -> Iterator[bytes]:
    text.expect("[")
    before = b"["
    while text.next() != "]":
        yield before + rewrite.encoded(change(text.value()))
        if text.next() != "]":
            text.expect(",")
        before = b","
    text.expect("]")
    yield b"[]" if before == b"[" else b"]"


class _Text:
    """Text that arrives piece by piece, and is forgotten when it is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._pieces = codecs.iterdecode(chunks, "utf-8")
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next(self) -> str:
        """Return the next character that is no space, without taking it."""
        while True:
            rest = self._text[self._at : self._at + 1]
            if rest and not rest.isspace():
                return rest
            self._at += len(rest)
            if not rest and not self._more():
                raise ValueError("it ends too early")

    def expect(self, char: str) -> None:
        """Take a character."""
        if self.next() != char:
            raise ValueError(f"{char} is missing")
        self._at += 1

    def value(self) -> Any:
        """Take a value; what is behind it must be there, since 12 may be the beginning of 123."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                end = len(self._text)
            if end < len(self._text):
                self._at = end
                return value
            if not self._more():
                raise ValueError("it ends too early")

    def end(self) -> None:
        """See that nothing follows but space."""
        while not self._text[self._at :].strip():
            self._at = len(self._text)
            if not self._more():
                return
        raise ValueError("something follows its end")

    def _more(self) -> bool:
        piece = next(self._pieces, "")
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)
