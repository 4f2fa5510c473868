"""The store is away for long and comes back: every dump is delivered, in the order of the crashes, once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.disks import Disk, tmpfs
from tests.support.guard import NodeGuard, node_guard
from tests.support.verdict import verdict

pytestmark = pytest.mark.root

CRASHES = 5


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[NodeGuard]:
    """Return an armed guard at work, whose store is a file system of its own."""
    with node_guard(tmp_path, "pipe") as node, tmpfs(node.store, "size=8m"):
        node.start()
        node.run("arm")
        yield node


def crash_in_pods(count: int, first: int = 0) -> None:
    """Let one process crash in each of so many containers, so that none of them is in a crash loop."""
    for number in range(first, first + count):
        with pod_cgroup(f"{number:064x}") as prefix:
            assert crash(["sh", "-c", "kill -SEGV $$"], prefix) == signal.SIGSEGV


def wait_for_spool(guard: NodeGuard, dumps: int) -> None:
    wait_for(f"{dumps} dumps in the spool", lambda: guard.status()["spool"]["dumps"] == dumps)


def assert_all_delivered(guard: NodeGuard, count: int) -> None:
    """See that so many dumps are in the store, whole, delivered in the order of their crashes and once."""
    wait_for(f"{count} dumps in the store", lambda: len(guard.delivered()) == count)
    wait_for_spool(guard, 0)
    assert [verdict(path) for path in guard.delivered()] == ["whole"] * count
    said = re.findall(r"info: delivered dump=(\S+)", guard.log.read_text())
    assert said == sorted(path.name for path in guard.delivered())


@contextmanager
def read_only(disk: Disk) -> Iterator[str]:
    disk.remount("ro")
    try:
        yield "Read-only file system"
    finally:
        disk.remount("rw")


@contextmanager
def full(disk: Disk) -> Iterator[str]:
    disk.fill()
    try:
        yield "No space left on device"
    finally:
        (disk.path / "ballast").unlink()


@contextmanager
def unmounted(disk: Disk) -> Iterator[str]:
    """Move the mount elsewhere: what is beneath it is an empty directory that anybody could write to."""
    elsewhere = disk.path.with_name("elsewhere")
    elsewhere.mkdir()
    subprocess.run(["mount", "--make-private", disk.path], check=True, timeout=30)
    subprocess.run(["mount", "--bind", disk.path, elsewhere], check=True, timeout=30)
    subprocess.run(["umount", "--lazy", disk.path], check=True, timeout=30)
    try:
        yield "is not mounted"
        assert os.listdir(disk.path) == []
    finally:
        subprocess.run(["mount", "--bind", elsewhere, disk.path], check=True, timeout=30)
        subprocess.run(["umount", "--lazy", elsewhere], check=True, timeout=30)


@pytest.mark.parametrize("outage", [read_only, full, unmounted])
def test_all_is_delivered_after_an_outage(
    guard: NodeGuard, outage: Callable[[Disk], AbstractContextManager[str]]
) -> None:
    crash_in_pods(1)
    assert_all_delivered(guard, 1)
    with outage(Disk(guard.store)) as reason:
        crash_in_pods(CRASHES, first=1)
        wait_for_spool(guard, CRASHES)
        said = wait_for("the store's complaint", lambda: guard.status()["guard"]["store_error"])
        assert reason in said
        assert "FAILING" in guard.run("status", check=False).stdout
    assert_all_delivered(guard, 1 + CRASHES)
    wait_for("the end of the complaint", lambda: not guard.status()["guard"]["store_error"])


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse")
def test_a_store_that_hangs_holds_up_nothing_but_deliveries(guard: NodeGuard) -> None:
    with hung(guard.store):
        crash_in_pods(2)
        wait_for_spool(guard, 2)
        wait_for("what hangs", lambda: guard.status()["guard"]["delivering_seconds"] > 0)
        guard.stop()
        guard.start()
        crash_in_pods(1, first=2)
        wait_for_spool(guard, 3)
        wait_for("what hangs", lambda: guard.status()["guard"]["delivering"])
    assert_all_delivered(guard, 3)
