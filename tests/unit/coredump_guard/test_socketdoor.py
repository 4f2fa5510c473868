"""The kernel's socket: a pair of sockets plays the kernel's part of the protocol, field by field."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coredump_guard import pipedoor, socketdoor
from coredump_guard.arrival import Arrival
from coredump_guard.pattern import Crash
from coredump_guard.socketdoor import KERNEL, REJECT, USERSPACE, WAIT, ProtocolError, SocketArrival
from testbed.waiting import wait_for

ALL = KERNEL | USERSPACE | REJECT | WAIT


@contextmanager
def kernel(said: bytes = struct.pack("=IIQ", 16, 16, ALL)) -> Iterator[tuple[socket.socket, SocketArrival]]:
    """Return the kernel's end, on which the request has been said, and the crash at ours."""
    ours, kernels = socket.socketpair()
    kernels.settimeout(10)
    kernels.sendall(said)
    arrival = SocketArrival(Crash(1, mode="socket"), ours.detach())
    with kernels, closing(arrival):
        yield kernels, arrival


def acknowledged(kernels: socket.socket) -> tuple[int, ...]:
    return struct.unpack("=IIQ", kernels.recv(100))


def test_the_core_is_asked_for_and_the_process_kept() -> None:
    with kernel() as (kernels, arrival):
        kernels.sendall(b"\0\0\0\0core")
        arrival.begin()
        assert acknowledged(kernels) == (16, 0, KERNEL | WAIT)
        assert os.read(arrival.core, 100) == b"core"
        assert os.get_blocking(arrival.core)


def test_it_is_asked_once() -> None:
    with kernel() as (kernels, arrival):
        kernels.sendall(b"\0\0\0\0")
        arrival.begin()
        arrival.begin()
        arrival.refuse()
        assert acknowledged(kernels) == (16, 0, KERNEL | WAIT)
        kernels.setblocking(False)
        with pytest.raises(BlockingIOError):
            kernels.recv(1)


def test_a_core_is_refused_before_a_byte_moves() -> None:
    with kernel() as (kernels, arrival):
        kernels.sendall(b"\0\0\0\0")
        arrival.refuse()
        assert acknowledged(kernels) == (16, 0, REJECT)


def test_a_later_kernels_longer_request_is_read_whole() -> None:
    with kernel(struct.pack("=IIQ", 40, 32, ALL | 16) + bytes(24)) as (kernels, arrival):
        kernels.sendall(b"\0\0\0\0core")
        arrival.begin()
        assert acknowledged(kernels) == (16, 0, KERNEL | WAIT)
        assert os.read(arrival.core, 100) == b"core"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (struct.pack("=IIQ", 16, 16, KERNEL | REJECT), "the kernel offers 0x5, 0x9 is needed"),
        (struct.pack("=IIQ", 16, 16, 0), "the kernel offers 0x0, 0x9 is needed"),
        (struct.pack("=IIQ", 16, 8, ALL), "0x9 is needed"),
    ],
)
def test_a_kernel_that_offers_less_is_told(request_: bytes, reason: str) -> None:
    with kernel(request_) as (_, arrival), pytest.raises(ProtocolError, match=reason):
        arrival.begin()


@pytest.mark.parametrize("mark", [1, 2, 3, 4, 1 << 31])
def test_a_mark_that_is_no_acknowledgement_is_told(mark: int) -> None:
    with kernel() as (kernels, arrival):
        kernels.sendall(struct.pack("=I", mark))
        with pytest.raises(
            ProtocolError, match=f"refuses our acknowledgement: {struct.pack('=I', mark).hex()}"
        ):
            arrival.begin()


@pytest.mark.parametrize(
    "said", [b"", b"\x10", struct.pack("=IIQ", 16, 16, ALL)[:-1], struct.pack("=IIQ", 99, 16, ALL)]
)
def test_a_kernel_that_hangs_up_is_told(said: bytes) -> None:
    with kernel(said) as (kernels, arrival):
        kernels.shutdown(socket.SHUT_WR)
        for _ in range(2):  # what failed is not taken for done
            with pytest.raises(ConnectionError, match="the kernel closed the connection"):
                arrival.begin()


@pytest.mark.parametrize("said", [b"", b"\x10", struct.pack("=IIQ", 16, 16, ALL)])
def test_a_process_that_died_meanwhile_is_refused_without_exception(said: bytes) -> None:
    with kernel(said) as (kernels, arrival):
        kernels.close()
        arrival.refuse()


def test_a_kernel_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socketdoor, "PATIENCE", 0.02)
    with kernel(b"") as (_, arrival), pytest.raises(TimeoutError):
        arrival.begin()


def test_an_ordinary_visitor_is_turned_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel itself says that whoever connected is not dumping core."""
    listening = pipedoor.listen(str(tmp_path / "kernel.sock"), socket.SOCK_STREAM)
    arrived: list[Arrival] = []
    thread = threading.Thread(target=socketdoor.serve, args=(listening, arrived.append), daemon=True)
    thread.start()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
                visitor.settimeout(10)
                visitor.connect(str(tmp_path / "kernel.sock"))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    visitor.sendall(struct.pack("=IIQ", 16, 16, ALL))
                    assert visitor.recv(100) == b""
        wait_for("the door lets go", lambda: len(os.listdir("/proc/self/fd")) == before)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        listening.close()
    assert not thread.is_alive()
    assert arrived == []
    assert capsys.readouterr().err.count("a visitor to the kernel's socket was not understood") == 3


def test_the_layouts_are_those_of_the_kernels_headers() -> None:
    """include/uapi/linux/coredump.h and pidfd.h; PIDFD_GET_INFO is _IOWR(0xFF, 11, 72 bytes)."""
    assert (socketdoor._REQUEST.size, socketdoor._ACKNOWLEDGE.size, socketdoor._INFO.size) == (16, 16, 72)
    assert socketdoor._PIDFD_GET_INFO == 0xC048FF0B
