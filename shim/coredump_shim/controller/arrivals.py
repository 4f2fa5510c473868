"""What is done at announcements: the pod's endpoint brought in step, Events told, the announcement removed.

In this order, so that whatever ends the controller in between, the announcement is still there.
Not here: reading announcements (inbox), endpoints (sync), Events' words (notice).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from coredump_guard.quota import Usage
from coredump_shim import beneath
from coredump_shim.catalog import Dump
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.attempt import attempt
from coredump_shim.controller.events import MAX_COUNTED, Events
from coredump_shim.controller.inbox import Announcement, Inbox
from coredump_shim.controller.notice import Notice, crashed, latest, low_space
from coredump_shim.controller.pace import Pace
from coredump_shim.controller.roster import Pod
from coredump_shim.controller.sync import Sync, Synced

log = logging.getLogger(__name__)

RECENT = 3600.0
"""Seconds after which a crash is no news any more: nobody told of it while there was no controller."""


class Arrivals:
    """Works at announcements. A pod that failed is tried again later, and holds up no other."""

    def __init__(
        self,
        root: str,
        inbox: Inbox,
        sync: Sync,
        events: Events,
        acting: Acting,
        pace: Pace,
        quota: int | None,
    ) -> None:
        self._root = root
        self._inbox = inbox
        self._sync = sync
        self._events = events
        self._acting = acting
        self._pace = pace
        self._quota = quota
        """Bytes that a namespace's dumps may take."""
        self.low: Mapping[str, Usage] = {}
        """Namespaces that near it, as the last collection measured them."""

    def round(self, going_on: Callable[[], bool]) -> tuple[int, int]:
        """Work once at what waits; return how many announcements were done, and how many pods failed.

        Raises OSError if the store fails, ApiError if kube-apiserver does as a whole.
        """
        waiting, bad = self._inbox.waiting()
        for name, reason in bad:
            self._put_aside(name, reason)
        done, failed = 0, 0
        for pod, announced in by_pod(waiting).items():
            if not going_on():
                break
            if self._pace.take(pod):
                work = partial(self._pod, pod, announced[:MAX_COUNTED])
                went_well = attempt(self._pace, pod, "pod", work)
                failed += not went_well
                done += went_well and len(announced[:MAX_COUNTED])
        return done, failed

    def _pod(self, pod: Pod, announced: list[Announcement]) -> None:
        if pod[0]:
            synced = self._sync.pod(*pod)
            self._tell(pod, synced, self._dumps(synced, announced))
        else:
            for announcement in announced:
                log.info("dump %s is no pod's; nobody is told of it", announcement.id)
        if not self._acting.dry_run:
            self._inbox.remove(announced)

    def _dumps(self, synced: Synced, announced: list[Announcement]) -> list[Dump]:
        """Return the dumps that are announced and there; one without a readable record is put aside."""
        there = {(dump.container, dump.id): dump for dump in synced.dumps}
        found = []
        for announcement in announced:
            dump = there.get((announcement.container, announcement.id))
            if dump is not None:
                found.append(dump)
            elif self._exists(announcement):
                self._put_aside(announcement.id, "its dump has no readable record")
        return found

    def _put_aside(self, name: str, reason: str) -> None:
        if not self._acting.dry_run:
            self._inbox.put_aside(name, reason)  # its log says so once, also where it cannot be put away
        else:
            self._acting.may(f"put aside announcement {name!r}: {reason}")

    def _exists(self, announcement: Announcement) -> bool:
        place = announcement.namespace, announcement.poduid, announcement.container, announcement.id
        try:
            with beneath.directory(self._root, *place):
                return True
        except OSError as error:
            if error.errno not in beneath.ABSENT:
                raise
            return False

    def _tell(self, pod: Pod, synced: Synced, dumps: list[Dump]) -> None:
        now = self._events.now()
        news = [dump for dump in dumps if latest(dump) >= (now - RECENT) * 1_000_000]
        if news and synced.name:
            notices = crashed(pod[0], synced.name if synced.served else "", news)
            self._events.tell(pod[0], synced.name, pod[1], notices + self._low_space(pod[0], now))

    def _low_space(self, namespace: str, now: float) -> list[Notice]:
        if self._quota is None:
            return []
        # Since then only cores were counted, which is less than all their dumps' files.
        usage = self.low.get(namespace) or Usage(namespace, self._sync.used(namespace), self._quota)
        return [low_space(usage, int(now * 1_000_000))] if usage.nearly_full else []


def by_pod(announced: list[Announcement]) -> dict[Pod, list[Announcement]]:
    """Return announcements by their pod, the pods by their first."""
    pods: dict[Pod, list[Announcement]] = {}
    for announcement in announced:
        pods.setdefault((announcement.namespace, announcement.poduid), []).append(announcement)
    return pods
