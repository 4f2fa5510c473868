"""Handing a connection from one process to another, together with the bytes read from it so far.

Not here: which connections (front) and what is then done with them.

A handed connection is served once or not at all: the receiver confirms before it serves, and what it finds
too late it drops, so that the sender, which kept its own descriptor, can answer by itself.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import time
from dataclasses import dataclass

Address = tuple[str, int | None]

MAX_BYTES = 1 << 17
"""Longest request that is handed over; a socket's buffer holds a message of this size."""

PATIENCE = 5.0
"""Seconds within which the receiver must take a connection."""
_MARGIN = 1.0
"""Seconds that the sender waits longer, so that it never answers while the receiver begins to."""

_HEAD = struct.Struct("<QdI")
_TICKET = struct.Struct("<Q")


@dataclass(frozen=True)
class Handed:
    """A connection as it was handed over."""

    ticket: int
    deadline: float
    """On the machine's monotonic clock."""
    address: Address
    begun: bytes
    """What was read from it."""
    connection: socket.socket


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the sender's and the receiver's end; messages in between survive either's death."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_BYTES)
    return ends


class Sender:
    """The process that gives connections away."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._tickets = itertools.count(int.from_bytes(os.urandom(7), "little"))

    def send(self, connection: socket.socket, address: Address, begun: bytes) -> tuple[int, float] | None:
        """Hand over; return a ticket, and when to give up waiting for it to be confirmed.

        None says that the receiver does not keep up. The caller keeps its own descriptor.
        """
        ticket, deadline = next(self._tickets), time.monotonic() + PATIENCE
        where = json.dumps(address).encode()
        message = _HEAD.pack(ticket, deadline, len(where)) + where + begun
        try:
            socket.send_fds(self.end, [message], [connection.fileno()])
        except BlockingIOError:
            return None
        return ticket, deadline + _MARGIN

    def confirmed(self) -> int | None:
        """Return the ticket of a connection that was taken; None if there is no news."""
        try:
            return int(_TICKET.unpack(self.end.recv(_TICKET.size))[0])
        except BlockingIOError:
            return None


class Receiver:
    """The process that takes connections."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def receive(self) -> Handed | None:
        """Return a connection that is now this process's to serve; None if there is none.

        Raises OSError where the descriptor did not arrive, for want of free ones.
        """
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self.end, 2 * MAX_BYTES, 1)
            except BlockingIOError:
                return None
            if not descriptors:
                raise OSError("a connection was handed over, but no descriptor is free for it")
            handed = _parse(message, socket.socket(fileno=descriptors[0]))
            if time.monotonic() < handed.deadline and self._confirm(handed.ticket):
                return handed
            handed.connection.close()

    def _confirm(self, ticket: int) -> bool:
        try:
            self.end.send(_TICKET.pack(ticket))
        except BlockingIOError:
            return False
        return True


def _parse(message: bytes, connection: socket.socket) -> Handed:
    ticket, deadline, length = _HEAD.unpack_from(message)
    begun = _HEAD.size + length
    host, port = json.loads(message[_HEAD.size : begun])
    return Handed(ticket, deadline, (host, port), message[begun:], connection)
