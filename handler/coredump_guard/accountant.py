"""The accountant: writes into the journal what the kernel announces, and what nothing came of.

A thread of the guard. Not here: the matching (account) and what a crashed process shows (announced).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from coredump_guard import announced, journal, log, store
from coredump_guard.account import ANNOUNCED, Ledger, seconds
from coredump_guard.capture import boot_id, rfc3339
from coredump_guard.config import Config
from coredump_guard.connector import Announcement, Connector, Unavailable
from coredump_guard.journal import Entry
from coredump_guard.spool import Spool

PAUSE = 1.0
"""Seconds between looks at the journal and at processes that are awaited."""
SETTLE = 5.0
"""Seconds after its process's end that a crash is awaited which the kernel was not going to give us."""
UNEXPLAINED = "the kernel gave no core (its log may say why)"
UNWATCHED = "the guard was not running"


class Accountant:
    """Keeps the account until it is stopped; `in_hand` returns the PIDs whose crashes are with us."""

    def __init__(self, config: Config, in_hand: Callable[[], Collection[int]]) -> None:
        self._config = config
        self._in_hand = in_hand
        self._ledger = Ledger(boot_id())
        self._journal = journal.Follower(config.state)
        self._began = time.time()
        self._connector: Connector | None = None
        self._unavailable = "it has not begun"
        self._lost_at = 0.0
        self._gone: dict[tuple[int, str], float] = {}
        """When each awaited process was first seen to be gone, by time.monotonic."""
        self._settled = 0.0
        self._stop = threading.Event()

    def report(self) -> dict[str, Any]:
        """Return what the running guard knows of the account, for status."""
        return {
            "unavailable": self._unavailable,
            "lost_at": rfc3339(self._lost_at) if self._lost_at else "",
        }

    def stop(self) -> None:
        """End within a second."""
        self._stop.set()

    def run(self) -> None:
        """Account until stopped."""
        self._recover()
        try:
            self._connector = Connector()
            self._unavailable = ""
        except Unavailable as error:
            self._unavailable = str(error)
            log.warning("crashes are not accounted for", reason=error)
        while not self._stop.is_set():
            try:
                self._round()
            except Exception as error:  # an account that is out of order must not end what it accounts for
                log.error("the account is out of order", reason=f"{type(error).__name__}: {error}")
                self._stop.wait(PAUSE)
        if self._connector:
            self._connector.close()

    def _round(self) -> None:
        for announcement in self._announcements():
            try:
                self._announce(announcement)
            except Exception as error:  # the others of a storm are read already, and would be lost with it
                reason = f"{type(error).__name__}: {error}"
                log.error("a crash could not be noted", pid=announcement.pid, reason=reason)
                self._lose()
        if time.monotonic() - self._settled < PAUSE:
            return  # in a storm there is something announced all the time
        self._settled = time.monotonic()
        in_hand = set(self._in_hand())  # before the journal: who is in neither has not ended
        delivered = []
        for entry in self._journal.new():
            if not self._ledger.add(entry):
                self._lose()
            if entry.event == "delivered":
                delivered.append(entry.dump)
        self._claim(delivered)
        self._settle(in_hand)

    def _recover(self) -> None:
        """Take over the account of the guard before."""
        for entry in self._journal.new():
            self._ledger.add(entry)
        self._claim(self._spooled())

    def _claim(self, dump_ids: list[str]) -> None:
        """Write down as captured what a guard captured, or what was salvaged of it, that was killed."""
        for dump_id in filter(store.is_dump_id, dump_ids):
            when, pid = store.crash_of(dump_id)
            for entry in list(self._ledger.pending()):
                crashed = seconds(entry.time)
                if entry.pid == pid and crashed < self._began and crashed <= when + 1:
                    self._append(replace(entry, event="captured", reason="", dump=dump_id))
                    self._gone[entry.pid, entry.time] = time.monotonic()  # until its line is read
                    break

    def _spooled(self) -> list[str]:
        try:
            return Spool(self._config.spool).pending()
        except OSError:  # the guard says it
            return []

    def _append(self, entry: Entry) -> None:
        journal.append(self._config.state, entry)

    def _announcements(self) -> list[Announcement]:
        if self._connector is None:
            self._stop.wait(PAUSE)
            return []
        try:
            found = self._connector.read(PAUSE)
        except Exception:
            self._lose()  # what it had read already
            raise
        if self._connector.lost_at > self._lost_at:
            self._lose()
        return found

    def _lose(self) -> None:
        if not self._lost_at:
            log.warning("more crashes were announced than could be noted; the account may lack some")
        self._lost_at = time.time()

    def _announce(self, announcement: Announcement) -> None:
        doors = (self._config.doorman, self._config.kernel_socket)
        seen = announced.glance(announcement.pid, announcement.time, doors)
        line = Entry(
            rfc3339(announcement.time),
            self._ledger.boot_id,
            ANNOUNCED,
            seen.reason,
            announcement.pid,
            seen.signal,
            seen.executable,
            seen.whose,
        )
        self._append(line)

    def _settle(self, in_hand: Collection[int]) -> None:
        """Declare missed what is awaited in vain."""
        now = time.monotonic()
        pending = {(entry.pid, entry.time): entry for entry in self._ledger.pending()}
        overdue = []
        for key, entry in pending.items():
            if entry.pid in in_hand or announced.is_dying(entry.pid, seconds(entry.time)):
                self._gone.pop(key, None)
            elif now - self._gone.setdefault(key, now) > self._patience(entry):
                overdue.append((key, entry))
        if overdue:
            self._claim(self._spooled())  # a guard salvages in a thread of its own, perhaps after we began
        for key, entry in overdue:
            if now - self._gone[key] > self._patience(entry):
                self._miss(entry)
                self._gone[key] = now  # until its line is read, or, where none can be written, once more
        for key in self._gone.keys() - pending.keys():
            del self._gone[key]

    def _patience(self, entry: Entry) -> float:
        """Return how long an end may take: another doorman, alone, may have the core for so long."""
        return SETTLE if entry.reason else self._config.deadline + SETTLE

    def _miss(self, entry: Entry) -> None:
        watched = seconds(entry.time) >= self._began
        reason = entry.reason or (UNEXPLAINED if watched else UNWATCHED)
        log.warning("a crash was missed", pid=entry.pid, reason=reason, executable=entry.executable)
        self._append(replace(entry, event="missed", reason=reason))
