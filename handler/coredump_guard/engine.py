"""What becomes of a crash: captured into the spool if it was a pod's, handed on if it was the host's."""

from __future__ import annotations

import time
from dataclasses import dataclass

from coredump_guard import arming, handon, identity, log
from coredump_guard.arrival import Arrival
from coredump_guard.capture import PROC, capture
from coredump_guard.config import Config
from coredump_guard.process import Gone, Process, hold
from coredump_guard.record import Identity, Record


@dataclass(frozen=True)
class Outcome:
    """How a crash ended."""

    kind: str
    """captured, or handed on."""
    detail: str = ""
    record: Record | None = None

    @property
    def dump(self) -> str | None:
        """The id of the dump, if there is one."""
        return self.record.id if self.record else None


def handle(arrival: Arrival, config: Config) -> Outcome:
    """Deal with one crash; what cannot be looked up or handed on is captured, unnamed, rather than lost.

    Raises OSError if the spool takes nothing at all.
    """
    crash = arrival.crash
    try:
        held = hold(PROC, crash.pid, crash.tid, arrival.pidfd, arrival.core)
    except Gone as error:
        log.warning("a crash could not be looked up", pid=crash.pid, reason=error)
        return _captured(capture(arrival, None, Identity(), config))
    with held:
        owner = _owner(held)
        if owner is None:
            try:
                return Outcome("handed on", _hand_on(arrival, held, config))
            except handon.CannotHandOn as error:
                log.warning("a host's crash is kept, it could not be handed on", pid=crash.pid, reason=error)
                owner = Identity()
        return _captured(capture(arrival, held, owner, config))


def _owner(held: Process) -> Identity | None:
    try:
        return identity.identify(held)
    except OSError:
        return Identity()


def _hand_on(arrival: Arrival, held: Process, config: Config) -> str:
    try:
        before = arming.original(config)
    except (arming.ArmingError, OSError) as error:
        raise handon.CannotHandOn(str(error)) from None
    pattern = before.core_pattern if before else arming.KERNEL_DEFAULT
    return handon.hand_on(arrival, held, pattern, time.monotonic() + config.deadline)


def _captured(record: Record) -> Outcome:
    owner = record.identity
    whose = f"{owner.namespace}/{owner.pod}/{owner.container}" if owner.complete else "unidentified"
    return Outcome("captured", whose, record)
