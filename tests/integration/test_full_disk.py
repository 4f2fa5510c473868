"""Disks full, read-only or gone: the guard lives, crashers are let go, no cut core is called whole."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from coredump_guard import arming, journal, pipedoor
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support import disks
from tests.support.crashing import pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record
from tests.support.verdict import verdict

pytestmark = pytest.mark.root

KIB = 1 << 10
PODUID = "f0d15c00-9b0e-4a5b-8b55-6d2f2d0a5f03"
STEPS = [
    *range(0, 512, 64),  # not even the record finds room
    *range(512, 640, 4),  # what is read of the process, file by file
    *range(640, 1920, 64),  # the core, piece by piece
    3072,
]
"""KiB that are free: a crash of 1 MiB that does not compress fails at each of its writes once."""


class Node:
    """An armed guard that is crashed at: a small process in a pod's cgroup, over and over."""

    def __init__(self, guard: NodeGuard, prefix: list[str], program: Path) -> None:
        self.guard = guard
        self._command = [*prefix, str(program), "--memory", "random:1"]
        self.start()
        guard.run("arm")

    def start(self) -> None:
        """Start the guard."""
        self.guard.start()
        assert self.guard.process is not None
        self._guard_pid = self.guard.process.pid

    def crash(self) -> str:
        """Crash once and return what became of it: whole, truncated, refused, or missed with a reason."""
        process = subprocess.Popen(self._command)
        assert process.wait(timeout=30) < 0
        found = wait_for(f"what became of {process.pid}", lambda: self._outcome(process.pid))
        told = json.loads(pipedoor.ask_status(str(self.guard.runtime / "guard.sock")))
        assert told["pid"] == self._guard_pid
        return found

    def _outcome(self, pid: int) -> str | None:
        state = str(self.guard.directory / "state")
        for entry in journal.entries(state):
            if entry.pid == pid and entry.event in ("missed", "refused") and not entry.dump:
                return f"{entry.event}: {entry.reason}"
        dump = next((dump for dump in self.guard.delivered() if record(dump).process.pid == pid), None)
        if dump is None:
            return None
        wait_for("it has left the spool", lambda: not (self.guard.spool / "ready" / dump.name).exists())
        return verdict(dump)

    def leftovers(self) -> list[Path]:
        """Return what lies in the spool although nothing is being captured or delivered."""
        return [path for name in ("incoming", "ready") for path in (self.guard.spool / name).iterdir()]


def _guard(directory: Path, door: str) -> AbstractContextManager[NodeGuard]:
    """Make an installation that damps no crash loop."""
    return node_guard(directory, door, policy__loop_newest=1000)


def _swept(node: Node, settings: Iterable[object]) -> Counter[str]:
    """Crash once at each setting; nothing stays behind. Returns how often each outcome came."""
    outcomes: Counter[str] = Counter()
    for setting in settings:
        outcome = node.crash()
        assert "No space left" in outcome or not outcome.startswith("missed"), (setting, outcome)
        assert wait_for("the spool is tidy", lambda: not node.leftovers()), setting
        outcomes[outcome.partition(":")[0]] += 1
    return outcomes


def test_room_that_ends_at_every_write(tmp_path: Path, crash_program: Path) -> None:
    spool = tmp_path / "spool"
    with (
        disks.tmpfs(spool, "size=8m") as disk,
        _guard(tmp_path, "pipe") as guard,
        pod_cgroup(poduid=PODUID) as prefix,
    ):
        outcomes = _swept(Node(guard, prefix, crash_program), _rooms(disk))
    assert outcomes["truncated"]
    assert outcomes["whole"]
    assert outcomes["missed"] + outcomes["refused"]


@pytest.mark.parametrize("door", ["pipe", "socket"])
def test_inodes_that_end_at_every_file(tmp_path: Path, crash_program: Path, door: str) -> None:
    _needs(door)
    spool = tmp_path / "spool"
    with (
        disks.tmpfs(spool, "size=8m") as disk,
        _guard(tmp_path, door) as guard,
        pod_cgroup(poduid=PODUID) as prefix,
    ):
        outcomes = _swept(Node(guard, prefix, crash_program), _inodes(disk))
    assert outcomes["whole"]
    assert outcomes["missed"] + outcomes["refused"]


def test_an_ext4_that_fills_up(tmp_path: Path, crash_program: Path) -> None:
    """Where room is given late (delayed allocation), and directories take some too."""
    spool = tmp_path / "spool"
    disk = disks.ext4(spool, tmp_path / "image", 8)
    with disk, _guard(tmp_path, "pipe") as guard, pod_cgroup(poduid=PODUID) as prefix:
        outcomes = _swept(Node(guard, prefix, crash_program), _ballasts(spool))
    assert outcomes["truncated"]
    assert outcomes["whole"]
    assert outcomes["missed"] + outcomes["refused"]


@pytest.mark.parametrize("door", ["pipe", "socket"])
def test_a_spool_that_becomes_read_only(tmp_path: Path, crash_program: Path, door: str) -> None:
    _needs(door)
    spool = tmp_path / "spool"
    with (
        disks.tmpfs(spool, "size=8m") as disk,
        _guard(tmp_path, door) as guard,
        pod_cgroup(poduid=PODUID) as prefix,
    ):
        node = Node(guard, prefix, crash_program)
        disk.remount("ro")
        assert "Read-only file system" in node.crash()
        disk.remount("rw")
        assert node.crash() == "whole"


def test_a_guard_starts_on_a_spool_that_is_read_only(tmp_path: Path, crash_program: Path) -> None:
    spool = tmp_path / "spool"
    with (
        disks.tmpfs(spool, "size=8m") as disk,
        _guard(tmp_path, "pipe") as guard,
        pod_cgroup(poduid=PODUID) as prefix,
    ):
        (spool / "incoming" / "20260101T000000Z-cut-1-00000000").mkdir(parents=True)
        disk.remount("ro")
        node = Node(guard, prefix, crash_program)
        assert "Read-only file system" in node.crash()
        disk.remount("rw")
        assert node.crash() == "whole"


def test_a_spool_that_is_removed_is_made_again(tmp_path: Path, crash_program: Path) -> None:
    with _guard(tmp_path, "pipe") as guard, pod_cgroup(poduid=PODUID) as prefix:
        node = Node(guard, prefix, crash_program)
        shutil.rmtree(guard.spool)
        assert node.crash() == "whole"
        assert not node.leftovers()


@pytest.mark.parametrize("state", ["full", "ro"])
@pytest.mark.parametrize("door", ["pipe", "socket"])
def test_a_state_directory_that_takes_nothing_costs_no_core(
    tmp_path: Path, crash_program: Path, door: str, state: str
) -> None:
    _needs(door)
    disk, guard = disks.tmpfs(tmp_path / "state", "size=1m"), _guard(tmp_path, door)
    with disk as small, guard as node, pod_cgroup(poduid=PODUID) as prefix:
        crashing = Node(node, prefix, crash_program)
        assert crashing.crash() == "whole"
        _spoil(small, state)
        assert crashing.crash() == "whole"
        node.stop()
        assert SETTINGS[0].read_text().startswith("|")
        crashing.start()
        assert crashing.crash() == "whole"


@pytest.mark.parametrize("state", ["full", "ro"])
def test_a_pattern_that_cannot_be_remembered_is_not_replaced(tmp_path: Path, state: str) -> None:
    with disks.tmpfs(tmp_path / "state", "size=1m") as disk, _guard(tmp_path, "pipe") as guard:
        before = SETTINGS[0].read_bytes()
        _spoil(disk, state)
        refused = guard.run("arm", check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith("coredump-guard: ")
        assert str(tmp_path / "state") in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert SETTINGS[0].read_bytes() == before


def _needs(door: str) -> None:
    if door == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")


def _spoil(disk: disks.Disk, how: str) -> None:
    if how == "ro":
        disk.remount("ro")
    else:
        disk.fill()


def _rooms(disk: disks.Disk) -> Iterator[int]:
    """Leave so many KiB free; something is there, since a tmpfs of size 0 is one without a limit."""
    ballast = disk.path / "ballast"
    ballast.write_bytes(bytes(4 * KIB))
    for free in STEPS:
        disk.remount(f"size={4 + free}k")
        yield free


def _inodes(disk: disks.Disk) -> Iterator[int]:
    """Leave so many inodes free, up to more than a dump has files."""
    used = sum(1 for _ in disk.path.rglob("*")) + 1
    for free in range(24):
        disk.remount(f"nr_inodes={used + free}")
        yield free


def _ballasts(spool: Path) -> Iterator[int]:
    """Leave so many KiB free by giving back, from a ballast that takes all there is."""
    ballast = spool / "ballast"
    disks.fill(ballast)
    most = ballast.stat().st_size
    for free in (*range(0, 64, 4), *range(64, 2048, 128), 3072):
        with ballast.open("r+b") as file:
            file.truncate(most - free * KIB)
        yield free
