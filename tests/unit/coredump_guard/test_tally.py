"""A tally: one record for all crashes of a loop that are only counted."""

from __future__ import annotations

from dataclasses import replace

from coredump_guard import store, tally
from coredump_guard.damping import Death
from coredump_guard.pattern import Crash
from coredump_guard.record import Process, Record, Signal

from .conftest import IDENTITY


def crash(when: float, pid: int = 4711) -> Crash:
    return Crash(pid, pid, 11, when, comm="app")


def test_it_says_what_how_often_and_when() -> None:
    record = tally.begin(crash(1_700_000_000), IDENTITY, "/bin/app", "crash loop: x", "node-1")
    for second in (5, 9, 7):  # the clock was set back
        record = tally.count(
            record, crash(1_700_000_000 + second, second), "/bin/app", f"crash loop: {second}"
        )
    assert (record.crashes, record.refused, record.core.bytes) == (4, "crash loop: 7", 0)
    assert (record.time, record.until) == ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:13:29.000000Z")
    assert (record.identity, record.process.executable) == (IDENTITY, "/bin/app")
    assert (record.signal.name, record.node) == ("SIGSEGV", "node-1")
    assert Record.from_json(record.to_json()) == record


def test_it_tells_of_its_last_crash() -> None:
    first = tally.begin(crash(1_700_000_000), IDENTITY, "/bin/app", "crash loop: x", "node-1")
    last = replace(crash(1_700_000_009, 1), signal=6, comm="sh")
    record = tally.count(first, last, "/bin/sh", "crash loop: x", Death("/bin/sh", 11, 7, 8))
    assert record.signal == Signal(6, "SIGABRT")  # what was announced is better than what is likely
    assert record.process == Process(1, 1, uid=7, gid=8, comm="sh", executable="/bin/sh")


def test_its_id_stays_and_is_no_dumps() -> None:
    first = tally.begin(crash(1_700_000_000), IDENTITY, "/bin/app", "crash loop: x", "node-1")
    assert tally.count(first, crash(1_700_000_009, 1), "/bin/app", "crash loop: x").id == first.id
    assert store.is_dump_id(first.id)
    assert first.id != store.dump_id(1_700_000_000, "/bin/app", 4711, first.boot_id, 0)
