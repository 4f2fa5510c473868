"""The doorman as the kernel starts it: isolated, no environment, and no descriptor but 0 and perhaps 3."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import doorman, pipedoor, runtime, store
from coredump_guard.config import Config
from coredump_guard.record import Record
from coredump_guard.spool import Spool
from testbed.waiting import wait_for

from .conftest import Door, pipe, roots_socket

CORE = b"\x7fELF" + bytes(range(256)) * 16
leaves_its_socket = pytest.mark.filterwarnings("ignore::ResourceWarning")  # to the end of its process


def run(config: Config, arguments: list[str], core: int, pidfd: int | None = None) -> None:
    """Start the doorman with the kernel's descriptors and wait for its end."""
    command = [sys.executable, "-I", "-S", config.doorman, *arguments]
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, core, 0)]
    actions += [(os.POSIX_SPAWN_CLOSE, 1), (os.POSIX_SPAWN_CLOSE, 2)]
    if pidfd is not None:
        actions.append((os.POSIX_SPAWN_DUP2, pidfd, 3))
    pid = os.posix_spawn(sys.executable, command, {}, file_actions=actions)
    try:
        wait_for("the doorman's end", lambda: os.waitpid(pid, os.WNOHANG)[0])
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def arguments(pid: int, *, pidfd: str = "F", comm: str = "app") -> list[str]:
    return [str(pid), str(pid), "11", "1700000000", "1", str((1 << 64) - 1), pidfd, "web", comm]


def ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait(timeout=30)
    return process.pid


@roots_socket
@pytest.mark.parametrize("with_pidfd", [False, True])
def test_it_hands_over_the_core_and_the_arguments(installed: Config, with_pidfd: bool) -> None:
    door = Door(Path(installed.guard_socket))
    try:
        with pipe() as (core, end):
            pidfd = os.pidfd_open(os.getpid()) if with_pidfd else None
            run(installed, arguments(300, pidfd="F3" if with_pidfd else "F", comm="a b) \n"), core, pidfd)
            if pidfd is not None:
                os.close(pidfd)
            os.write(end, CORE)
        arrival = wait_for("the crash", lambda: door.arrived)[0]
        assert os.read(arrival.core, 1 << 16) == CORE
        assert os.read(arrival.core, 1) == b""
        assert (arrival.crash.pid, arrival.crash.comm, arrival.crash.mode) == (300, "a b) \n", "pipe")
        if with_pidfd:
            assert arrival.pidfd is not None
            assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{arrival.pidfd}").read_text()
        else:
            assert arrival.pidfd is None
    finally:
        door.end()
    assert Spool(installed.spool).pending() == []


def test_without_a_guard_it_captures_alone(installed: Config, spool: Spool) -> None:
    """Also where it has something to warn of, and no standard error: this process is gone already."""
    with pipe() as (core, end):
        os.write(end, CORE)
        os.dup2(core, end)  # the writer's end is closed
        run(installed, arguments(ended_process()), core)
    (dump_id,) = spool.pending()
    record = spool.record(dump_id)
    assert (record.capture.mode, record.process.comm, record.signal.name) == ("alone", "app", "SIGSEGV")
    assert record.core.bytes == len(CORE)
    assert stored_core(spool, record) == CORE
    assert os.listdir(f"{spool.root}/incoming") == []


def stored_core(spool: Spool, record: Record) -> bytes:
    path = Path(spool.path(record.id))
    raw = path / store.RAW_CORE
    return raw.read_bytes() if raw.exists() else gzip.decompress((path / store.CORE).read_bytes())


@roots_socket
def test_a_hosts_crash_without_a_guard_is_handed_on(installed: Config, spool: Spool, tmp_path: Path) -> None:
    """To the kernel's default, where nothing is remembered: a file in the working directory."""
    home = tmp_path / "home"
    home.mkdir()
    core = CORE * 100  # longer than a pipe holds, so that its writer is at work
    read_end, write_end = os.pipe()

    def produce() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(core)

    with subprocess.Popen(["sleep", "60"], cwd=home) as process:
        try:
            pidfd = os.pidfd_open(process.pid)
            threading.Thread(target=produce, daemon=True).start()
            run(installed, arguments(process.pid, pidfd="F3"), read_end, pidfd)
        finally:
            process.kill()
            os.close(read_end)
            os.close(pidfd)
    (name,) = os.listdir(home)
    assert name.startswith("core")
    assert (home / name).read_bytes() == core
    assert spool.pending() == []


def test_a_guard_that_died_leaves_it_alone(installed: Config, spool: Spool) -> None:
    pipedoor.listen(installed.guard_socket, socket.SOCK_SEQPACKET).close()
    with pipe() as (core, end):
        os.write(end, CORE)
        os.dup2(core, end)
        run(installed, arguments(ended_process()), core)
    assert len(spool.pending()) == 1


@leaves_its_socket
def test_a_guard_that_does_not_answer_loses_the_offer(
    installed: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "ANSWER_SECONDS", 1)
    listening = pipedoor.listen(installed.guard_socket, socket.SOCK_SEQPACKET)
    with listening, pipe() as (core, _):
        assert not doorman.hand_over(installed.guard_socket, arguments(300), [core])
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(1 << 16).startswith(b"crash\x00300")
            with pytest.raises(BrokenPipeError):
                peer.send(b"t")


@leaves_its_socket
@pytest.mark.parametrize("answer", [b"", b"n", b"{}"])
def test_an_answer_that_is_none_means_not_taken(installed: Config, answer: bytes) -> None:
    listening = pipedoor.listen(installed.guard_socket, socket.SOCK_SEQPACKET)

    def reply() -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(1 << 16)
            peer.send(answer)

    thread = threading.Thread(target=reply, daemon=True)
    thread.start()
    with listening, pipe() as (core, _):
        assert not doorman.hand_over(installed.guard_socket, arguments(300), [core])
        thread.join(timeout=10)


LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import doorman
print(sorted(set(sys.modules) - before - {"doorman"}))
"""


def test_its_imports_stay_tiny() -> None:
    """A dying process waits for each of them, and a thousand doormen may run at once."""
    directory = str(Path(doorman.__file__).parent)
    command = [sys.executable, "-I", "-S", "-c", LOADED, directory]
    assert subprocess.check_output(command, text=True, timeout=30) == "['_socket']\n"


def test_a_configuration_given_elsewhere_is_found_by_its_link(installed: Config) -> None:
    moved = replace(installed, path=installed.path + ".moved")
    os.rename(installed.path, moved.path)
    runtime.link(moved)
    with pipe() as (core, end):
        os.write(end, CORE)
        os.dup2(core, end)
        run(installed, arguments(ended_process()), core)
    assert len(Spool(installed.spool).pending()) == 1
