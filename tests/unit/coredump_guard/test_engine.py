"""What becomes of a crash: a pod's is captured, a host's handed on, and what goes wrong is captured too."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import engine, identity, journal
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.engine import Outcome, conclude, handle
from coredump_guard.pattern import Crash
from coredump_guard.policy import Policy
from coredump_guard.record import Identity
from coredump_guard.spool import Spool

UID, C = "4a3f1b52-8f3d-4b0e-9f60-0d9f6f1f2a11", "c" * 64
IN_POD = f"0::/kubepods/burstable/pod{UID}/{C}\n"
ON_HOST = "0::/system.slice/ssh.service\n"
LIVING = "4711 (app) S 1 4711 4711 0 -1 4194304 0\n"
EXITING = LIVING.replace("4194304", str(4194304 | 4))
CORE = b"\x7fELF" + bytes(200_000)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a /proc in which process 4711 runs, in no cgroup yet."""
    directory = tmp_path / "proc" / "4711"
    directory.mkdir(parents=True)
    (directory / "status").write_text("Name:\tapp\nPPid:\t1\n")
    (directory / "stat").write_text(LIVING)
    (directory / "exe").symlink_to("/bin/app")
    (directory / "cwd").symlink_to(tmp_path)
    monkeypatch.setattr(engine, "PROC", str(tmp_path / "proc"))
    return directory


@contextmanager
def arrival() -> Iterator[Arrival]:
    """Return a crash whose core is longer than the pipe: its writer is at work while it is looked at."""
    read_end, write_end = os.pipe()

    def produce() -> None:
        rest = memoryview(CORE)
        try:
            while rest:
                rest = rest[os.write(write_end, rest) :]
        except BrokenPipeError:
            pass
        finally:
            os.close(write_end)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    arrived = Arrival(Crash(4711, None, 11, 1_700_000_000.0, comm="app"), read_end)
    try:
        yield arrived
    finally:
        arrived.close()
        producer.join(timeout=30)


def handled(config: Config) -> Outcome:
    with arrival() as arrived:
        return handle(arrived, config, Policy(config))


def remember(config: Config, original: str, suid_dumpable: str = "2") -> None:
    os.makedirs(config.state)
    settings = {"core_pattern": original, "core_pipe_limit": "0", "suid_dumpable": suid_dumpable}
    Path(config.state, "original.json").write_text(json.dumps(settings))


def test_a_pods_crash_is_captured(config: Config, spool: Spool, proc: Path) -> None:
    (proc / "cgroup").write_text(IN_POD)
    outcome = handled(config)
    assert (outcome.kind, outcome.whose) == ("captured", "unidentified")
    assert outcome.record is not None
    assert outcome.record.identity == Identity(poduid=UID, container_id=C)
    assert (outcome.record.core.bytes, outcome.dump) == (len(CORE), spool.pending()[0])
    assert outcome.record.process.executable == "/bin/app"


def test_a_pods_crash_that_can_be_named_says_whose(
    config: Config, spool: Spool, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "cgroup").write_text(IN_POD)
    monkeypatch.setattr(identity, "identify", lambda _: Identity("demo", "web", UID, "app"))
    assert handled(config).whose == "demo/web/app"


def test_a_hosts_crash_is_handed_on(config: Config, spool: Spool, proc: Path) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    remember(config, "|/bin/true")
    outcome = handled(config)
    assert (outcome.kind, outcome.detail, outcome.whose) == ("handed on", "to /bin/true", "host")
    assert (outcome.record, outcome.dump) == (None, None)
    assert spool.pending() == []


@pytest.mark.parametrize("original", ["|/no/such/program", "@/run/x", "|", "/no/such/directory/core"])
def test_a_hosts_crash_that_cannot_be_handed_on_is_kept(
    config: Config, spool: Spool, proc: Path, original: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    remember(config, original)
    outcome = handled(config)
    assert (outcome.kind, outcome.whose) == ("captured", "host")
    assert outcome.record is not None
    assert (outcome.record.identity, outcome.record.core.bytes) == (Identity(host=True), len(CORE))
    assert spool.pending() == [outcome.dump]
    assert "a host's crash is kept, it could not be handed on" in capsys.readouterr().err


def test_a_process_that_has_gone_is_captured_unnamed(
    config: Config, spool: Spool, proc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(proc)
    outcome = handled(config)
    assert outcome.record is not None
    assert (outcome.record.identity, outcome.record.core.bytes) == (Identity(), len(CORE))
    assert "a crash could not be looked up pid=4711" in capsys.readouterr().err


def test_a_cgroup_that_cannot_be_read_is_captured_unnamed(config: Config, spool: Spool, proc: Path) -> None:
    outcome = handled(config)
    assert outcome.record is not None
    assert outcome.record.identity == Identity()
    assert outcome.record.process.executable == "/bin/app"


def test_a_memory_that_cannot_be_read_does_not_cost_a_hosts_core(
    config: Config, spool: Spool, proc: Path
) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    os.makedirs(config.state)
    Path(config.state, "original.json").write_text("{")
    outcome = handled(config)
    assert outcome.kind == "captured"
    assert spool.pending() == [outcome.dump]


def test_a_crash_that_is_killed_while_it_is_looked_at_is_not_taken_for_a_hosts(
    config: Config, spool: Spool, proc: Path
) -> None:
    """On cgroup v1 a pod's process that exits looks like a host's; the host's handler is not its."""
    remember(config, "|/bin/true")
    (proc / "cgroup").write_text(ON_HOST)
    (proc / "stat").write_text(EXITING)
    outcome = handled(config)
    assert outcome.kind == "captured"
    assert outcome.record is not None
    assert (outcome.record.identity, outcome.record.core.bytes) == (Identity(), len(CORE))
    assert spool.pending() == [outcome.dump]


def settings(config: Config, **changed: object) -> Config:
    return replace(config, **changed)  # type: ignore[arg-type]


def test_a_hosts_crash_may_be_kept(config: Config, spool: Spool, proc: Path) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    outcome = handled(settings(config, host_crashes="keep"))
    assert (outcome.kind, outcome.whose) == ("captured", "host")
    assert spool.record(spool.pending()[0]).identity == Identity(host=True)


def test_a_hosts_crash_may_be_dropped(config: Config, spool: Spool, proc: Path) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    outcome = handled(settings(config, host_crashes="drop"))
    assert (outcome.kind, outcome.detail) == ("refused", "[policy] host_crashes = drop")
    assert (outcome.executable, outcome.dump, spool.pending()) == ("/bin/app", None, [])


def test_a_core_that_proves_too_large_becomes_a_record(config: Config, spool: Spool, proc: Path) -> None:
    (proc / "cgroup").write_text(IN_POD)
    outcome = handled(settings(config, largest_core=1000))
    assert outcome.kind == "refused"
    assert outcome.detail.startswith("[policy] largest_core = 1000: the core has ")
    assert outcome.record is not None
    assert (outcome.record.refused, spool.pending()) == (outcome.detail, [outcome.dump])


def test_crashes_of_a_loop_are_counted_and_cost_no_look(
    config: Config, spool: Spool, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "cgroup").write_text(IN_POD)
    config = settings(config, loop_newest=0)
    policy = Policy(config)
    ends = []
    for number in range(4):
        (proc / "stat").write_text(LIVING.replace(" 0\n", f" 0{' 0' * 12} {number}\n"))
        if number:
            monkeypatch.setattr(engine, "capture", lambda *_: pytest.fail("captured"))
        with arrival() as arrived:
            ends.append(conclude(arrived, config, policy))
    assert [outcome.kind for outcome in ends] == ["captured"] + ["refused"] * 3
    assert len({outcome.dump for outcome in ends[1:]}) == 1
    policy.settle()
    assert spool.record(str(ends[1].dump)).crashes == 3
    lines = list(journal.entries(config.state))
    assert [(line.event, line.dump) for line in lines] == [(end.kind, end.dump) for end in ends]


def test_every_end_is_in_the_journal(
    config: Config, spool: Spool, proc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (proc / "cgroup").write_text(IN_POD)
    shutil.rmtree(f"{spool.root}/incoming")
    Path(spool.root, "incoming").write_text("in the way")
    with arrival() as arrived:
        outcome = conclude(arrived, config, Policy(config))
    (line,) = journal.entries(config.state)
    assert (line.event, line.pid, line.executable) == ("missed", 4711, "app")
    assert line.reason == outcome.detail
    assert "error: missed" in capsys.readouterr().err


@pytest.mark.parametrize(("before", "dumpable", "handed_on"), [("0", 2, ""), ("0", 1, "x"), ("2", 2, "x")])
def test_what_the_host_would_not_have_dumped_is_not_handed_on(
    config: Config, spool: Spool, proc: Path, before: str, dumpable: int, handed_on: str
) -> None:
    (proc / "cgroup").write_text(ON_HOST)
    remember(config, "|/bin/true", before)
    with arrival() as arrived:
        arrived.crash = replace(arrived.crash, dumpable=dumpable)
        outcome = handle(arrived, config, Policy(config))
    assert outcome.kind == "handed on"
    assert outcome.detail.startswith("to /bin/true" if handed_on else "nowhere: it changed its ids, and fs.")
    assert spool.pending() == []
