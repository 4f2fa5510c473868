"""Connections on their way between two processes."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from coredump_shim import handover
from coredump_shim.handover import Receiver, Sender

Ends = tuple[Sender, Receiver]


@pytest.fixture
def ends() -> Iterator[Ends]:
    gives, takes = handover.pair()
    with gives, takes:
        yield Sender(gives), Receiver(takes)


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    server, client = socket.socketpair()
    with server, client:
        yield server, client


Connection = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\0\xff" * (handover.MAX_BYTES // 2)])
@pytest.mark.parametrize("address", [("127.0.0.1", 4711), ("localhost", None), ("::1", 1)])
def test_arrives_with_all_that_was_read(
    ends: Ends, connection: Connection, begun: bytes, address: handover.Address
) -> None:
    sender, receiver = ends
    server, client = connection
    sent = sender.send(server, address, begun)
    assert sent is not None
    server.close()
    handed = receiver.receive()
    assert handed is not None
    with handed.connection:
        assert (handed.begun, handed.address) == (begun, address)
        handed.connection.sendall(b"answer")
    assert client.recv(100) == b"answer"
    assert sender.confirmed() == sent[0]
    assert sender.confirmed() is None
    assert receiver.receive() is None


def test_too_late_is_dropped_without_a_confirmation(
    ends: Ends, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = ends
    monkeypatch.setattr(handover, "PATIENCE", -1.0)
    assert sender.send(connection[0], ("localhost", None), b"late") is not None
    monkeypatch.undo()
    sent = sender.send(connection[0], ("localhost", None), b"in time")
    assert sent is not None
    handed = receiver.receive()
    assert handed is not None and handed.begun == b"in time"
    handed.connection.close()
    assert sender.confirmed() == sent[0]
    assert sender.confirmed() is None


def test_what_is_not_taken_is_refused_in_the_end(ends: Ends, connection: Connection) -> None:
    sender, _ = ends
    for _ in range(10_000):
        if sender.send(connection[0], ("localhost", None), b"x" * 1000) is None:
            break
    else:
        pytest.fail("connections without end are taken")


def test_without_free_descriptors_it_is_an_error_and_nothing_is_confirmed(
    ends: Ends, connection: Connection
) -> None:
    sender, receiver = ends
    assert sender.send(connection[0], ("localhost", None), b"") is not None
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 1000))
        try:
            receiver.receive()
        except OSError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert sender.confirmed() is None
