"""Times as RFC 3339 writes them, the form of every time in a record and in a query.

Not here: which times there are (coredump_guard.record, selection).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(text: str) -> int:
    """Return the time in microseconds since the epoch. Raises ValueError for anything but RFC 3339.

    datetime.fromisoformat alone takes more: dates without a time, times without an offset, week numbers.
    """
    if _FORM.match(text) is None:
        if _FORM.match(text.replace(" ", "+")):  # so arrives a + that a URL's query does not escape
            raise ValueError("has a space where + belongs; in a URL write %2B for +")
        raise ValueError("is not a time as in 2026-01-31T12:00:00Z")
    try:
        when = datetime.fromisoformat(text.upper())
    except ValueError:  # its words are about Python's types
        raise ValueError("has a number that is out of range") from None
    return (when - _EPOCH) // timedelta(microseconds=1)
