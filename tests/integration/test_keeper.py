"""The kernel's settings stay ours while the guard runs, whoever writes them; and no fight breaks out."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import arming, keeper
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

PATTERN, LIMIT, SUID_DUMPABLE = SETTINGS
OURS = {"pipe": "|", "socket": "@@"}


@pytest.fixture(params=["pipe", "socket"])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NodeGuard]:
    """Return an installation that runs and is armed; what was there before is "before"."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with armed(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[NodeGuard]:
    with armed(tmp_path, "pipe") as made:
        yield made


@contextmanager
def armed(directory: Path, mode: str) -> Iterator[NodeGuard]:
    with node_guard(directory, mode) as made:
        PATTERN.write_text("before")
        made.start()
        made.run("arm")
        yield made


def kept(node: NodeGuard) -> dict[str, Any]:
    found: dict[str, Any] = node.status()["guard"]["keeper"]
    return found


def wait_until_ours(node: NodeGuard, ours: str) -> None:
    wait_for("the repair", lambda: PATTERN.read_text() == ours)
    wait_for("it is counted", lambda: kept(node)["repairs"])


def through_another_procfs(directory: Path, pattern: str) -> None:
    """Write core_pattern as an ordinary container's process does, whose /proc is an instance of its own."""
    write = f'mount -t proc proc {directory} && printf %s "$1" > {directory}/sys/kernel/core_pattern'
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", write, "sh", pattern]
    subprocess.run(command, check=True, timeout=60)


def test_what_others_write_is_repaired_and_told(node: NodeGuard, tmp_path: Path, crash_program: Path) -> None:
    ours = PATTERN.read_text()
    PATTERN.write_text("|/theirs \x1b[31m %P")
    wait_until_ours(node, ours)
    assert kept(node)["changed_to"] == "core_pattern |/theirs \\x1b[31m %P"
    assert (
        'were changed, now they are ours again was="core_pattern |/theirs \\\\x1b[31m' in node.log.read_text()
    )
    LIMIT.write_text("16")
    wait_for("the limit is ours", lambda: LIMIT.read_text() == "0\n")
    (tmp_path / "proc").mkdir()
    through_another_procfs(tmp_path / "proc", "core.%p")
    wait_for("the repair", lambda: PATTERN.read_text() == ours)
    wait_for("it is counted", lambda: kept(node)["repairs"] == 3)
    assert kept(node)["contested"] is None
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)
    node.wait_for_dump()
    node.run("disarm")
    assert PATTERN.read_text() == "before\n"


def test_set_uid_processes_stay_dumped(piped: NodeGuard) -> None:
    SUID_DUMPABLE.write_text("0")
    wait_for("the repair", lambda: SUID_DUMPABLE.read_text() == "2\n")


def test_what_was_changed_while_the_guard_was_away_is_repaired_when_it_is_back(node: NodeGuard) -> None:
    ours = PATTERN.read_text()
    node.stop()
    PATTERN.write_text("theirs")
    node.start()
    wait_until_ours(node, ours)


def test_the_way_to_the_doorman_is_repaired(node: NodeGuard, crash_program: Path) -> None:
    links = [node.runtime / name for name in ("doorman.py", "guard.conf")]
    for link in links:
        link.unlink()
    wait_for("the links", lambda: all(link.exists() for link in links))
    node.stop()
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)
    node.start()
    assert record(node.wait_for_dump()).capture.mode == "alone"


def test_a_socket_that_was_removed_gives_way_to_the_pipe(tmp_path: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with armed(tmp_path, "socket") as node:
        (node.runtime / "kernel.sock").unlink()
        wait_for("the pipe", lambda: PATTERN.read_text().startswith("|"))
        assert node.status()["door"] == "pipe"


def test_a_disarm_is_not_repaired(node: NodeGuard) -> None:
    node.run("disarm")
    PATTERN.write_text("later")
    with pytest.raises(TimeoutError):
        wait_for("a repair", lambda: PATTERN.read_text() != "later\n", seconds=keeper.EVERY + 0.1)
    assert kept(node)["repairs"] == 0


def test_a_manager_that_fights_is_not_fought(piped: NodeGuard) -> None:
    fight = f"while True: open({str(PATTERN)!r}, 'w').write('theirs')"
    with subprocess.Popen([sys.executable, "-c", fight]) as other:
        try:
            contested = wait_for("it is contested", lambda: kept(piped)["contested"], seconds=60)
        finally:
            other.kill()
    assert re.fullmatch(r"changed \d times in \d+ seconds, last to core_pattern theirs", contested)
    assert kept(piped)["repairs"] < 10  # of a thousand changes a second
    assert "CONTESTED: somebody else sets core_pattern, changed" in piped.run("status", check=False).stdout
    assert "error: CONTESTED: " in piped.log.read_text()
    wait_for("peace", lambda: PATTERN.read_text().startswith("|"))
    piped.stop()
    assert "error: the kernel's settings cannot be" not in piped.log.read_text()


def test_the_end_of_the_guard_is_not_held_up_by_a_contest(piped: NodeGuard) -> None:
    def contested() -> object:
        PATTERN.write_text("theirs")
        return kept(piped)["contested"]

    wait_for("it is contested", contested)
    piped.stop()
    assert PATTERN.read_text() == "theirs\n"
    assert "info: ended" in piped.log.read_text()
