"""How long dumps are kept and how many: the rules of collection, and the options that set them.

Not here: what is there, and removing it (collect).
"""

from __future__ import annotations

import argparse
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

from coredump_guard import quota

DAY = 86400.0
NEARLY_FULL = quota.NEARLY_FULL
"""The part of a quota from which on people are warned, as the guard does."""

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w)\Z", re.ASCII)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}
_QUANTITY = re.compile(r"(\d{1,15})([kMGTP]|[KMGTP]i)?\Z", re.ASCII)
_NONE = "none"


@dataclass(frozen=True)
class Rules:
    """Times are in seconds, sizes in bytes; None sets no bound."""

    gc_threshold: float = DAY
    """How long a pod is gone before its dumps and endpoint go."""
    max_age: float | None = None
    """How old any dump becomes."""
    namespace_quota: int | None = None
    """What the files of one namespace's dumps may take."""
    unowned_age: float | None = 30 * DAY
    """How old a dump becomes that is no pod's: nobody's end would ever remove it."""


def duration(text: str) -> float:
    """Return seconds of 90s, 30m, 24h, 7d or 2w. Raises ValueError."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"{text!r} must be a number with s, m, h, d or w behind it, such as 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def worded(seconds: float) -> str:
    """Return a duration for people, about as long: 90s, 25h."""
    for suffix, unit in reversed(_UNITS.items()):
        if suffix != "w" and seconds >= 2 * unit:
            return f"{seconds / unit:.0f}{suffix}"
    return f"{seconds:.0f}s"


def size(text: str) -> int:
    """Return bytes of a Kubernetes quantity such as 10Gi. Raises ValueError."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{text!r} must be a size such as 500Mi or 10Gi")
    suffix = match[2] or ""
    base = 1024 if suffix.endswith("i") else 1000
    return int(match[1]) * int(base ** " KMGTP".index(suffix[:1].upper() or " "))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be set."""
    for option, default, form, words in (
        ("--gc-threshold", "24h", "TIME", "dumps and endpoint of a pod go when it is gone for so long"),
        ("--max-age", _NONE, "TIME", "dumps that are older go"),
        ("--unowned-max-age", "30d", "TIME", "dumps of nodes and of containers that nobody could name, too"),
        ("--namespace-quota", _NONE, "SIZE", "the oldest dumps go while those of a namespace take more"),
    ):
        parser.add_argument(option, default=default, metavar=form, help=f"{words} (default: %(default)s)")


def parse(arguments: argparse.Namespace) -> Rules:
    """Return the rules that the options say. Raises ValueError that names the option."""
    return Rules(
        gc_threshold=_value("--gc-threshold", arguments.gc_threshold),
        max_age=_bound("--max-age", arguments.max_age),
        namespace_quota=_quota("--namespace-quota", arguments.namespace_quota),
        unowned_age=_bound("--unowned-max-age", arguments.unowned_max_age),
    )


def older(ids: Sequence[str], limit: float | None, now: float) -> Sequence[str]:
    """Return those of sorted dump ids that are of crashes longer ago than the limit."""
    return () if limit is None else before(ids, now - limit)


def before(ids: Sequence[str], when: float) -> Sequence[str]:
    """Return those of sorted dump ids that are of crashes before a time, in seconds since the epoch."""
    # An id begins with the time of the crash, so that ids and times sort alike.
    return ids[: bisect_left(ids, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(max(0.0, when))))]


def excess(directories: Sequence[tuple[Sequence[str], Sequence[int]]], bound: int) -> list[int]:
    """Return how many dumps must go of each directory until the rest takes no more, the oldest of all first.

    Of each directory the ids, sorted, and the bytes of each dump.
    """
    counts = [0] * len(directories)
    total = sum(sum(sizes) for _, sizes in directories)
    oldest = [(ids[0], at) for at, (ids, _) in enumerate(directories) if ids]
    heapify(oldest)
    while total > bound and oldest:
        _, at = oldest[0]
        ids, sizes = directories[at]
        total -= sizes[counts[at]]
        counts[at] += 1
        if counts[at] < len(ids):
            heapreplace(oldest, (ids[counts[at]], at))
        else:
            heappop(oldest)
    return counts


def _value(option: str, text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _bound(option: str, text: str) -> float | None:
    if text == _NONE:
        return None
    seconds = _value(option, text)
    if not seconds:
        raise ValueError(f"{option}: 0 would remove every dump at once; say {_NONE} for no bound")
    return seconds


def _quota(option: str, text: str) -> int | None:
    if text == _NONE:
        return None
    try:
        bound = size(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}, or {_NONE}") from None
    if not bound:
        raise ValueError(f"{option}: 0 would remove every dump at once; say {_NONE} for no bound")
    return bound
