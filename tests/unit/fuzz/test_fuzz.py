"""Fuzz runs, 100,000 mutants each, of everything that parses what somebody hostile may have written.

Each target is a function of one input that checks what came out of it, and raises if that breaks a promise:
no exception but the documented one, no path that leaves its root. Memory is measured on part of the inputs,
since measuring takes longer than parsing.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from coredump_guard import config, container, elfcore, journal, logtail, metadata, modules, pattern, store
from coredump_guard.record import (
    Capture,
    Core,
    Identity,
    Module,
    Process,
    Record,
    RecordError,
    Signal,
    Thread,
)
from tests.support.mutation import mutants

RUNS = 100_000
MEASURED = 300
SEED = int(os.environ.get("COREDUMP_GUARD_FUZZ_SEED", "4711"))
MEMORY = 2 << 20
"""Bytes that parsing one of these inputs, of some kilobytes, may take at most."""

UID, CID = "3c0f86ab-9b0e-4a5b-8b55-6d2f2d0a5f01", "c0ffee" + "0" * 58
SLICE = UID.replace("-", "_")


@dataclass(frozen=True)
class Target:
    name: str
    samples: Sequence[bytes]
    words: Sequence[bytes]
    check: Callable[[bytes], None]


def stays_below(path: str) -> None:
    assert not path.startswith("/"), path
    assert len(path) < 1024, path
    assert all(part not in ("", ".", "..") for part in path.split("/")), path
    assert path.isprintable(), path


def argv(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        crash = pattern.parse_arguments(data.decode("utf-8", "surrogateescape").split("\0"))
        assert 0 <= crash.pid < 10**20
        name = store.dump_id(1.0, crash.comm, crash.pid, "boot", 1)
        assert store.is_dump_id(name)
        stays_below(name)


def cgroup(data: bytes) -> None:
    found = container.parse(data.decode("utf-8", "replace"))
    if found is not None:
        assert store.is_poduid(found.poduid)
        assert found.container_id == "" or store.is_poduid(found.container_id)
        stays_below(store.directory(Identity(poduid=found.poduid, container_id=found.container_id), "n"))


def record(data: bytes) -> None:
    with contextlib.suppress(RecordError):
        found = Record.from_json(data)
        stays_below(store.directory(found.identity, found.node))
        assert Record.from_json(found.to_json()) == found


def core_head(data: bytes) -> None:
    assert 0 <= elfcore.wanted(data) <= elfcore.HEAD_LIMIT
    head = elfcore.parse(data)
    assert head.expected_bytes is None or head.expected_bytes >= 0
    assert head.address is None or 0 <= head.address < 1 << 64


def stat_of_a_process(data: bytes) -> None:
    assert metadata.start_time(data) >= 0


def log_tail(data: bytes) -> None:
    kept = logtail.last_lines(data, 200)
    assert len(kept) <= 200 + 1, kept
    assert not kept or kept.endswith(b"\n"), kept


def maps(data: bytes) -> None:
    for module in modules.mapped(data, "/bin/app"):
        assert module.path.startswith("/")
        assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", module.range)


def program(data: bytes) -> None:
    taken = 0

    def read(at: int, size: int) -> bytes:
        nonlocal taken
        taken += size
        return data[at : at + size] if at >= 0 else b""

    for in_memory in (False, True):
        found = modules.build_id(read, in_memory=in_memory)
        assert found is None or len(found) <= 2 * modules.MAX_BUILD_ID
    assert taken <= 2 * (modules.HEADERS + 2 * modules.MAX_NOTES)


RECORD = Record(
    id="20260131T120000Z-app-4711-0123abcd",
    time="2026-01-31T12:00:00.000000Z",
    node="node-1",
    boot_id="6b7c1a52-8f3d-4b0e-9f60-0d9f6f1f2a11",
    kernel="6.18.0",
    identity=Identity("demo", "web", UID, "app", CID, "image:1", 0),
    process=Process(4711, 4711, 1, 0, 0, "app", "/bin/app", ["app", "-v"], 1),
    signal=Signal(11, "SIGSEGV", 1, "0x0"),
    core=Core(1, 2),
    capture=Capture("pipe", 0.1, "0.1.0"),
    threads=[Thread(4711, "app")],
    modules=[Module("/bin/app", "ab" * 20, "0x400000")],
    files=["maps"],
)

ELF = bytes.fromhex(
    "7f454c4602010100000000000000000004003e0001000000000000000000000040000000000000000000000000000000"
    "00000000400038000200000000000000"
)
"""A core's header with two program headers behind it (elf(5))."""
NOTES = bytes.fromhex("0400000001000000060000000500000080000000494749534352450000000000") + bytes(8)

ARGV = b"4711\x004711\x0011\x001700000000\x001\x0018446744073709551615\x00F3\x00web-0\x00app"
"""Arguments as the kernel makes them of pattern.SPECIFIERS."""

TARGETS = [
    Target(
        "argv", [ARGV, ARGV.replace(b"F3", b"F"), ARGV + b" (x) y"], [b"18446744073709551616", b"F"], argv
    ),
    Target(
        "cgroup",
        [
            f"0::/kubepods/burstable/pod{UID}/{CID}\n".encode(),
            f"4:memory:/x/kubepods-besteffort-pod{SLICE}.slice:cri-containerd:{CID}\n".encode(),
            f"1:name=systemd:/kubepods.slice/kubepods-pod{UID}.slice/crio-{CID}.scope/container\n0::/\n".encode(),
        ],
        [
            b"/kubepods",
            b"/pod",
            b"pod..",
            b":",
            b"::/",
            b".slice",
            f"/pod{UID}/{CID}".encode(),
            b" (deleted)",
        ],
        cgroup,
    ),
    Target(
        "record",
        [RECORD.to_json().encode(), RECORD.to_json().replace("\n", "").replace("  ", "").encode()],
        [b"null", b"1e999", b"NaN", b"-0", b"[" * 2000, b'{"a":' * 2000, b'"\\ud800"', b"true", b'"id": 1,'],
        record,
    ),
    Target(
        "core's head",
        [ELF + bytes(2 * 56), ELF + b"\4\0\0\0\0\0\0\0\xb0" + bytes(23) + b"\xff" * 16 + bytes(64) + NOTES],
        [b"\x7fELF", b"\xff\xff", b"\xff" * 8, b"\x80\0\0\0IGIS", b"\x05\0\0\0CORE\0\0\0\0", NOTES],
        core_head,
    ),
    Target(
        "stat",
        [b"4711 (app) S 1 4711 4711 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2\n"],
        [b")", b"(", b") S 1", b" (a) b "],
        stat_of_a_process,
    ),
    Target(
        "log",
        [
            (
                b"2026-01-31T12:00:00.1Z stdout P one \n2026-01-31T12:00:00.2Z stderr F two\n"
                b"2026-01-31T12:00:00.3Z stdout F three\n"
            ),
            b'{"log":"one\\n","stream":"stdout","time":"2026-01-31T12:00:00.1Z"}\n',
        ],
        [b" P ", b" F ", b"stdout", b'{"log":', b"[" * 2000, b"\\ud800", b'"stream":"x y",', b"2026-01-31T"],
        log_tail,
    ),
    Target(
        "maps",
        [
            (
                b"00400000-00401000 r--p 00000000 fe:00 1234       /bin/app\n"
                b"00401000-00402000 r-xp 00001000 fe:00 1234       /bin/app\n"
                b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7  /lib/x\\012y.so (deleted)\n"
            )
        ],
        [b"r-xp", b" 00000000 ", b"f" * 40, b"-", b" (deleted)", b"[vdso]", b"\\012"],
        maps,
    ),
    Target(
        "program",
        [
            ELF
            + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, 4096, 4096, 4096)
            + struct.pack("<IIQQQQQQ", 4, 4, 176, 0x4000B0, 0, 36, 36, 4)
            + struct.pack("<III", 4, 20, 3)
            + b"GNU\0"
            + bytes(range(20))
        ],
        [
            struct.pack("<IIQQQQQQ", 4, 4, 64, 0x400040, 0, 1 << 40, 0, 4) * 8,
            b"GNU\0",
            b"\xff" * 8,
            b"\xff\x04",
        ],
        program,
    ),
]


def failing(number: int, data: bytes, error: Exception) -> str:
    return f"seed {SEED}, input {number}: {data!r}: {error!r}"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_breaks_a_promise(target: Target) -> None:
    for number, data in enumerate(mutants(target.samples, target.words, RUNS, SEED)):
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(failing(number, data, error)) from error


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_memory_stays_bounded(target: Target) -> None:
    inputs = list(mutants(target.samples, target.words, MEASURED, SEED))
    tracemalloc.start()
    try:
        for number, data in enumerate(inputs):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            target.check(data)
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken < MEMORY, failing(number, data, MemoryError(taken))
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_samples_are_valid(target: Target) -> None:
    """A run over samples that are refused at their first byte would prove nothing."""
    for sample in target.samples:
        target.check(sample)
    assert pattern.parse_arguments(ARGV.decode().split("\0")).pid == 4711
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert elfcore.parse(TARGETS[3].samples[0]).expected_bytes == 0
    assert logtail.last_lines(TARGETS[5].samples[0], 200).count(b"\n") == 2
    assert len(modules.mapped(TARGETS[6].samples[0])) == 2
    file = TARGETS[7].samples[0]
    assert modules.build_id(lambda at, size: file[at : at + size], in_memory=True) == bytes(range(20)).hex()


def test_forged_notes_cost_bounded_work() -> None:
    """A process can map as many segments of notes as it likes, each of the greatest length."""
    count = 1000
    head = bytearray(ELF)
    struct.pack_into("<H", head, 56, count)
    head += struct.pack("<IIQQQQQQ", 4, 4, 64, 64, 0, 1 << 40, 0, 4) * count
    asked: list[int] = []

    def read(at: int, size: int) -> bytes:
        asked.append(size)
        return bytes(head[at : at + size]).ljust(size, b"\0")

    assert modules.build_id(read, in_memory=False) == ""
    assert sum(asked) <= modules.HEADERS + 2 * modules.MAX_NOTES


def test_no_configuration_breaks_a_promise() -> None:
    sample = (
        b"[guard]\nnode = n\nmode = auto\nruntime = /run/coredump-guard\n"
        b"[store]\npath = /mnt\nquota = 1G\n[policy]\ndeny = a-*\n"
    )
    words = [b"[guard]\n", b"=", b"\n ", b"%(a)s", b"#", b"../..", b"unlimited", b"[metadata]\nlog = 1\n"]
    file = os.memfd_create("guard.conf")
    loaded = 0
    try:
        for number, data in enumerate(mutants([sample], words, RUNS, SEED)):
            os.ftruncate(file, 0)
            os.pwrite(file, data, 0)
            try:
                with contextlib.suppress(config.ConfigError):
                    found = config.load(f"/proc/self/fd/{file}")
                    loaded += 1
                    for path in (found.store, found.runtime, found.spool):
                        assert path.startswith("/"), path
                        assert ".." not in path.split("/"), path
            except Exception as error:
                raise AssertionError(failing(number, data, error)) from error
    finally:
        os.close(file)
    assert loaded > RUNS // 100


def test_no_journal_breaks_a_promise(tmp_path: Path) -> None:
    entry = (
        b'{"time": "2026-01-31T12:00:00Z", "boot_id": "b", "event": "captured", "pid": 7, "whose": "host"}'
    )
    lines = [
        data.replace(b"\n", b" ") for data in mutants([entry], [b"[]", b"1e999", b"[" * 900], RUNS, SEED)
    ]
    (tmp_path / "journal").write_bytes(b"\n".join(lines) + b"\n")
    found = list(journal.entries(str(tmp_path)))
    assert RUNS // 100 < len(found) < RUNS
    assert all(type(line.pid) is int and type(line.whose) is str for line in found)
