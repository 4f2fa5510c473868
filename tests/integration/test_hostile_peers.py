"""Visitors at the guard's two sockets who are not doormen and not the kernel: real guard, real users."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming
from testbed import programs
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

NOBODY = 65534
VISITOR = """
import socket, sys
peer = socket.socket(socket.AF_UNIX, int(sys.argv[2]))
peer.settimeout(20)
try:
    peer.connect(sys.argv[1])
    peer.send(sys.argv[3].encode())
    print(repr(peer.recv(1 << 16)))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module", params=["pipe", "socket"])
def guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuard]:
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    settings = {"policy__loop_newest": 1000, "policy__loop_window": 1}
    with node_guard(tmp_path_factory.mktemp("peers"), request.param, **settings) as node:
        node.runtime.chmod(0o755)  # as it is on a node
        node.start()
        node.run("arm")
        yield node


def doors(guard: NodeGuard) -> list[tuple[Path, socket.SocketKind]]:
    """Return the sockets that this guard listens on."""
    known = [("guard.sock", socket.SOCK_SEQPACKET), ("kernel.sock", socket.SOCK_STREAM)]
    return [(guard.runtime / name, kind) for name, kind in known if (guard.runtime / name).exists()]


def said_to_nobody(path: Path, kind: int, message: str) -> str:
    """Visit a socket as another user and return what became of it."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += ["/usr/bin/python3", "-I", "-c", VISITOR, str(path), str(int(kind)), message]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def descriptors(guard: NodeGuard) -> int:
    assert guard.process is not None
    return len(os.listdir(f"/proc/{guard.process.pid}/fd"))


def goes_on(guard: NodeGuard) -> str:
    """Crash a process honestly and return by which way it was captured: what a doorman did alone waits."""
    there = {path.name for path in _dumps(guard)}

    def look() -> str | None:
        with contextlib.suppress(FileNotFoundError):  # it is being delivered
            for path in _dumps(guard):
                if path.name not in there:
                    assert record(path).core.truncated is None
                    return record(path).capture.mode
        return None

    with pod_cgroup() as prefix:
        crash([programs.program("crash")], prefix)
        return wait_for("a dump is kept", look)


def _dumps(guard: NodeGuard) -> list[Path]:
    return [*(guard.spool / "ready").iterdir(), *guard.delivered()]


def test_cve_2015_1318_no_other_user_reaches_a_socket(guard: NodeGuard) -> None:
    for path, kind in doors(guard):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert said_to_nobody(path, kind, "status") == "PermissionError"


def test_another_user_who_reaches_a_socket_is_told_nothing(guard: NodeGuard) -> None:
    """The sockets' mode is not the only lock: the kernel says who the visitor is."""
    crash_message = "\0".join(["crash", "1", "1", "11", "0", "1", "0", "F", "h", "c"])
    for path, kind in doors(guard):
        path.chmod(0o666)
        try:
            for message in ("status", crash_message, "x" * 5000):
                assert said_to_nobody(path, kind, message.replace("\0", "\N{SYMBOL FOR NULL}")) in (
                    "b''",
                    "ConnectionResetError",
                    "BrokenPipeError",
                )
        finally:
            path.chmod(0o600)
    assert "user 65534 is not root" in guard.log.read_text()
    goes_on(guard)


def test_a_visitor_who_is_not_the_kernel_is_turned_away(guard: NodeGuard) -> None:
    before = descriptors(guard)
    for path, kind in doors(guard):
        for message in (b"", os.urandom(60000), b"crash\0" * 100, b"\x10\0\0\0\x10\0\0\0\x0f\0\0\0\0\0\0\0"):
            with socket.socket(socket.AF_UNIX, kind) as peer:
                peer.settimeout(20)
                peer.connect(str(path))
                with contextlib.suppress(OSError):  # it may have been shown the door already
                    peer.send(message)
                    assert peer.recv(100) == b""
    wait_for("nothing is left of them", lambda: descriptors(guard) <= before)
    assert goes_on(guard) in ("pipe", "socket")


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_descriptors_that_nobody_asked_for_are_let_go(guard: NodeGuard, count: int) -> None:
    before = descriptors(guard)
    path, kind = doors(guard)[0]
    with open(os.devnull, "rb") as null:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX, kind) as peer, contextlib.suppress(OSError):
                peer.settimeout(20)
                peer.connect(str(path))
                socket.send_fds(peer, [b"status and more"], [null.fileno()] * count)
                assert peer.recv(100) == b""
    wait_for("nothing is left of them", lambda: descriptors(guard) <= before)
    assert goes_on(guard) in ("pipe", "socket")


def test_a_thousand_who_say_nothing_cost_no_core(guard: NodeGuard) -> None:
    """Only root can do this. They stand in the doormen's way, but a doorman can do it alone."""
    path, kind = doors(guard)[-1]
    with contextlib.ExitStack() as silent:
        for _ in range(1000):
            peer = silent.enter_context(socket.socket(socket.AF_UNIX, kind))
            peer.settimeout(20)
            peer.connect(str(path))
        assert goes_on(guard) in ("alone", "socket")
    wait_for("the guard is at work again", lambda: guard.status()["guard"], 60)
    assert goes_on(guard) in ("pipe", "socket")
