"""Every crash that the kernel announces ends somewhere: captured, refused, handed on, or missed, and why."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard

pytestmark = pytest.mark.root

PATTERN = Path("/proc/sys/kernel/core_pattern")
SEGV: list[str | Path] = ["sh", "-c", "kill -SEGV $$"]
NEVER_PIPED = ["prlimit", "--core=1", "--"]
NARROW = """
import sys
from coredump_guard import cli, connector
connector.ROOM = 4096
sys.exit(cli.main())
"""
"""The command, with room for some nine announcements."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeGuard]:
    with node_guard(tmp_path, "pipe") as node:
        yield node


def crashes(node: NodeGuard) -> dict[str, int]:
    """Return status' numbers since boot, once nothing is under way; they add up."""
    numbers: dict[str, int] = wait_for("every crash has ended", lambda: _settled(node))
    ends = sum(numbers[end] for end in ("captured", "refused", "handed_on", "missed"))
    assert numbers["announced"] == ends
    return numbers


def _settled(node: NodeGuard) -> dict[str, int] | None:
    numbers: dict[str, int] = node.status()["crashes"]
    return None if numbers["under_way"] else numbers


def log(node: NodeGuard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(node.run("log", "--json").stdout)
    return found


def missed(node: NodeGuard) -> list[str]:
    return [entry["reason"] for entry in log(node) if entry["event"] == "missed"]


def armed(node: NodeGuard) -> None:
    node.start()
    wait_for("the kernel's announcements", lambda: not node.status()["guard"]["account"]["unavailable"])
    node.run("arm")


def test_every_kind_of_end_and_the_sum_of_them(node: NodeGuard, crash_program: Path) -> None:
    node.configure(policy__deny="nobody")
    armed(node)
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)  # captured
        crash([*NEVER_PIPED, *SEGV], prefix)  # missed: the kernel pipes it nowhere
    crash(SEGV)  # handed on
    node.run("disarm")  # while it is armed, the guard repairs what others set
    PATTERN.write_text("|/bin/false %P")
    crash(SEGV)  # missed: it is somebody else's
    node.run("arm")
    numbers = crashes(node)
    assert numbers == {
        "announced": 4, "captured": 1, "refused": 0, "handed_on": 1, "missed": 2, "under_way": 0
    }  # fmt: skip
    assert missed(node) == [
        "its RLIMIT_CORE was 1: the kernel pipes no core of such a process",
        "core_pattern was '|/bin/false %P'",
    ]
    told = node.run("status").stdout
    assert "4 since boot: 1 captured, 0 refused, 1 handed on, 2 missed\n" in told
    assert told.count("\n      last  ") == 4


def test_a_guard_that_stands_still_or_is_gone_keeps_the_account(node: NodeGuard, crash_program: Path) -> None:
    armed(node)
    assert node.process is not None
    with pod_cgroup() as prefix:
        node.process.send_signal(signal.SIGSTOP)
        crash([crash_program], prefix)  # a doorman alone, announced when the guard reads again
        node.process.send_signal(signal.SIGCONT)
        wait_for("one capture", lambda: node.status()["crashes"]["captured"] == 1)
        node.stop(signal.SIGKILL)
        crash([crash_program], prefix)  # a doorman alone, announced to nobody
        wait_for("another capture", lambda: node.status()["crashes"]["captured"] == 2)
        node.start()
        crash([crash_program], prefix)
    wait_for("a third", lambda: node.status()["crashes"]["captured"] == 3)
    assert crashes(node)["announced"] == 3
    assert [entry["reason"] for entry in log(node) if entry["event"] == "missed"] == []


def test_announcements_that_are_lost_are_found_again_by_their_ends(node: NodeGuard) -> None:
    node.command = [sys.executable, "-c", NARROW]
    node.configure(mode="socket")
    armed(node)
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    many = "for _ in $(seq 300); do (kill -SEGV $(exec sh -c 'echo $PPID')) & done; wait"
    with subprocess.Popen(["sh", "-c", many], stderr=subprocess.DEVNULL) as storm:
        try:
            wait_for("the storm", lambda: len(dumping(storm.pid)) == 300)
        finally:
            node.process.send_signal(signal.SIGCONT)
        storm.wait(timeout=60)
    wait_for("300 ends", lambda: node.status()["crashes"]["handed_on"] == 300)
    wait_for("the loss is noticed", lambda: node.status()["guard"]["account"]["lost_at"])
    assert crashes(node)["announced"] == 300
    assert "announcements of crashes were lost, last at 20" in node.run("status").stdout


def dumping(pid: int) -> list[str]:
    """Return a shell's children whose dump has begun (proc(5), status: CoreDumping)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if "CoreDumping:\t1" in Path(f"/proc/{child}/status").read_text()]


def test_list_and_show_while_the_store_is_away_and_after(node: NodeGuard, crash_program: Path) -> None:
    node.store.rmdir()
    armed(node)
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)
    wait_for("the spool has it", lambda: node.status()["spool"]["dumps"])
    (dump,) = json.loads(node.run("list", "--json").stdout)
    assert (dump["state"], dump["signal"]) == ("waiting", "SIGSEGV")
    assert dump["id"] in node.run("list").stdout
    assert "is it mounted?" in node.log.read_text()
    shown = json.loads(node.run("show", dump["id"][:16], "--json").stdout)
    assert (shown["id"], shown["record"]["process"]["pid"]) == (dump["id"], shown["journal"][0]["pid"])
    node.store.mkdir()
    node.wait_for_dump()
    wait_for("it has left the spool", lambda: json.loads(node.run("list", "--json").stdout) == [])
    assert "     state  delivered\n" in node.run("show", dump["id"]).stdout
    assert [entry["event"] for entry in log(node)] == ["captured", "delivered"]
