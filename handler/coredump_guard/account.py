"""The account: every crash that the kernel announced ends as captured, refused, handed on or missed.

Pure: lines of the journal go in, numbers of one boot come out. Not here: where the lines come from
(connector, journal) and who decides that a crash was missed (accountant).
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coredump_guard.journal import Entry

ENDS = ("captured", "refused", "handed on", "missed")
ANNOUNCED, CARRIED = "announced", "carried"

MAX_PENDING = 8192
"""Announced crashes that are waited for; more than that were announced to no avail."""
_REMEMBERED = 1024
"""Ends whose announcement may still come: a guard that was stopped reads it late."""
_SLACK = 1.0
"""Seconds by which an end may be dated before its crash: the pipe's %t has whole seconds."""


def seconds(text: str) -> float:
    """Read RFC 3339, without a zone as UTC, as seconds since the epoch; raises ValueError."""
    when = datetime.fromisoformat(text[:-1] if text[-1:] in ("Z", "z") else text)
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


class Ledger:
    """The numbers of one boot. PIDs are reused: announcements and ends are matched by PID and time."""

    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self.counts: Counter[str] = Counter()
        """How many lines there were of each event."""
        self._pending: dict[int, list[Entry]] = {}
        self._waiting = 0
        self._early: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._missed: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)

    @property
    def announced(self) -> int:
        """How many crashes there were: what ended without an announcement that reached us counts too."""
        return sum(self.counts[event] for event in ENDS) + self._waiting

    def pending(self) -> Iterator[Entry]:
        """Yield the announced crashes that have not ended."""
        for entries in self._pending.values():
            yield from entries

    def add(self, entry: Entry) -> bool:
        """Take a line in; False if it is an announcement that there is no room to wait for."""
        if entry.boot_id != self.boot_id:
            return True
        if entry.event == ANNOUNCED:
            return self._announce(entry)
        if entry.event == CARRIED:  # the sum of what came before, some of which may be gone
            self.counts = Counter(entry.counts)
            return True
        self.counts[entry.event] += 1
        if entry.event in ENDS:
            self._end(entry)
        return True

    def _announce(self, entry: Entry) -> bool:
        when = _seconds(entry)
        early = next((end for end in self._early if end[0] == entry.pid and end[1] >= when - _SLACK), None)
        if early:
            self._early.remove(early)
            return True
        if self._waiting >= MAX_PENDING:
            return False
        self._pending.setdefault(entry.pid, []).append(entry)
        self._waiting += 1
        return True

    def _end(self, entry: Entry) -> None:
        when = _seconds(entry)
        waiting = self._pending.get(entry.pid)
        if waiting:
            before = [pending for pending in waiting if _seconds(pending) <= when + _SLACK]
            waiting.remove(before[-1] if before else waiting[0])
            self._waiting -= 1
            if not waiting:
                del self._pending[entry.pid]
        elif entry.event != "missed" and (missed := self._missed_before(entry.pid, when)):
            self._missed.remove(missed)  # it was given up too early
            self.counts["missed"] -= 1
        else:
            self._early.append((entry.pid, when))
        if entry.event == "missed":
            self._missed.append((entry.pid, when))

    def _missed_before(self, pid: int, when: float) -> tuple[int, float] | None:
        return next((end for end in self._missed if end[0] == pid and end[1] <= when + _SLACK), None)


def _seconds(entry: Entry) -> float:
    with contextlib.suppress(ValueError):
        return seconds(entry.time)
    return 0.0
