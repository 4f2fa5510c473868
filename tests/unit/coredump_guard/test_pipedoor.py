"""The guard's socket: doormen hand over, strangers get nothing, and no descriptor stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coredump_guard import pipedoor
from coredump_guard.arrival import Arrival
from testbed.waiting import wait_for

from .conftest import Door, descriptors, pipe, roots_socket, wait_for_log

ARGUMENTS = [b"300", b"301", b"11", b"1700000000", b"1", b"0", b"F", b"web", b"app"]
CRASH = b"\0".join([b"crash", *ARGUMENTS])
SETRESUID = {"x86_64": 117, "aarch64": 147}.get(os.uname().machine)


def test_a_crash_is_taken_with_its_core(door: Door) -> None:
    with pipe() as (core, end):
        assert door.say(CRASH, [core]) == b"t"
        os.write(end, b"core")
    arrival = wait_for("the crash", lambda: door.arrived)[0]
    assert (arrival.crash.pid, arrival.crash.tid, arrival.crash.comm) == (300, 301, "app")
    assert (arrival.crash.mode, arrival.pidfd) == ("pipe", None)
    assert os.read(arrival.core, 10) == b"core"
    assert os.read(arrival.core, 10) == b""


def test_a_pidfd_comes_along(door: Door) -> None:
    with pipe() as (core, _):
        pidfd = os.pidfd_open(os.getpid())
        assert door.say(CRASH, [core, pidfd]) == b"t"
        os.close(pidfd)
    arrival = wait_for("the crash", lambda: door.arrived)[0]
    assert arrival.pidfd is not None
    assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{arrival.pidfd}").read_text()


def test_hostile_names_arrive_as_they_are(door: Door) -> None:
    message = b"\0".join([b"crash", *ARGUMENTS[:7], b"h\xff\n", b"a b) \xfe"])
    with pipe() as (core, _):
        assert door.say(message, [core]) == b"t"
    crash = wait_for("the crash", lambda: door.arrived)[0].crash
    assert crash.comm.encode(errors="surrogateescape") == b"a b) \xfe"
    assert crash.hostname.encode(errors="surrogateescape") == b"h\xff\n"


def test_status(door: Door) -> None:
    assert door.say(b"status") == b'{"status": 1}'
    assert pipedoor.ask_status(door.path) == '{"status": 1}'


def test_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pipedoor.ask_status(str(tmp_path / "none.sock"))
    pipedoor.listen(str(tmp_path / "dead.sock"), socket.SOCK_SEQPACKET).close()
    with pytest.raises(ConnectionRefusedError):
        pipedoor.ask_status(str(tmp_path / "dead.sock"))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"crash",
        b"hello",
        b"status\0",
        b"\xff\xfe",
        CRASH.replace(b"300", b"-1"),
        CRASH.replace(b"\0F\0", b"\0x\0"),
        b"\0".join([b"crash", *ARGUMENTS[:6]]),
        b"crash\0" + b"9" * 60_000,
    ],
)
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_what_is_not_understood_leaves_no_descriptor(
    door: Door, message: bytes, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pipe() as (core, _):
        before = descriptors()
        assert door.say(message, [core] * count) == b""
        wait_for("the door lets go", lambda: descriptors() == before)
    assert door.arrived == []
    assert door.say(b"status") == b'{"status": 1}'
    assert "a visitor to the guard's socket was not understood" in capsys.readouterr().err


def test_a_status_that_brings_descriptors_leaves_none(door: Door) -> None:
    with pipe() as (core, _):
        before = descriptors()
        assert door.say(b"status", [core]) == b""
        wait_for("the door lets go", lambda: descriptors() == before)


def test_more_descriptors_than_a_doorman_has_leave_none(door: Door) -> None:
    with pipe() as (core, _):
        before = descriptors()
        assert door.say(CRASH, [core] * 6) == b"t"
        arrival = wait_for("the crash", lambda: door.arrived)[0]
        arrival.close()
        assert descriptors() == before


@roots_socket
def test_a_withdrawn_offer_leaves_the_guard_without_descriptors(tmp_path: Path) -> None:
    """The doorman waited too long and captures by itself: then nobody else may read the core."""
    listening = pipedoor.listen(str(tmp_path / "guard.sock"), socket.SOCK_SEQPACKET)
    arrived: list[Arrival] = []
    with pipe() as (core, _), closing(listening):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(str(tmp_path / "guard.sock"))
        socket.send_fds(peer, [CRASH], [core, core])
        peer.shutdown(socket.SHUT_RD)
        before = descriptors()
        thread = threading.Thread(target=pipedoor.serve, args=(listening, arrived.append, str), daemon=True)
        thread.start()
        peer.settimeout(10)
        assert peer.recv(1) == b""
        peer.close()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        assert descriptors() == before - 1
    assert arrived == []


def test_a_visitor_that_says_nothing_holds_nobody_up(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipedoor, "PATIENCE", 0.05)
    with door.connect():
        assert door.say(b"status") == b'{"status": 1}'
    with door.connect():
        pass
    assert door.say(b"status") == b'{"status": 1}'
    assert "was not understood" in capsys.readouterr().err


def test_cve_2015_1318_the_socket_is_roots_alone(door: Door) -> None:
    status = os.lstat(door.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert status.st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0 or SETRESUID is None, reason="needs root and a known setresuid(2)")
def test_a_visitor_who_is_not_root_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the socket's mode was changed: the kernel says who connected."""
    answers: list[bytes] = []

    def visit(path: str, core: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(10)
            assert ctypes.CDLL(None).syscall(SETRESUID, 4242, 4242, 4242) == 0  # this thread's only
            peer.connect(path)
            try:
                socket.send_fds(peer, [CRASH], [core])
                answers.append(peer.recv(10))
            except (BrokenPipeError, ConnectionResetError):  # refused before a word was said
                answers.append(b"")

    with tempfile.TemporaryDirectory() as directory, pipe() as (core, _):
        os.chmod(directory, 0o711)  # noqa: S103 # another user shall come as far as the door
        door = Door(Path(directory, "guard.sock"))
        os.chmod(door.path, 0o666)  # noqa: S103 # ... and knock
        try:
            before = descriptors()
            thread = threading.Thread(target=visit, args=(door.path, core), daemon=True)
            thread.start()
            thread.join(timeout=20)
            wait_for("the door lets go", lambda: descriptors() == before)
        finally:
            door.end()
    assert answers == [b""]
    assert door.arrived == []
    assert 'error="user 4242 is not root"' in capsys.readouterr().err


def test_what_a_guard_before_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    first = pipedoor.listen(str(path), socket.SOCK_SEQPACKET)
    with closing(first), closing(pipedoor.listen(str(path), socket.SOCK_SEQPACKET)):
        pass
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    pipedoor.listen(str(path), socket.SOCK_SEQPACKET).close()
    assert not path.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_the_umask_is_what_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        pipedoor.listen(str(tmp_path / "a.sock"), socket.SOCK_SEQPACKET).close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filling:
            os.close(fd)


@roots_socket
def test_out_of_descriptors_crashes_wait_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a storm of crashes makes it: each that waits is a descriptor or two."""
    monkeypatch.setattr(pipedoor, "BREATHER", 0.01)
    listening = pipedoor.listen(str(tmp_path / "guard.sock"), socket.SOCK_SEQPACKET)
    arrived: list[Arrival] = []
    thread = threading.Thread(target=pipedoor.serve, args=(listening, arrived.append, str), daemon=True)
    with (
        closing(listening),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer,
        pipe() as (core, _),
    ):
        peer.settimeout(10)
        peer.connect(str(tmp_path / "guard.sock"))
        socket.send_fds(peer, [CRASH], [core])
        with no_descriptor_left():
            thread.start()
            said = wait_for_log(capsys, "they wait")
        assert peer.recv(1) == b"t"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
    assert "Too many open files" in said
    assert len(arrived) == 1
    arrived[0].close()
