"""The guard put together: what it accepted is in the spool when it ends, and no crash ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_guard import arming, engine, pipedoor, service, status
from coredump_guard.arming import ArmingError, Settings
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.engine import Outcome
from coredump_guard.pattern import Crash
from coredump_guard.service import Guard
from coredump_guard.spool import Spool
from testbed.waiting import wait_for

from .conftest import Spooled, pipe, roots_socket


@contextmanager
def running(config: Config) -> Iterator[subprocess.Popen[str]]:
    """Run a guard of the configuration, and see that it ends cleanly."""
    Path(config.path).write_text(
        f"[guard]\nnode = {config.node}\nspool = {config.spool}\nstate = {config.state}\n"
        f"runtime = {config.runtime}\nmode = pipe\n[store]\npath = {config.store}\n"
    )
    command = [sys.executable, "-m", "coredump_guard", "--config", config.path, "run"]
    path = {"PYTHONPATH": os.path.dirname(os.path.dirname(service.__file__))}
    with subprocess.Popen(command, env=path, stderr=subprocess.PIPE, text=True) as guard:
        try:
            wait_for("the guard", lambda: guard.poll() is not None or answers(config))
            yield guard
            guard.send_signal(signal.SIGTERM)
            assert guard.wait(timeout=30) == 0
        finally:
            guard.kill()


def answers(config: Config) -> bool:
    try:
        return bool(pipedoor.ask_status(config.guard_socket))
    except OSError:
        return False


@roots_socket
def test_it_starts_answers_delivers_and_ends(config: Config, spooled: Spooled, spool: Spool) -> None:
    record = spooled()
    Path(spool.root, "incoming", "cut-off").mkdir()
    with running(config) as guard:
        wait_for("the delivery", lambda: status.gather(config)["guard"]["delivered"] == 1)
        guard.send_signal(signal.SIGINT)
        assert guard.wait(timeout=30) == 0
        assert guard.stderr is not None
        said = guard.stderr.read()
    assert spool.pending() == []
    assert os.listdir(f"{spool.root}/incoming") == []
    assert f"info: delivered dump={record.id}" in said
    assert "warning: a capture was cut off before anything was known dump=cut-off" in said
    assert said.splitlines()[-1] == "info: ended captured=0 handed_on=0"
    assert not answers(config)


@roots_socket
def test_another_guard_takes_the_place_of_one_that_was_killed(config: Config, spool: Spool) -> None:
    with pytest.raises(AssertionError), running(config) as killed:
        killed.kill()
        killed.wait(timeout=30)
    with running(config):
        assert answers(config)


@roots_socket
def test_a_second_guard_is_refused_and_the_first_goes_on(config: Config) -> None:
    with running(config) as first:
        command = [sys.executable, "-m", "coredump_guard", "--config", config.path, "run"]
        path = {"PYTHONPATH": os.path.dirname(os.path.dirname(service.__file__))}
        second = subprocess.run(command, check=False, timeout=30, env=path, capture_output=True, text=True)
        assert second.returncode == 1
        assert second.stderr == (
            f"coredump-guard: {config.runtime}/guard.lock: another guard holds this lock, "
            f"process {first.pid}: stop it, or give this one its own runtime\n"
        )
        assert answers(config)


def worked(guard: Guard, count: int) -> None:
    """Let one worker deal with so many crashes."""
    with pipe() as (core, _):
        for pid in range(count):
            guard.waiting.put(Arrival(Crash(pid), os.dup(core)))
        guard.waiting.put(None)
        worker = threading.Thread(target=guard._work, daemon=True)
        worker.start()
        worker.join(timeout=30)
        assert not worker.is_alive()


@pytest.mark.parametrize("error", [ArmingError("damaged"), PermissionError(1, "Operation not permitted")])
def test_a_kernel_that_cannot_be_armed_anew_neither_stops_the_start_nor_the_end(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(arming, "current", lambda: Settings(f"@@{config.kernel_socket}", "0"))
    monkeypatch.setattr(arming, "arm", fail)
    guard = Guard(config)
    guard._rearm()
    guard._close_doors([])
    assert "warning: the kernel stays at another door" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), KeyError("x"), RecursionError(), ValueError("\n")]
)
def test_no_crash_ends_the_guard_and_each_is_accounted_for(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    guard = Guard(config)
    outcomes: Iterator[Exception | Outcome] = iter([error, Outcome("handed on", "to /x"), error])

    def handle(*_: object) -> Outcome:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(engine, "handle", handle)
    before = len(os.listdir("/proc/self/fd"))
    worked(guard, 3)
    assert (guard.counts.captured, guard.counts.handed_on, guard.counts.missed) == (0, 1, 2)
    assert len(os.listdir("/proc/self/fd")) == before
    said = capsys.readouterr().err
    assert said.count("error: missed") == 2
    assert said.count("\n") == 3
    assert type(error).__name__ in said


def test_an_end_that_cannot_be_written_down_ends_no_worker(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = Guard(config)
    monkeypatch.setattr(engine, "handle", lambda *_: Outcome("handed on", "to /x"))
    failures = [OSError(23, "Too many open files in system")]

    def rfc3339(_: float) -> str:
        if failures:
            raise failures.pop()
        return "2026-11-24T00:00:00Z"

    monkeypatch.setattr(engine, "rfc3339", rfc3339)
    before = len(os.listdir("/proc/self/fd"))
    worked(guard, 2)
    assert guard.counts.handed_on == 1
    assert "not written down" in capsys.readouterr().err
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_capture_is_counted_and_wakes_delivery(
    config: Config, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spooled()
    guard = Guard(config)
    monkeypatch.setattr(engine, "handle", lambda *_: Outcome("captured", record=record))
    worked(guard, 2)
    assert (guard.counts.captured, guard.counts.last) == (2, record.id)
    assert guard.deliverer._wake.is_set()
