"""One crash becomes one dump: what was read before the drain, the core, and a record of both."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from coredump_guard import capture as module
from coredump_guard import deflate, store
from coredump_guard.arrival import Arrival
from coredump_guard.capture import capture, rfc3339
from coredump_guard.config import Config
from coredump_guard.damping import Grant
from coredump_guard.drain import TooLarge
from coredump_guard.pattern import Crash
from coredump_guard.process import Process
from coredump_guard.record import Core, Record
from coredump_guard.socketdoor import SocketArrival
from coredump_guard.spool import Spool
from coredump_guard.verdict import Verdict

from .conftest import IDENTITY, fail_at

SIGINFO = (
    struct.pack("<III", 5, 128, 0x53494749)
    + b"CORE\0\0\0\0"
    + struct.pack("<iii4xQ", 7, 0, 2, 0xABC)
    + bytes(104)
)
HEAD = (
    b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQI6H", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
)
CORE = HEAD + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(SIGINFO), 0, 1) + SIGINFO
CRASH = Crash(4711, 4712, 11, 1_700_000_000.25, comm="app")


@contextmanager
def arrival(crash: Crash = CRASH, core: bytes = CORE) -> Iterator[Arrival]:
    read_end, write_end = os.pipe()

    def produce() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "wb", buffering=0) as pipe:
            pipe.write(core)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    arrived = Arrival(crash, read_end)
    try:
        yield arrived
    finally:
        arrived.close()
        producer.join(timeout=30)


def stored(spool: Spool, record: Record) -> bytes:
    path = Path(spool.path(record.id))
    return (
        gzip.decompress((path / store.CORE).read_bytes())
        if deflate.FAST
        else (path / store.RAW_CORE).read_bytes()
    )


def test_a_dump_of_a_living_process(config: Config, spool: Spool) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            crash = replace(CRASH, pid=process.pid, tid=process.pid)
            with arrival(crash) as arrived, Process("/proc", process.pid) as held:
                record = capture(arrived, held, IDENTITY, config)
                assert arrived.core == -1  # the process was let go
        finally:
            process.kill()
    assert spool.pending() == [record.id]
    assert spool.record(record.id) == record
    assert stored(spool, record) == CORE
    assert (record.identity, record.node, record.time) == (IDENTITY, "node-1", "2023-11-14T22:13:20.250000Z")
    assert (record.process.pid, record.process.cmdline) == (process.pid, ["sleep", "60"])
    assert (record.core.bytes, record.core.truncated) == (len(CORE), None)
    assert record.capture.mode == "pipe"
    assert record.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    files = ["auxv", "cgroup", "limits", "maps", "mountinfo", "status"]
    assert record.files == files
    core = store.CORE if deflate.FAST else store.RAW_CORE
    assert sorted(os.listdir(spool.path(record.id))) == sorted([*files, core, store.INFO])


def test_a_process_that_was_gone_keeps_its_core(config: Config, spool: Spool) -> None:
    with arrival() as arrived:
        record = capture(arrived, None, IDENTITY, config)
    assert stored(spool, record) == CORE
    assert (record.process.pid, record.process.tid, record.process.comm) == (4711, 4712, "app")
    assert record.files == []
    assert store.is_dump_id(record.id)


@pytest.mark.parametrize(
    ("announced", "core", "expected"),
    [
        (11, CORE, (11, "SIGSEGV", 2, "0xabc")),
        (None, CORE, (7, "SIGBUS", 2, "0xabc")),
        (None, b"", (0, "signal 0", None, None)),
        (6, b"", (6, "SIGABRT", None, None)),
        (40, b"", (40, "signal 40", None, None)),
    ],
)
def test_the_signal_is_the_announced_one_or_the_cores(
    config: Config, spool: Spool, announced: int | None, core: bytes, expected: tuple[object, ...]
) -> None:
    with arrival(replace(CRASH, signal=announced), core) as arrived:
        signal = capture(arrived, None, IDENTITY, config).signal
    assert (signal.number, signal.name, signal.code, signal.address) == expected


def test_a_core_that_was_cut_says_so(config: Config, spool: Spool) -> None:
    with arrival(core=CORE[:-10]) as arrived:
        record = capture(arrived, None, IDENTITY, config)
    assert record.core.truncated == f"the kernel sent {len(CORE) - 10} of {len(CORE)} bytes"
    assert stored(spool, record) == CORE[:-10]


@pytest.mark.parametrize("comm", ["../../../etc/passwd", "a\nb", "..", "", "\udcff", "x" * 300])
def test_cve_2021_3710_a_name_is_no_path(config: Config, spool: Spool, comm: str) -> None:
    with arrival(replace(CRASH, comm=comm)) as arrived:
        record = capture(arrived, None, IDENTITY, config)
    assert spool.pending() == [record.id]
    assert record.process.comm == spool.record(record.id).process.comm == comm


@pytest.mark.parametrize(("name", "call"), [("mkdir", 1), ("fsync", 1), ("fsync", 2), ("rename", 1)])
def test_a_spool_that_takes_nothing_raises_and_leaves_nothing(
    config: Config, spool: Spool, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched, arrival() as arrived:
        fail_at(patched, name, call)
        with pytest.raises(OSError, match="Input/output"):
            capture(arrived, None, IDENTITY, config)
    assert spool.pending() == os.listdir(f"{spool.root}/incoming") == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("when", [0.0, 1_700_000_000.123456, 4_000_000_000.5])
def test_rfc3339(when: float) -> None:
    text = rfc3339(when)
    assert text.endswith("Z")
    assert len(text) == len("2023-11-14T22:13:20.000000Z")
    assert datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() == pytest.approx(when, abs=1e-6)


def test_the_boots_id_is_the_kernels() -> None:
    assert len(module.boot_id()) == 36


def test_a_refused_crash_is_a_record_and_the_process_is_let_go(config: Config, spool: Spool) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with arrival(replace(CRASH, pid=process.pid)) as arrived, Process("/proc", process.pid) as held:
                record = capture(arrived, held, IDENTITY, config, Verdict("[policy] deny = demo: no"))
                assert arrived.core == -1
        finally:
            process.kill()
    assert spool.record(record.id) == record
    assert (record.refused, record.core) == ("[policy] deny = demo: no", Core(0, 0))
    assert (record.signal.name, record.process.cmdline) == ("SIGSEGV", ["sleep", "60"])
    assert not {store.CORE, store.RAW_CORE} & set(os.listdir(spool.path(record.id)))


def test_a_core_that_proves_too_large_leaves_nothing(config: Config, spool: Spool) -> None:
    with arrival() as arrived, pytest.raises(TooLarge, match=str(len(CORE))):
        capture(arrived, None, IDENTITY, replace(config, largest_core=100))
    assert spool.pending() == os.listdir(f"{spool.root}/incoming") == []


def test_what_is_known_is_there_before_the_core_is(
    config: Config, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Record] = []

    def look(*_: object, **__: object) -> None:
        (draft,) = Path(spool.root, "incoming").iterdir()
        seen.append(Record.from_json((draft / store.INFO).read_bytes()))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "drain", look)
    with arrival() as arrived, pytest.raises(OSError, match="Input/output"):
        capture(arrived, None, IDENTITY, config)
    assert (seen[0].identity, seen[0].signal.name) == (IDENTITY, "SIGSEGV")
    assert seen[0].core == Core(0, 0, "the capture was cut off when its guard died")


def test_it_takes_the_place_of_another_that_waits(config: Config, spool: Spool) -> None:
    """Where that one was to take a third one's place in the store, this one does."""
    ids: list[str] = []
    for pid, replaces in ((1, "in-the-store"), (2, ""), (3, "gone")):
        verdict = Verdict(grant=Grant(ids[-1] if pid == 2 else replaces))
        with arrival(replace(CRASH, pid=pid)) as arrived:
            record = capture(arrived, None, IDENTITY, config, verdict)
        ids.append(record.id)
        assert record.replaces == ("gone" if pid == 3 else "in-the-store")
    assert spool.pending() == sorted(ids[1:])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "the process died before it gave its core"),
        (struct.pack("=IIQ", 16, 16, 0), "the kernel gave no core: the kernel offers 0x0, 0x9 is needed"),
    ],
)
def test_a_process_that_died_before_its_core_leaves_what_is_known(
    config: Config, spool: Spool, said: bytes, reason: str
) -> None:
    ours, kernels = socket.socketpair()
    with kernels, closing(SocketArrival(replace(CRASH, mode="socket"), ours.detach())) as arrived:
        kernels.sendall(said)
        kernels.shutdown(socket.SHUT_WR)
        record = capture(arrived, None, IDENTITY, config)
    assert spool.record(record.id) == record
    assert (record.core.bytes, record.core.truncated) == (0, reason)
    assert stored(spool, record) == b""


def test_a_refused_process_that_died_leaves_its_record(config: Config, spool: Spool) -> None:
    ours, kernels = socket.socketpair()
    kernels.close()
    with closing(SocketArrival(replace(CRASH, mode="socket"), ours.detach())) as arrived:
        record = capture(arrived, None, IDENTITY, config, Verdict("[policy] deny = demo: no"))
    assert spool.record(record.id) == record


def test_a_dump_stands_though_the_one_it_replaces_cannot_be_removed(
    config: Config, spool: Spool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with arrival() as arrived:
        old = capture(arrived, None, IDENTITY, config)
    with monkeypatch.context() as patched, arrival(replace(CRASH, pid=2)) as arrived:
        fail_at(patched, "rmdir", 1)
        record = capture(arrived, None, IDENTITY, config, Verdict(grant=Grant(old.id)))
    assert spool.record(record.id) == record
    assert f"a dump that was replaced could not be removed dump={old.id}" in capsys.readouterr().err
