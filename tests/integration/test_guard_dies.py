"""A guard that is killed with SIGKILL: at every step of a capture, and in the middle of a storm."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from coredump_guard import config, elfcore, engine, journal, salvage, store
from coredump_guard.arrival import Arrival
from coredump_guard.deliver import deliver
from coredump_guard.pattern import Crash
from coredump_guard.policy import Policy
from coredump_guard.spool import Spool
from testbed.waiting import wait_for
from tests.support import dying
from tests.support.bursts import burst
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record
from tests.support.verdict import verdict

pytestmark = pytest.mark.root

PODUID = "dead0000-9b0e-4a5b-8b55-6d2f2d0a5f04"
STEPS = 500
"""More than a capture has."""
STORM, LATER = 100, 20
PATIENCE = 5
"""Seconds that a capture may take; a crash is declared missed that long after its process's end."""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, crash_program: Path) -> bytes:
    """Return a core as this kernel writes it."""
    with node_guard(tmp_path_factory.mktemp("core"), "pipe") as node, pod_cgroup(poduid=PODUID) as prefix:
        node.start()
        node.run("arm")
        crash([crash_program, "--memory", "random:2"], prefix)
        written = gzip.decompress((node.wait_for_dump() / store.CORE).read_bytes())
    assert elfcore.parse(written).expected_bytes == len(written)
    return written


@pytest.fixture
def process(crash_program: Path) -> Iterator[int]:
    """Return a living process in a pod's cgroup, which stands for one that dumps core."""
    with pod_cgroup(poduid=PODUID) as prefix:
        living = subprocess.Popen([*prefix, crash_program, "--wait"], stdout=subprocess.PIPE)
        try:
            assert living.stdout
            assert living.stdout.readline() == b"ready\n"
            yield living.pid
        finally:
            living.kill()
            living.communicate(timeout=60)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_at_every_step_of_a_capture(tmp_path: Path, core: bytes, process: int, after: bool) -> None:
    seen = set()
    for number in range(1, STEPS):
        directory = tmp_path / str(number)
        settings = _configuration(directory)
        died = dying.dies(partial(_capture, settings, core, process), number, after=after)
        found = _next_guard(settings)
        seen.add(found)
        if not died:
            assert found == "whole"
            break
    assert not died
    assert seen == {"nothing", "truncated", "whole"}


def _configuration(directory: Path) -> config.Config:
    (directory / "store").mkdir(parents=True)
    file = directory / "guard.conf"
    file.write_text(
        f"[guard]\nnode = node-1\nspool = {directory}/spool\nstate = {directory}/state\n"
        f"runtime = {directory}/coredump-guard\n[spool]\nkeep_free = 0\n[store]\npath = {directory}/store\n"
    )
    return config.load(str(file))


def _capture(settings: config.Config, core: bytes, pid: int) -> None:
    """Capture a core that comes through a pipe, as a worker of the guard does."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with open(write_end, "wb", buffering=0) as pipe:
            pipe.write(core)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    Spool(settings.spool).prepare()
    os.makedirs(settings.state)
    policy = Policy(settings)
    arrival = Arrival(Crash(pid, pid, 11, time.time(), comm="crash"), read_end, os.pidfd_open(pid))
    outcome = engine.conclude(arrival, settings, policy)
    policy.settle()
    assert outcome.kind == "captured", outcome


def _next_guard(settings: config.Config) -> str:
    """Do as the next guard does, and return what it delivered: whole, truncated or nothing.

    What is waiting in the spool when the guard is dead was acknowledged: it must be whole.
    """
    spool = Spool(settings.spool)
    spool.prepare()
    acknowledged = spool.pending()
    for dump_id in spool.abandoned():
        salvage.salvage(spool, dump_id)
    assert os.listdir(f"{settings.spool}/incoming") == []
    found = "nothing"
    for dump_id in spool.pending():
        deliver(spool, dump_id, settings)
        inbox = Path(settings.store) / store.INBOX / dump_id
        found = verdict(Path(settings.store) / inbox.read_text().strip())
        assert dump_id not in acknowledged or found == "whole"
    assert len(list((Path(settings.store) / store.INBOX).glob("*"))) == (found != "nothing")
    return found


def test_in_a_storm_what_is_in_the_spool_is_delivered_once_and_the_rest_is_accounted_for(
    tmp_path: Path,
) -> None:
    """Cores that it was handed end with it: their pipes close. Those that come later are captured alone."""
    node_of_its_own = node_guard(tmp_path, "pipe", deadline=PATIENCE)
    with node_of_its_own as node, burst(STORM, "random", 1) as first, burst(LATER) as later:
        node.start()
        node.run("arm")
        storm = threading.Thread(target=first.go)
        storm.start()
        wait_for("some are captured", lambda: len(_acknowledged(node)) >= STORM // 20)
        node.stop(signal.SIGKILL)
        acknowledged = _acknowledged(node)
        later.go()
        storm.join(timeout=120)
        assert not storm.is_alive(), "a crashed process was not let go"
        node.start()
        crashed = {*first.pids, *later.pids}
        wait_for("all are accounted for", lambda: _ended(node) >= crashed, 60)
        wait_for("the spool is empty", lambda: not _lying(node), 60)
        delivered = node.delivered()
        verdicts = {record(dump).process.pid: verdict(dump) for dump in delivered}
        missed = _missed(node)
    assert len(verdicts) == len(delivered), "one crash was delivered twice"
    assert acknowledged <= {dump.name for dump in delivered}
    assert {verdicts.get(pid) for pid in later.pids} == {"whole"}
    assert missed | verdicts.keys() == crashed
    assert not missed & verdicts.keys()
    # How many were where when the guard was killed differs from run to run.
    modes = [record(dump).capture.mode for dump in delivered]
    cut = list(verdicts.values()).count("truncated")
    print(f"{modes.count('pipe')} by it, {modes.count('alone')} alone, {cut} cut, {len(missed)} missed")


def _acknowledged(node: NodeGuard) -> set[str]:
    """Return the ids of the dumps that are in the spool as wholes, or in the store."""
    waiting = node.spool / "ready"
    in_spool = {path.name for path in waiting.iterdir()} if waiting.is_dir() else set()
    return in_spool | {dump.name for dump in node.delivered()}


def _lying(node: NodeGuard) -> list[Path]:
    return [path for name in ("incoming", "ready") for path in (node.spool / name).iterdir()]


def _ended(node: NodeGuard) -> set[int]:
    """Return the processes whose crashes the journal or the store knows the end of."""
    return _missed(node) | {record(dump).process.pid for dump in node.delivered()}


def _missed(node: NodeGuard) -> set[int]:
    entries = journal.entries(str(node.directory / "state"))
    return {entry.pid for entry in entries if entry.event == "missed"}
