"""Mutants of valid samples for fuzz runs: the same seed always gives the same inputs.

Not here: what is done with them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

NASTY = (b"", b"\0", b"\n", b"\xff", b"\x1b[2J", b"../", b"%s", b" ", b"\xc2\x85", b"\xed\xa0\x80", b"9" * 40)
"""What broke somebody's parser once: put in wherever, beside the words of the format itself."""

Mutate = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutants(samples: Sequence[bytes], words: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield count inputs: each a sample after one to four mutations, words being the format's own."""
    chance = random.Random(seed)
    words = [*NASTY, *words]
    pool = [*samples, *words]
    for _ in range(count):
        data = bytearray(chance.choice(samples))
        for _ in range(chance.randrange(1, 5)):
            chance.choice(_MUTATIONS)(chance, data, pool if chance.random() < 0.1 else words)
        yield bytes(data)


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(b'\0\xff\x7f\x80 \n":-/[{')


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.randrange(1, 17)]


def _insert(chance: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.choice(words)


def _overwrite(chance: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    at, word = chance.randrange(len(data) + 1), chance.choice(words)
    data[at : at + len(word)] = word


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    part = data[at : at + chance.randrange(1, 65)]
    data[at:at] = part * chance.randrange(1, 9)


_MUTATIONS: tuple[Mutate, ...] = (_flip, _flip, _set, _cut, _remove, _insert, _overwrite, _repeat)
