"""What becomes of a crash: a pod's is captured, a host's handed on, and what goes wrong is captured too."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_guard import engine, identity
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.engine import Outcome, handle
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


def remember(config: Config, original: str) -> None:
    os.makedirs(config.state)
    Path(config.state, "original.json").write_text(
        f'{{"core_pattern": "{original}", "core_pipe_limit": "0"}}'
    )


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
