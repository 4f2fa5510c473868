"""When dumps are delivered: in the order of the crashes, retried for ever, in a thread of its own.

A store that blocks holds up this thread and nothing else. Not here: the delivery of one dump (deliver).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from coredump_guard import log
from coredump_guard.config import Config
from coredump_guard.deliver import BrokenDump, deliver
from coredump_guard.spool import Spool

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds between attempts while the store refuses; each wait is twice the one before."""
IDLE_WAIT = 60.0
"""Seconds between looks at the spool when nothing was announced: a doorman alone announces nothing."""


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
        """Deliver everything there is; False if the store stopped taking it."""
        try:
            for dump_id in self._spool.pending():
                if self._stop.is_set():
                    return True
                self._one(dump_id)
        except OSError as error:
            self._failed(error)
            return False
        finally:
            self.progress.current = ""
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
            progress.broken += 1
            reason = error if isinstance(error, BrokenDump) else repr(error)
            log.error(
                "a dump could not be delivered and was set aside", dump=dump_id, path=aside, error=reason
            )
            return
        if progress.error:
            log.info("the store takes dumps again", store=self._config.store)
        progress.delivered, progress.last = progress.delivered + 1, dump_id
        progress.error, progress.failing_since = "", 0.0
        log.info("delivered", dump=dump_id, bytes=record.core.stored_bytes)

    def _failed(self, error: OSError) -> None:
        progress = self.progress
        text = f"{error.strerror or error}"
        if text != progress.error:
            log.warning(
                "the store takes no dumps; they wait in the spool", store=self._config.store, error=text
            )
        progress.failing_since = progress.failing_since or time.time()
        progress.error = text
