"""What becomes of a crash: captured into the spool if it was a pod's, handed on if it was the host's.

Not here: what speaks against a capture (policy).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from coredump_guard import arming, handon, identity, journal, log, metadata
from coredump_guard.arrival import Arrival
from coredump_guard.capture import PROC, boot_id, capture, rfc3339
from coredump_guard.config import Config
from coredump_guard.drain import TooLarge
from coredump_guard.pattern import Crash
from coredump_guard.policy import Policy
from coredump_guard.process import Gone, Process, hold
from coredump_guard.record import Identity, Record
from coredump_guard.verdict import Verdict


@dataclass(frozen=True)
class Outcome:
    """How a crash ended."""

    kind: str
    """captured, refused, handed on, or missed."""
    detail: str = ""
    """Why it was refused or missed, where it was handed on to."""
    whose: str = ""
    """namespace/pod/container, host, or unidentified."""
    executable: str = ""
    record: Record | None = None
    tally: str = ""
    """The id of the dump in which it was only counted."""

    @property
    def dump(self) -> str | None:
        """The id of the dump, if there is one."""
        return self.record.id if self.record else self.tally or None


def conclude(arrival: Arrival, config: Config, policy: Policy) -> Outcome:
    """Deal with one crash and tell the log and the journal how it ended.

    Whatever happens to the crash is its outcome; raises OSError only where that cannot even be written down.
    """
    try:
        outcome = handle(arrival, config, policy)
    except Exception as error:  # the one broad catch: no crash may end the guard
        outcome = Outcome("missed", f"{type(error).__name__}: {error}")
    _tell(arrival.crash, outcome, config)
    return outcome


def _tell(crash: Crash, outcome: Outcome, config: Config) -> None:
    record = outcome.record
    entry = journal.Entry(
        time=rfc3339(crash.time),
        boot_id=boot_id(),
        event=outcome.kind,
        reason=outcome.detail,
        pid=crash.pid,
        signal=record.signal.name if record else "",
        executable=outcome.executable or crash.comm,
        whose=outcome.whose,
        dump=outcome.dump or "",
    )
    journal.append(config.state, entry)
    if not outcome.tally:  # what is only counted would fill the log, as it would the disk
        _log(entry, crash.mode, record)


def _log(entry: journal.Entry, mode: str, record: Record | None) -> None:
    say = log.error if entry.event == "missed" else log.info
    say(
        entry.event,
        whose=entry.whose or None,
        reason=entry.reason or None,
        pid=entry.pid,
        mode=mode,
        dump=entry.dump or None,
        signal=record and record.signal.name,
        bytes=record and record.core.bytes,
        seconds=record and record.capture.seconds,
        truncated=record and record.core.truncated,
    )


def handle(arrival: Arrival, config: Config, policy: Policy) -> Outcome:
    """Deal with one crash; what cannot be looked up or handed on is captured, unnamed, rather than lost.

    Raises OSError if the spool takes nothing at all.
    """
    crash = arrival.crash
    try:
        held = hold(PROC, crash.pid, crash.tid, arrival.pidfd, arrival.core)
    except Gone as error:
        log.warning("a crash could not be looked up", pid=crash.pid, reason=error)
        return _keep(arrival, None, Identity(), config, policy)
    with held:
        owner = _owner(held)
        if owner is None:
            return _host(arrival, held, config, policy)
        return _keep(arrival, held, owner, config, policy)


def _owner(held: Process) -> Identity | None:
    try:
        return identity.identify(held)
    except OSError:
        return Identity()


def _host(arrival: Arrival, held: Process, config: Config, policy: Policy) -> Outcome:
    executable = metadata.executable(held)
    if config.host_crashes == "drop":
        arrival.refuse()
        return Outcome("refused", "[policy] host_crashes = drop", "host", executable)
    if config.host_crashes == "chain":
        try:
            return Outcome("handed on", _hand_on(arrival, held, config), "host", executable)
        except handon.CannotHandOn as error:
            log.warning("a host's crash is kept, it could not be handed on", pid=held.pid, reason=error)
    return _keep(arrival, held, Identity(host=True), config, policy)


def _hand_on(arrival: Arrival, held: Process, config: Config) -> str:
    try:
        before = arming.original(config)
    except (arming.ArmingError, OSError) as error:
        raise handon.CannotHandOn(str(error)) from None
    if arrival.crash.dumpable == 2 and before and before.suid_dumpable == "0":
        arrival.refuse()
        return "nowhere: it changed its ids, and fs.suid_dumpable was 0 before us"
    pattern = before.core_pattern if before else arming.KERNEL_DEFAULT
    return handon.hand_on(arrival, held, pattern, time.monotonic() + config.deadline)


def _keep(arrival: Arrival, held: Process | None, owner: Identity, config: Config, policy: Policy) -> Outcome:
    """Let the policy decide on a crash that is ours, and do as it says."""
    crash, executable = arrival.crash, metadata.executable(held) if held else ""
    verdict = policy.judge(crash, owner, executable)
    try:
        return _follow(verdict, arrival, held, owner, config, policy)
    except TooLarge as error:
        reason = f"[policy] largest_core = {config.largest_core}: the core has {error} bytes"
        verdict = policy.judge(crash, owner, executable, reason)
        return _follow(verdict, arrival, held, owner, config, policy)


def _follow(
    verdict: Verdict,
    arrival: Arrival,
    held: Process | None,
    owner: Identity,
    config: Config,
    policy: Policy,
) -> Outcome:
    executable = metadata.executable(held) if held else ""
    if verdict.tally:
        arrival.refuse()
        return Outcome("refused", verdict.refused or "", _whose(owner), executable, tally=verdict.tally)
    record = None
    try:
        record = capture(arrival, held, owner, config, verdict)
    finally:
        policy.done(verdict, record)
    kind = "refused" if record.refused else "captured"
    return Outcome(kind, record.refused or "", _whose(owner), record.process.executable, record)


def _whose(owner: Identity) -> str:
    if owner.host:
        return "host"
    return f"{owner.namespace}/{owner.pod}/{owner.container}" if owner.complete else "unidentified"
