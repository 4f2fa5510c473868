"""The canary arrives, or says where it was lost; nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming, store
from tests.support.guard import NodeGuard, node_guard

pytestmark = pytest.mark.root


@pytest.fixture(params=["pipe", "socket"])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NodeGuard]:
    """Return an installation that runs and is armed."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, request.param) as made:
        made.start()
        made.run("arm")
        yield made


def fly(node: NodeGuard, *options: str) -> tuple[int, list[str], str]:
    """Return the canary's exit status, its steps without their times, and what it complains of."""
    done = node.run("canary", *options, check=False)
    steps = [line.split(" s  ", 1)[1] for line in done.stdout.splitlines() if " s  " in line]
    assert (done.returncode == 0) == (len(done.stdout.splitlines()) > len(steps))  # the verdict
    return done.returncode, steps, done.stderr


def left(node: NodeGuard) -> list[Path]:
    """Return the files in the store, but for executables, which others may need, and cgroups of canaries."""
    found = [path for path in node.store.rglob("*") if path.is_file() and ".debug" not in path.parts]
    return [*found, *Path("/sys/fs/cgroup").rglob("*coredump-guard-canary*")]


def test_it_is_followed_to_the_store_and_nothing_is_left(node: NodeGuard) -> None:
    status, steps, complaint = fly(node)
    assert (status, complaint) == (0, "")
    begins = ["armed: ", "crashed: ", "captured: ", "delivered: _unidentified/", "read back: ", "removed: "]
    assert [step.startswith(begin) for step, begin in zip(steps, begins)] == [True] * len(begins)
    assert left(node) == []
    assert not list((node.store / store.UNIDENTIFIED).iterdir())
    assert fly(node)[0] == 0  # each has a container of its own, so that they are no crash loop


@pytest.mark.parametrize(
    ("host_crashes", "last"),
    [
        ("chain", "handed on: "),
        ("drop", 'refused: "[policy] host_crashes = drop"'),
        ("keep", "removed: from the store"),
    ],
)
def test_one_of_the_nodes_own_ends_as_the_policy_says(tmp_path: Path, host_crashes: str, last: str) -> None:
    with node_guard(tmp_path, "pipe", policy__host_crashes=host_crashes) as node:
        node.start()
        node.run("arm")
        status, steps, complaint = fly(node, "--host")
        assert (status, complaint) == (0, "")
        assert steps[-1].startswith(last)
        assert left(node) == []


def test_it_says_where_it_was_lost(node: NodeGuard) -> None:
    node.configure(policy__largest_core=0)
    node.stop()
    node.start()
    status, steps, complaint = fly(node)
    assert (status, len(steps)) == (1, 2)
    assert "LOST, captured: it was refused: " in complaint
    assert "largest_core = 0" in complaint
    assert complaint.endswith("; run coredump-guard doctor\n")
    node.configure(policy__largest_core="unlimited")
    node.stop()
    node.store.rename(node.store.with_name("away"))
    node.start()
    status, steps, complaint = fly(node, "--timeout", "2")
    assert (status, steps[-1].partition(":")[0]) == (1, "captured")
    assert "NOT DELIVERED, delivered: not in time" in complaint
    assert "waits in the spool" in complaint
    node.run("disarm")
    status, steps, complaint = fly(node)
    assert (status, steps) == (1, [])
    assert "LOST, armed: core_pattern is not ours, so nothing was crashed" in complaint
    assert left(node) == []
