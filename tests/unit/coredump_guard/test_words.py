"""Numbers and sizes as a person reads them."""

from __future__ import annotations

import pytest

from coredump_guard import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 dumps"), (1, "1 dump"), (2, "2 dumps")])
def test_counts(number: int, text: str) -> None:
    assert words.counted(number, "dump") == text
