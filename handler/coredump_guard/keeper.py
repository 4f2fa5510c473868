"""The keeper: while the guard runs and is armed, the kernel's settings stay ours.

Not here: what ours are, and how they are put back (arming).
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from coredump_guard import arming, inotify, log, mountns, sysctl
from coredump_guard.capture import rfc3339
from coredump_guard.config import Config

EVERY = 1.0
"""Seconds between two looks, where inotify says nothing."""
BREATHER = 0.01
"""Seconds between two looks, whatever inotify says."""
AT_ONCE = 3
"""Changes in a row that are repaired at once: one manager's write of three settings is up to three."""
LONGEST_PAUSE = 300.0
CALM = 900.0
"""Seconds without a change after which the next one is the first again; more than the longest pause."""


@dataclass(frozen=True)
class Changes:
    """Changes by others, in a row; times are in seconds of any one clock."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def another(self, now: float) -> Changes:
        """Count a change that is seen now."""
        if self.is_calm(now):
            return Changes(1, now, now)
        return replace(self, count=self.count + 1, last=now)

    def is_calm(self, now: float) -> bool:
        """Whether the last change is so long ago that nobody contends with us."""
        return self.count == 0 or now - self.last >= CALM

    @property
    def due(self) -> float:
        """When the last change is to be repaired: later and later, so that two managers never fight."""
        if self.count <= AT_ONCE:
            return self.last
        return self.last + min(2.0 ** min(self.count - AT_ONCE, 30), LONGEST_PAUSE)

    def contested(self, now: float) -> bool:
        """Whether somebody keeps changing what is ours."""
        return self.count > AT_ONCE and not self.is_calm(now)


class Keeper:
    """A thread that looks and repairs, from `start` to `stop`; it raises nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._changes = Changes()
        self._repairs = 0
        self._last_repair = 0.0
        self._changed_to = ""
        self._pending = False  # a change was counted and is not repaired yet
        self._stop = self._stopping = -1
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._stop, self._stopping = os.pipe2(os.O_CLOEXEC)
        self._thread.start()

    def stop(self) -> None:
        """End; a kernel that does not answer must not keep the guard from ending."""
        os.write(self._stopping, b"x")
        self._thread.join(timeout=5)

    def report(self) -> dict[str, Any]:
        """Return what others did to the settings and what came of it, for status."""
        changes, now = self._changes, time.monotonic()
        contested = None
        if changes.contested(now):
            contested = (
                f"changed {changes.count} times in {changes.last - changes.first:.0f} seconds, "
                f"last to {self._changed_to}"
            )
        return {
            "repairs": self._repairs,
            "last_repair": rfc3339(self._last_repair) if self._repairs else "",
            "changed_to": self._changed_to,
            "contested": contested,
        }

    def _run(self) -> None:
        while not self._ended(0):
            try:
                self._watch()
            except Exception as error:  # also a thread that the system does not allow us: try again
                log.warning("the kernel's settings cannot be watched", error=error)
                self._ended(EVERY)

    def _watch(self) -> None:
        held = mountns.in_init(sysctl.hold)
        try:
            with contextlib.ExitStack() as stack:
                try:
                    events = stack.enter_context(inotify.watching(held.values()))
                except OSError as error:
                    log.info("changes of the kernel's settings are seen within a second only", error=error)
                    events = -1
                while not self._ended(BREATHER):
                    self.look(time.monotonic(), lambda: sysctl.read(held))
                    self._wait(events)
        finally:
            sysctl.release(held)

    def look(self, now: float, read: Callable[[], sysctl.Settings]) -> None:
        """Look once: count what was changed, and repair it when its time has come."""
        found = arming.drift(self._config, read())
        if not found or not arming.is_armed(self._config):
            self._pending = False
            return
        self._changed_to = _escaped(", ".join(found))
        if not self._pending:
            self._pending = True
            self._count(now)
        if now >= self._changes.due:
            self._repair(now)

    def _repair(self, now: float) -> None:
        try:
            repaired = arming.repair(self._config)
        except (arming.ArmingError, OSError) as error:
            log.error("the kernel's settings are not ours and cannot be repaired", error=error)
            self._count(now)  # most likely somebody changed it between our write and our look
            return
        self._pending = False
        if repaired:
            self._repairs += 1
            self._last_repair = time.time()
            log.warning("the kernel's settings were changed, now they are ours again", was=self._changed_to)

    def _count(self, now: float) -> None:
        self._changes = self._changes.another(now)
        if self._changes.contested(now):
            log.error(
                "CONTESTED: somebody keeps changing the kernel's settings, crashes go there meanwhile",
                changed=self._changes.count,
                to=self._changed_to,
                repair_in_seconds=round(self._changes.due - now),
            )

    def _wait(self, events: int) -> None:
        """Wait for the next look: a change we know of and do not repair yet is no reason to hurry."""
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        if events >= 0 and not self._pending:
            poll.register(events, select.POLLIN)
        poll.poll(EVERY * 1000)
        if events >= 0:
            inotify.forget(events)

    def _ended(self, seconds: float) -> bool:
        """Wait for the end for so long, and return whether it has come."""
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _escaped(text: str) -> str:
    """Write another's words so that they can be shown: they may hold anything."""
    return text.encode("unicode_escape").decode("ascii")
