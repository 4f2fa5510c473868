"""The guard is restarted, killed, replaced and away while crashes come in: each is captured exactly once."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import coredump_guard
from coredump_guard import arming
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.bursts import burst
from tests.support.crashing import pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record
from tests.support.verdict import verdict

pytestmark = pytest.mark.root

PODUID = "2e57a270-9b0e-4a5b-8b55-6d2f2d0a5f05"
SEEN = 5
"""Crashes of a stream between one restart and the next."""


class Stream:
    """Crashes one after the other, without a pause; `pids` are those of the ones that are over."""

    def __init__(self, command: list[str]) -> None:
        self.pids: list[int] = []
        self._command = command
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            process = subprocess.Popen(self._command)
            process.wait(timeout=60)
            self.pids.append(process.pid)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def go_on(self) -> None:
        """Wait until some more have crashed."""
        seen = len(self.pids)
        wait_for("more crashes", lambda: len(self.pids) >= seen + SEEN or not self._thread.is_alive())
        assert self._thread.is_alive(), "a crashed process was not let go"

    def stop(self) -> None:
        """Let the last one end."""
        self._stop.set()
        self._thread.join(timeout=60)


@contextmanager
def streaming(program: Path) -> Iterator[Stream]:
    """Crash over and over in a container, from the first restart to the last."""
    with pod_cgroup(poduid=PODUID) as prefix:
        stream = Stream([*prefix, str(program), "--memory", "random:1"])
        stream.start()
        try:
            yield stream
        finally:
            stream.stop()


@contextmanager
def armed(directory: Path, door: str) -> Iterator[NodeGuard]:
    """Run a guard that damps no crash loop."""
    if door == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(directory, door, policy__loop_newest=1000) as node:
        node.start()
        node.run("arm")
        yield node


def _all_once(node: NodeGuard, pids: list[int]) -> dict[str, int]:
    """Wait until every crash is in the store, whole and once; returns how many came by which door."""
    with_all = wait_for("all are delivered", lambda: _delivered(node, len(pids)), 60)
    records = [record(dump) for dump in with_all]
    assert sorted(one.process.pid for one in records) == sorted(pids)
    assert {verdict(dump) for dump in with_all} == {"whole"}
    modes = [one.capture.mode for one in records]
    return {mode: modes.count(mode) for mode in set(modes)}


def _delivered(node: NodeGuard, count: int) -> list[Path] | None:
    delivered = node.delivered()
    lying = [path for name in ("incoming", "ready") for path in (node.spool / name).iterdir()]
    return delivered if len(delivered) >= count and not lying else None


@pytest.mark.parametrize("door", ["pipe", "socket"])
def test_orderly_restarts_lose_no_crash_of_a_stream(tmp_path: Path, crash_program: Path, door: str) -> None:
    with armed(tmp_path, door) as node:
        with streaming(crash_program) as stream:
            for _ in range(3):
                stream.go_on()
                node.stop()
                stream.go_on()
                node.start()
            stream.go_on()
        modes = _all_once(node, stream.pids)
    assert modes.keys() >= {door, "alone"}  # while the socket's guard starts, doormen still come to it


def test_an_orderly_end_in_the_middle_of_a_burst_loses_no_crash(tmp_path: Path) -> None:
    """Of the socket: what has connected is taken, what comes later finds the pipe."""
    with armed(tmp_path, "socket") as node, burst(100) as ready:
        burning = threading.Thread(target=ready.go)
        burning.start()
        wait_for("some are captured", lambda: any((node.spool / "ready").iterdir()) or node.delivered())
        node.stop()
        burning.join(timeout=120)
        assert not burning.is_alive(), "a crashed process was not let go"
        node.start()
        _all_once(node, ready.pids)


def test_a_guard_killed_between_crashes_is_replaced_by_doormen(tmp_path: Path, crash_program: Path) -> None:
    with armed(tmp_path, "pipe") as node:
        pids = []
        for _ in range(3):
            with streaming(crash_program) as stream:
                stream.go_on()
            # The kernel lets a process go when the last of its core is in the pipe, not when it is on disk.
            wait_for("all is captured", lambda: not any((node.spool / "incoming").iterdir()))
            node.stop(signal.SIGKILL)
            pids += stream.pids
            with streaming(crash_program) as stream:
                stream.go_on()
                node.start()
                stream.go_on()
            pids += stream.pids
        modes = _all_once(node, pids)
    assert modes.keys() == {"pipe", "alone"}


def test_crashes_that_a_killed_guard_has_not_taken_are_captured_alone(tmp_path: Path) -> None:
    """Frozen, it lets nobody in; killed, it closes the door, and each doorman notices."""
    with armed(tmp_path, "pipe") as node, burst(20) as ready:
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)
        burning = threading.Thread(target=ready.go)
        burning.start()
        wait_for("doormen knock", lambda: _knocking(node) >= len(ready.pids) // 2)
        node.stop(signal.SIGKILL)
        burning.join(timeout=120)
        assert not burning.is_alive(), "a crashed process was not let go"
        node.start()
        assert _all_once(node, ready.pids) == {"alone": 20}


def test_the_socket_of_a_killed_guard_loses_crashes_until_it_is_back(
    tmp_path: Path, crash_program: Path
) -> None:
    """The kernel finds nobody and has no second choice; who holds the socket for us must outlive us."""
    with armed(tmp_path, "socket") as node:
        node.stop(signal.SIGKILL)
        assert SETTINGS[0].read_text().startswith("@@")
        with streaming(crash_program) as lost:
            lost.go_on()
        node.start()
        with streaming(crash_program) as stream:
            stream.go_on()
        assert _all_once(node, stream.pids) == {"socket": len(stream.pids)}


def test_a_burst_without_a_guard_is_delivered_when_it_is_back(tmp_path: Path) -> None:
    with armed(tmp_path, "pipe") as node, burst(20) as ready:
        node.stop()
        ready.go()
        node.start()
        assert _all_once(node, ready.pids) == {"alone": 20}


def test_an_upgrade_in_another_directory_loses_no_crash(tmp_path: Path, crash_program: Path) -> None:
    installed = Path(coredump_guard.__file__).parent
    with armed(tmp_path, "pipe") as node, streaming(crash_program) as stream:
        link = node.runtime / "doorman.py"
        for version in itertools.islice(_versions(tmp_path, installed), 3):
            node.environment["PYTHONPATH"] = str(version)
            stream.go_on()
            node.run("arm")
            assert link.readlink().is_relative_to(version)
            node.stop()
            stream.go_on()
            node.start()
        stream.go_on()
        stream.stop()
        modes = _all_once(node, stream.pids)
    assert modes.keys() == {"pipe", "alone"}


def _versions(directory: Path, installed: Path) -> Iterator[Path]:
    """Install again and again, each time in a directory of its own; the one before the last is removed."""
    before: list[Path] = []
    for number in itertools.count(1):
        version = directory / f"version-{number}"
        shutil.copytree(installed, version / installed.name)
        before.append(version)
        yield version
        for old in before[:-1]:
            shutil.rmtree(old, ignore_errors=True)


def _knocking(node: NodeGuard) -> int:
    """Return how many connections wait at the guard's socket: each is in /proc/net/unix by its name."""
    path = str(node.runtime / "guard.sock")
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.split()[-1] == path for line in lines) - 1
