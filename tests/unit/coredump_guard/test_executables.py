"""Holding the files of those who crash: real processes, a real child, and what must not make anybody wait."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import copying, executables, filesystems, metadata
from coredump_guard.config import Config, load
from coredump_guard.executables import Collector
from coredump_guard.metadata import Metadata
from coredump_guard.process import Process
from testbed.waiting import wait_for

from .conftest import descriptors

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: /proc/PID/map_files")


@contextmanager
def sleeping(program: str | Path = "/bin/sleep") -> Iterator[tuple[Process, Metadata]]:
    with subprocess.Popen([program, "60"]) as process:
        try:
            wait_for(
                "libc is mapped", lambda: "libc" in Path(f"/proc/{process.pid}/maps").read_text() or None
            )
            with Process("/proc", process.pid) as held:
                yield held, metadata.gather(held, None)
        finally:
            process.kill()


def hold(collector: Collector, held: Process, known: Metadata) -> list[int]:
    return collector.hold(held, known.mapped, known.files["mountinfo"])


@pytest.fixture
def collector(config: Config) -> Collector:
    os.makedirs(config.spool)
    return Collector(config, lambda: None)


def close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def test_the_very_files_that_are_mapped_are_held(collector: Collector) -> None:
    with sleeping() as (held, known):
        fds = hold(collector, held, known)
        try:
            paths = [module.path for module, _ in known.mapped]
            assert [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == paths
            assert len(fds) >= 3
            with pytest.raises(
                OSError, match="Bad file descriptor"
            ):  # O_PATH: their file system was not asked
                os.read(fds[0], 1)
        finally:
            close(fds)


def test_what_was_taken_is_not_taken_again(collector: Collector) -> None:
    with sleeping() as (held, known):
        close(hold(collector, held, known))
        assert hold(collector, held, known) == []


def test_what_was_taken_long_ago_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    with sleeping() as (held, known):
        close(hold(collector, held, known))
        monkeypatch.setattr(executables, "REMEMBERED_SECONDS", 0.0)
        again = hold(collector, held, known)
        assert len(again) == len(known.mapped)
        close(again)


def test_what_is_remembered_is_bounded(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executables, "REMEMBERED", 2)
    with sleeping() as (held, known):
        close(hold(collector, held, known))
        assert len(collector._taken) == 2


@pytest.mark.parametrize(("name", "most"), [("MAX_FILES", 2), ("MAX_HELD", 1), ("MAX_HELD", 0)])
def test_descriptors_are_bounded(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(executables, name, most)
    with sleeping() as (held, known):
        fds = hold(collector, held, known)
        assert len(fds) == most
        close(fds)


@pytest.mark.parametrize("kind", [b"nfs", b"nfs4", b"9p", None])
def test_a_file_system_that_may_make_us_wait_is_left_alone(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, kind: bytes | None
) -> None:
    with sleeping() as (held, known):
        devices = {module.device for module, _ in known.mapped}
        monkeypatch.setattr(filesystems, "kinds", lambda _: dict.fromkeys(devices, kind) if kind else {})
        assert hold(collector, held, known) == []


def test_a_process_that_has_gone_has_no_files(collector: Collector) -> None:
    with sleeping() as (held, known):
        os.kill(held.pid, 9)
        os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)
        assert hold(collector, held, known) == []


def test_a_child_copies_what_was_held(config: Config, tmp_path: Path) -> None:
    program = tmp_path / "gone"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o700)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    os.makedirs(config.spool)
    copied = threading.Event()
    before = descriptors()
    executables.start(config, copied.set)
    try:
        with sleeping(program) as (held, known), executables.held(held, known):
            program.unlink()
        assert copied.wait(60)
    finally:
        executables._collector = None
    directory = Path(config.spool, copying.DIRECTORY)
    assert f"{known.modules[0].build_id}.{digest}" in os.listdir(directory)
    assert len(list(directory.glob("*.*"))) == len(known.modules)
    wait_for("the descriptors are closed", lambda: descriptors() == before or None)


def test_a_child_that_hangs_is_ended(
    config: Config, collector: Collector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executables, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(executables, "SECONDS", 0.2)
    collector._copy([])
    assert "could not be read in time" in capsys.readouterr().err
    assert collector._stuck == []


def test_no_more_children_are_begun_where_some_hang_for_ever(collector: Collector) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        collector._stuck = [child] * executables.MAX_STUCK
        try:
            with pytest.raises(OSError, match="wait for ever"):
                collector._copy([])
        finally:
            child.kill()
    collector._copy([])


def test_leftovers_of_a_child_that_was_killed_are_removed(config: Config, collector: Collector) -> None:
    directory = Path(config.spool, copying.DIRECTORY)
    directory.mkdir()
    (directory / ".4711").write_bytes(b"half")
    (directory / f"abcd.{'0' * 16}").write_bytes(b"whole")
    collector._copy([])
    assert sorted(os.listdir(directory)) == [f"abcd.{'0' * 16}", copying.STORED]


def test_a_full_spool_takes_no_more(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(config.spool)
    collector = Collector(config, lambda: None)
    monkeypatch.setattr(collector, "_usage", lambda: config.spool_size - 100)
    with sleeping() as (held, known):
        fds = hold(collector, held, known)
        collector._copy(fds)
        close(fds)
    assert list(Path(config.spool, copying.DIRECTORY).glob("*.*")) == []


@pytest.mark.parametrize(("name", "value"), [("SHARE", 0), ("MAX_BYTES", 100)])
def test_what_there_was_no_room_for_is_not_taken(
    config: Config, collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    with sleeping() as (held, known):
        with monkeypatch.context() as patched:
            patched.setattr(executables, name, value)
            fds = hold(collector, held, known)
            collector._copy(fds)
            collector._release(fds)
        assert list(Path(config.spool, copying.DIRECTORY).glob("*.*")) == []
        again = hold(collector, held, known)
        assert len(again) == len(fds) > 0
        collector._copy(again)
        collector._release(again)
        assert hold(collector, held, known) == []
    assert (collector._held, collector._keys) == (0, {})


def test_executables_take_a_tenth_of_the_spool(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(f"{config.spool}/{copying.DIRECTORY}")
    small = Collector(replace(config, spool_size=100 << 20), lambda: None)
    before = small._room()
    assert (9 << 20) < before <= (10 << 20)
    Path(config.spool, copying.DIRECTORY, f"abcd.{'0' * 16}").write_bytes(os.urandom(4 << 20))
    assert small._room() == before - (4 << 20)
    assert Collector(replace(config, spool_size=1 << 40), lambda: None)._room() == executables.MAX_BYTES


def test_what_is_delivered_while_it_is_counted_takes_nothing(
    config: Config, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector._prepare()
    before, real = collector._usage(), os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*real(path), f"abcd.{'0' * 16}"])
    assert collector._usage() == before


def test_switched_off_nothing_is_held(config: Config, tmp_path: Path) -> None:
    (tmp_path / "off.conf").write_text(Path(config.path).read_text() + "[metadata]\nexecutables = no\n")
    executables.start(load(str(tmp_path / "off.conf")), lambda: None)
    before = descriptors()
    with sleeping() as (held, known):
        inside = descriptors()
        with executables.held(held, known):
            assert descriptors() == inside
    assert descriptors() == before
