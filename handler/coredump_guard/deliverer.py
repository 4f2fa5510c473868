"""When dumps are delivered: in the order of the crashes, retried for ever, in a thread of its own.

A store that blocks holds up this thread and nothing else. Not here: the delivery of one dump (deliver).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass

from coredump_guard import log
from coredump_guard.config import Config
from coredump_guard.deliver import BrokenDump, deliver, tidy
from coredump_guard.spool import Spool

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds between attempts while the store refuses; each wait is twice the one before."""
IDLE_WAIT = 60.0
"""Seconds between looks at the spool when nothing was announced: a doorman alone announces nothing."""
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO, errno.ETIMEDOUT}
"""Errors of the store as a whole; any other may be of one path in it and holds up only what goes there."""


@dataclass
class Progress:
    """What a person wants to know of deliveries; times in seconds since the epoch."""

    delivered: int = 0
    broken: int = 0
    last: str = ""
    current: str = ""
    current_since: float = 0.0
    failing_since: float = 0.0
    error: str = ""


class Deliverer:
    """Delivers what is in the spool until it is stopped."""

    def __init__(self, config: Config) -> None:
        self.progress = Progress()
        self._config = config
        self._spool = Spool(config.spool)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._untidy = True
        self._refused: dict[str, str] = {}
        """Dumps that the store did not take when they were last tried, and what it said."""

    def wake(self) -> None:
        """Say that there is something new in the spool."""
        self._wake.set()

    def stop(self) -> None:
        """End after the dump at hand."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Deliver until stopped."""
        wait = FIRST_WAIT
        while not self._stop.is_set():
            self._wake.clear()
            if self._round():
                wait = FIRST_WAIT
                self._wake.wait(IDLE_WAIT)
            else:
                self._stop.wait(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    def _round(self) -> bool:
        """Deliver everything there is; False if some of it was refused and is to be tried again."""
        try:
            pending = self._spool.pending()
            for gone in self._refused.keys() - set(pending):
                del self._refused[gone]
            self._tidy()
            for dump_id in pending:
                if self._stop.is_set():
                    return True
                if not self._attempt(dump_id):
                    return False
        except OSError as error:  # of the spool
            self._failed("", error)
            return False
        finally:
            self.progress.current = ""
        if self._refused:
            return False
        self.progress.error, self.progress.failing_since = "", 0.0
        return True

    def _tidy(self) -> None:
        """Remove what interrupted and broken deliveries left in the store, as soon as that is possible."""
        if self._untidy:
            with contextlib.suppress(OSError):  # a store that is away; what is wrong with it, deliveries say
                tidy(self._config, set(self._spool.pending()))
                self._untidy = False

    def _attempt(self, dump_id: str) -> bool:
        """Deliver one dump if it can be; False if there is no point in trying others now."""
        try:
            self._one(dump_id)
        except OSError as error:
            self._failed(dump_id, error)
            return error.errno not in _HOPELESS and os.path.isdir(self._config.store)
        return True

    def _one(self, dump_id: str) -> None:
        progress = self.progress
        progress.current, progress.current_since = dump_id, time.time()
        try:
            record = deliver(self._spool, dump_id, self._config)
        except OSError:
            raise
        except Exception as error:  # BrokenDump, or a bug of ours: one dump never holds up the others
            aside = self._spool.set_aside(dump_id)
            self._refused.pop(dump_id, None)
            self._untidy = True
            self._tidy()
            progress.broken += 1
            reason = error if isinstance(error, BrokenDump) else repr(error)
            log.error(
                "a dump could not be delivered and was set aside", dump=dump_id, path=aside, error=reason
            )
            return
        self._refused.pop(dump_id, None)
        if progress.error and not self._refused:
            log.info("the store takes dumps again", store=self._config.store)
            progress.error, progress.failing_since = "", 0.0
        progress.delivered, progress.last = progress.delivered + 1, dump_id
        log.info("delivered", dump=dump_id, bytes=record.core.stored_bytes)

    def _failed(self, dump_id: str, error: OSError) -> None:
        progress = self.progress
        text = f"{error.strerror or error}"
        if text != progress.error and text not in self._refused.values():
            log.warning(
                "the store takes no dumps; they wait in the spool", store=self._config.store, error=text
            )
        progress.failing_since = progress.failing_since or time.time()
        progress.error = text
        if dump_id:
            self._refused[dump_id] = text
