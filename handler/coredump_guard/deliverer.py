"""When dumps are delivered: in the order of the crashes, retried for ever, in a thread of its own.

A store that blocks holds up this thread and nothing else. Not here: the delivery of one dump (deliver).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass, field, replace

from coredump_guard import debugstore, journal, log, quota, store
from coredump_guard import deliver as delivering
from coredump_guard.capture import boot_id, rfc3339
from coredump_guard.config import Config
from coredump_guard.deliver import Delivery, Vanished, deliver
from coredump_guard.journal import Entry
from coredump_guard.pickup import BrokenDump, LocalError
from coredump_guard.record import Record
from coredump_guard.spool import Spool

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds between attempts while the store refuses; each wait is twice the one before."""
IDLE_WAIT = 60.0
"""Seconds between looks at the spool when nothing was announced: a doorman alone announces nothing."""
TIDYING = "tidying up"
"""Stands for a dump's id while what interrupted deliveries left is removed."""
_HOPELESS = {
    errno.ENODEV,
    errno.EROFS,
    errno.ESTALE,
    errno.EIO,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
}
"""Errors of the store as a whole; any other may be of one path or one size and holds up only that dump."""


@dataclass
class Progress:
    """What a person wants to know of deliveries; times in seconds since the epoch."""

    delivered: int = 0
    broken: int = 0
    evicted: int = 0
    """Dumps that newer ones of their crash loop replaced in the store."""
    last: str = ""
    current: str = ""
    """The dump at hand; a store that hangs shows by how long it is."""
    current_since: float = 0.0
    failing_since: float = 0.0
    error: str = ""
    """What the store says, or a dump's place in it."""
    spool_error: str = ""
    """What the node's own disk says of dumps that are to be delivered."""
    nearly_full: dict[str, str] = field(default_factory=dict)
    """Namespaces at 90 per cent of their quota or beyond, and a sentence about each."""
    namesakes: list[str] = field(default_factory=list)
    """Other machines that deliver by this node's name."""


def _now() -> float:
    return time.monotonic()


class Deliverer:
    """Delivers what is in the spool until it is stopped."""

    def __init__(self, config: Config) -> None:
        self.progress = Progress()
        self._config = config
        self._spool = Spool(config.spool)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._untidy = True
        self._executables_error = ""
        self._refused: dict[str, str] = {}
        """Dumps that could not be delivered when they were last tried, and why."""
        self._wait = FIRST_WAIT
        self._retry = 0.0
        """When they are tried again, by time.monotonic()."""

    def wake(self) -> None:
        """Say that there is something new in the spool."""
        self._wake.set()

    def stop(self) -> None:
        """End after the dump at hand."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Deliver until stopped; what is refused waits longer each time, what is new is tried at once."""
        self._wait = FIRST_WAIT
        while not self._stop.is_set():
            self._wake.clear()
            now = _now()
            due = now >= self._retry
            away = not self._round(due)
            if not (self._refused or away):
                self._wait, self._retry = FIRST_WAIT, 0.0
                self._wake.wait(IDLE_WAIT)
                continue
            if due:
                self._retry = now + self._wait
                self._wait = min(self._wait * 2, LONGEST_WAIT)
            if away:
                self._stop.wait(self._retry - now)
            else:
                self._wake.wait(min(self._retry - now, IDLE_WAIT))

    def _round(self, due: bool) -> bool:
        """Deliver what there is, if due also what was refused; False if there is no point in going on."""
        try:
            pending = self._spool.pending()
            for gone in self._refused.keys() - set(pending):
                del self._refused[gone]
            self._tidy()
            delivered = self.progress.delivered
            for dump_id in pending:
                if self._stop.is_set():
                    return True
                if (due or dump_id not in self._refused) and not self._attempt(dump_id):
                    return False
            if delivered < self.progress.delivered:
                self._look_for_namesakes()
            self._executables()
        except OSError as error:  # of the spool
            self._failed("", error)
            return False
        except Exception as error:  # a bug of ours must not end delivery
            log.error("delivery is out of order", reason=f"{type(error).__name__}: {error}")
            return False
        finally:
            self.progress.current = ""
        if not self._refused:
            self.progress.error, self.progress.failing_since, self.progress.spool_error = "", 0.0, ""
        return True

    def _tidy(self) -> None:
        """Remove what interrupted and broken deliveries left in the store, as soon as that is possible."""
        if self._untidy:
            self.progress.current, self.progress.current_since = TIDYING, time.time()
            with contextlib.suppress(OSError):  # a store that is away; what is wrong with it, deliveries say
                delivering.tidy(self._config, set(self._spool.pending()))
                self._untidy = False

    def _executables(self) -> None:
        """Deliver executables and libraries; whatever is wrong with them holds up no dump."""
        error = ""
        try:
            debugstore.deliver(self._config)
        except Exception as failure:  # a bug of ours, too, is no reason for a dump to wait
            error = getattr(failure, "strerror", None) or repr(failure)
            if error != self._executables_error:
                log.warning("executables wait in the spool", store=self._config.store, error=error)
        self._executables_error = error

    def _look_for_namesakes(self) -> None:
        with contextlib.suppress(OSError):
            found = delivering.namesakes(self._config)
            if set(found) - set(self.progress.namesakes):
                log.warning(
                    "another machine delivers by this node's name; give each its own ([guard] node)",
                    node=self._config.node,
                    seen=" ".join(found),
                )
            self.progress.namesakes = found

    def _attempt(self, dump_id: str) -> bool:
        """Deliver one dump if it can be; False if there is no point in trying others now."""
        try:
            self._one(dump_id)
        except OSError as error:
            self._failed(dump_id, error)
            mine = isinstance(error, (LocalError, quota.Busy))
            return mine or (error.errno not in _HOPELESS and os.path.isdir(self._config.store))
        return True

    def _one(self, dump_id: str) -> None:
        self.progress.current, self.progress.current_since = dump_id, time.time()
        try:
            delivery = deliver(self._spool, dump_id, self._config)
        except OSError:
            raise
        except Vanished:
            self._refused.pop(dump_id, None)
            self._untidy = True
            self._tidy()
        except Exception as error:  # BrokenDump, or a bug of ours: one dump never holds up the others
            self._set_aside(dump_id, str(error) if isinstance(error, BrokenDump) else repr(error))
        else:
            self._delivered(dump_id, delivery)

    def _set_aside(self, dump_id: str, reason: str) -> None:
        try:
            aside = self._spool.set_aside(dump_id)
        except OSError as error:
            raise LocalError(error.errno, error.strerror, error.filename) from error
        self._refused.pop(dump_id, None)
        self._untidy = True
        self._tidy()
        self.progress.broken += 1
        log.error("a dump could not be delivered and was set aside", dump=dump_id, path=aside, error=reason)
        self._note("set aside", dump_id, None, reason)

    def _delivered(self, dump_id: str, delivery: Delivery) -> None:
        progress, record = self.progress, delivery.record
        self._refused.pop(dump_id, None)
        if progress.error and not self._refused:
            log.info("the store takes dumps again", store=self._config.store)
            progress.error, progress.failing_since = "", 0.0
        if delivery.superseded:
            self.wake()
        progress.delivered, progress.last = progress.delivered + 1, dump_id
        log.info("delivered", dump=dump_id, bytes=record.core.stored_bytes, refused=record.refused)
        self._note("delivered", dump_id, record, record.refused or "")
        if delivery.evicted:
            progress.evicted += 1
            log.info("evicted", dump=delivery.evicted.id, by=dump_id)
            self._note("evicted", delivery.evicted.id, delivery.evicted, f"replaced by {dump_id}")
        if delivery.usage:
            self._measure(delivery.usage)

    def _measure(self, usage: quota.Usage) -> None:
        """Warn once when a namespace comes near its quota."""
        known = self.progress.nearly_full.pop(usage.namespace, None)
        if usage.nearly_full:
            self.progress.nearly_full[usage.namespace] = str(usage)
            if known is None:
                log.warning("the store's quota is nearly used up", usage=usage)

    def _note(self, event: str, dump_id: str, record: Record | None, reason: str = "") -> None:
        entry = Entry(rfc3339(time.time()), boot_id(), event, reason, dump=dump_id)
        if record:
            entry = replace(
                entry,
                pid=record.process.pid,
                signal=record.signal.name,
                executable=record.process.executable,
                whose=_whose(record),
                place=store.directory(record.identity, record.node) if event == "delivered" else "",
            )
        journal.append(self._config.state, entry)

    def _failed(self, dump_id: str, error: OSError) -> None:
        progress = self.progress
        text = f"{error.strerror or error}"
        known = text in (progress.error, progress.spool_error, *self._refused.values())
        if dump_id:
            self._refused[dump_id] = text
        if isinstance(error, LocalError) or not dump_id:
            progress.spool_error = text
            if not known:
                log.error("dumps in the spool cannot be delivered", spool=self._config.spool, error=text)
        elif isinstance(error, quota.Busy):
            log.info("a dump has to wait for other nodes", dump=dump_id, reason=text)
        else:
            progress.failing_since = progress.failing_since or time.time()
            progress.error = text
            if not known:
                log.warning(
                    "the store takes no dumps; they wait in the spool", store=self._config.store, error=text
                )


def _whose(record: Record) -> str:
    owner = record.identity
    if owner.complete:
        return f"{owner.namespace}/{owner.pod}/{owner.container}"
    return "host" if owner.host else "unidentified"
