"""Times in RFC 3339."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import rfc3339


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T02:00:00.5+02:00", 500_000),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2026-01-31T12:00:00.123456Z", 1769860800123456),
        ("2026-01-31T12:00:00.123456789Z", 1769860800123456),
    ],
)
def test_reads(text: str, expected: int) -> None:
    assert rfc3339.microseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "20260131T120000Z",
            "2026-W05",
            "2026-02-30T00:00:00Z",
        ),
        *("2026-01-31 12:00:00Z", "2026-01-31T12:00:00Z\n", "0001-01-01T00:00:00+99:99"),
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        rfc3339.microseconds(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-31T12:00:00+99:99", "has a number that is out of range"),
        ("2026-02-30T12:00:00Z", "has a number that is out of range"),
        ("2026-01-31T12:00:00 02:00", "has a space where + belongs; in a URL write %2B for +"),
        ("2026-01-31 12:00:00Z", "is not a time as in 2026-01-31T12:00:00Z"),
    ],
)
def test_says_what_is_wrong_in_plain_words(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        rfc3339.microseconds(text)
    assert str(caught.value) == said


@given(st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})"))
def test_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(rfc3339.microseconds(text), int)
