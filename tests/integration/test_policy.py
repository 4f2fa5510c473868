"""What speaks against a core is decided before it moves, said in a record, bounded: on the real kernel."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coredump_guard import arming, journal, store
from coredump_guard.record import Record
from coredump_guard.salvage import CUT_OFF
from testbed.containerd import Containerd
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root


@pytest.fixture(params=["pipe", "socket"])
def door(request: pytest.FixtureRequest) -> str:
    """Return each door that this kernel has."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    return str(request.param)


def started(node: NodeGuard) -> NodeGuard:
    node.start()
    node.run("arm")
    return node


def journaled(node: NodeGuard) -> list[journal.Entry]:
    """Return what the journal says of crashes."""
    kinds = ("captured", "refused", "handed on", "missed")
    return [entry for entry in journal.entries(str(node.directory / "state")) if entry.event in kinds]


def records(directory: Path) -> list[Record]:
    """Return the records of the dumps that lie in a directory, oldest crash first."""
    return [record(path) for path in sorted(directory.iterdir()) if store.is_dump_id(path.name)]


def assert_coreless(dump: Path) -> None:
    names = {path.name for path in dump.iterdir()}
    assert not names & {store.CORE, store.RAW_CORE}
    assert {"maps", "status", store.INFO} <= names
    assert record(dump).core.bytes == 0


def test_what_pods_and_namespaces_say(
    tmp_path: Path, runtime: Containerd, crash_image: str, door: str
) -> None:
    """One guard, four pods: denied, not allowed, asking for it all the same, and asking for nothing."""
    rules = {"policy__deny": "kube-*", "policy__allow": "shop"}
    cases = [
        ("kube-system", "always", "[policy] deny = kube-*: no cores of namespace kube-system are kept"),
        ("other", "", "[policy] allow = shop: namespace other is not among them"),
        ("other", "always", None),
        ("shop", "never", "COREDUMP_CAPTURE = never: the pod's spec wants no cores"),
        ("shop", "sometimes", None),
    ]
    with node_guard(tmp_path, door, **rules) as node:
        started(node)
        for number, (namespace, wish, reason) in enumerate(cases):
            pod = runtime.run_pod(namespace, f"wish-{number}")
            environment = {"COREDUMP_CAPTURE": wish} if wish else {}
            pod.start("app", crash_image, ["--fork"], environment).wait()
            dump = node.wait_for_dump(_of(f"wish-{number}"))
            found = record(dump)
            assert (found.refused or "").startswith(reason or "")
            assert (found.refused is None) == (reason is None)
            assert dump.relative_to(node.store).parts[0] == namespace
            if reason:
                assert_coreless(dump)
                assert (found.signal.name, found.process.executable) == (_signal(door), "/app/crash")
            pod.stop()
        assert [entry.event for entry in journaled(node)] == [
            "captured" if reason is None else "refused" for *_, reason in cases
        ]
    assert "neither never nor always, and ignored value=sometimes" in node.log.read_text()


def _of(pod: str) -> Callable[[Record], bool]:
    return lambda found: found.identity.pod == pod


def _signal(door: str) -> str:
    """Without a core, the socket does not tell the signal before Linux 6.19."""
    return "SIGSEGV" if door == "pipe" else "signal 0"


@pytest.mark.parametrize("largest", ["0", "4M"])
def test_a_core_that_is_too_large_is_a_record(
    tmp_path: Path, crash_program: Path, door: str, largest: str
) -> None:
    with node_guard(tmp_path, door, policy__largest_core=largest) as node, pod_cgroup() as prefix:
        started(node)
        crash([crash_program, "--memory", "heap:64"], prefix)
        dump = node.wait_for_dump()
        assert_coreless(dump)
        assert str(record(dump).refused).startswith("[policy] largest_core = ")
        if largest != "0":
            assert int(str(record(dump).refused).split()[-2]) > 64 << 20
            crash([crash_program], prefix)
            assert node.wait_for_dump(lambda found: found.refused is None)


def test_a_crash_loop_is_damped_over_restarts_and_all_are_counted(
    tmp_path: Path, crash_program: Path
) -> None:
    with node_guard(tmp_path, "pipe", policy__loop_newest=2) as node, pod_cgroup() as prefix:
        started(node)
        for _ in range(5):
            crash([crash_program], prefix)
        node.stop()
        for _ in range(2):  # doormen alone know of the loop too
            crash([crash_program], prefix)
        node.start()
        for _ in range(3):
            crash([crash_program], prefix)
        node.stop()
        node.start()
        tally = record(node.wait_for_dump(lambda found: found.crashes > 1))
        wait_for("the spool is empty", lambda: not list((node.spool / "ready").iterdir()))
        found = [record(path) for path in node.delivered()]
        assert sorted(one.crashes for one in found) == [1, 1, 1, 7]
        assert [one.refused is None for one in found].count(True) == 3
        assert tally.until is not None
        assert tally.until >= tally.time
        assert len(journaled(node)) == 10
        assert {entry.dump for entry in journaled(node)[3:]} == {tally.id}


def test_a_loops_tally_tells_the_signal(tmp_path: Path, crash_program: Path, door: str) -> None:
    with node_guard(tmp_path, door, policy__loop_newest=0) as node, pod_cgroup() as prefix:
        started(node)
        crash([crash_program], prefix)
        kept = record(node.wait_for_dump(lambda found: not found.refused))
        crash([crash_program], prefix)
        node.stop()
        node.start()
        tally = record(node.wait_for_dump(lambda found: bool(found.refused)))
        assert (tally.signal.name, tally.process.uid) == ("SIGSEGV", kept.process.uid)


def test_a_new_core_of_a_loop_takes_the_oldest_ones_place(tmp_path: Path, crash_program: Path) -> None:
    """While the store is away, in the spool; what is delivered later is the first, and the newest."""
    settings = {"policy__loop_newest": 10, "policy__loop_window": 20}
    with node_guard(tmp_path, "pipe", **settings) as node, pod_cgroup() as prefix:
        node.store.rmdir()
        started(node)
        for _ in range(11):
            crash([crash_program], prefix)
        wait_for("all wait", lambda: len(records(node.spool / "ready")) == 11)
        first, second, *others = (entry.dump for entry in journaled(node))

        def another() -> bool:
            crash([crash_program], prefix)
            return any(entry.event == "captured" for entry in journaled(node)[11:])

        wait_for("two seconds later another core is kept", another)
        (newest,) = (entry.dump for entry in journaled(node)[11:] if entry.event == "captured")
        cores = {one.id: one for one in records(node.spool / "ready") if not one.refused}
        assert cores.keys() == {first, *others, newest}
        assert cores[newest].replaces == second


def test_a_spool_that_is_full_refuses_and_one_namespace_leaves_room(
    tmp_path: Path, runtime: Containerd, crash_image: str
) -> None:
    settings = {"spool__size": "24M", "spool__share": 50, "policy__loop_newest": 9}
    with node_guard(tmp_path, "pipe", **settings) as node:
        node.store.rmdir()
        started(node)
        greedy = runtime.run_pod("greedy", "a")
        for _ in range(3):
            greedy.start("app", crash_image, ["--fork", "--memory", "random:8"]).wait()
        modest = runtime.run_pod("modest", "b")
        modest.start("app", crash_image, ["--fork", "--memory", "random:4"]).wait()
        wait_for("all have ended", lambda: len(journaled(node)) == 4)
        found = records(node.spool / "ready")
        assert [one.identity.namespace for one in found] == ["greedy"] * 3 + ["modest"]
        cut = [one.core.truncated for one in found]
        assert cut[0] is None
        assert "[spool] share = 50: dumps of greedy" in str(cut[1])
        assert str(found[2].refused).startswith("[spool] share = 50: dumps of greedy")
        assert (found[3].refused, cut[3]) == (None, None)
        node.store.mkdir()
        dump = node.wait_for_dump(lambda one: one.core.truncated is not None)
        assert len(gzip.decompress((dump / store.CORE).read_bytes())) == record(dump).core.bytes
        for pod in (greedy, modest):
            pod.stop()


def test_the_disks_free_space_is_kept(tmp_path: Path, crash_program: Path, door: str) -> None:
    with node_guard(tmp_path, door, spool__keep_free="900T") as node, pod_cgroup() as prefix:
        started(node)
        crash([crash_program], prefix)
        entry = wait_for("it has ended", lambda: journaled(node))[0]
        assert entry.event == "refused"
        assert "[spool] keep_free = " in entry.reason
        assert entry.dump


def test_a_guard_that_is_killed_while_it_drains_loses_nothing_that_is_known(
    tmp_path: Path, crash_program: Path, door: str
) -> None:
    with node_guard(tmp_path, door) as node, pod_cgroup() as prefix:
        started(node)
        process = subprocess.Popen([*prefix, crash_program, "--memory", "random:300"])
        try:
            core = Path("incoming") / "*" / store.CORE
            wait_for(
                "it is drained", lambda: any(p.stat().st_size > 1 << 21 for p in node.spool.glob(str(core)))
            )
            node.stop(signal.SIGKILL)
        finally:
            process.wait(timeout=60)
        node.start()
        dump = node.wait_for_dump()
        found = record(dump)
        assert found.core.truncated == CUT_OFF
        inflated = gzip.decompress((dump / store.CORE).read_bytes())
        assert len(inflated) == found.core.bytes >= 1 << 20
        assert inflated.startswith(b"\x7fELF")
        assert found.process.executable == str(crash_program)
        wait_for("nothing of it is left", lambda: not os.listdir(node.spool / "incoming"))
