"""The guard's socket: where doormen hand over crashes of the pipe, and where status is asked.

One message each way (SOCK_SEQPACKET): b"crash\\0<arguments>" with the core and perhaps a pidfd, answered
b"t" for taken; or b"status", answered with JSON. Only root may speak.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from coredump_guard import log, pattern
from coredump_guard.arrival import Arrival

BACKLOG = 4096
"""Crashes that may wait in the kernel for us; net.core.somaxconn bounds it too."""
PATIENCE = 2.0
"""Seconds that a peer may take to speak, or to listen."""
BREATHER = 1.0
"""Seconds between attempts to let somebody in while the machine refuses."""
MESSAGE_SIZE = 1 << 16


def listen(path: str, kind: int) -> socket.socket:
    """Listen on a unix socket that only root may reach, in the place of one left by a guard before."""
    listening = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        listening.bind(path)
    finally:
        os.umask(mask)
    listening.listen(BACKLOG)
    return listening


def serve(listening: socket.socket, arrive: Callable[[Arrival], None], status: Callable[[], str]) -> None:
    """Answer until the listening socket is shut down."""
    for peer in visitors(listening):
        with peer:
            try:
                peer.settimeout(PATIENCE)
                _answer(peer, arrive, status)
            except Exception as error:  # no visitor ends the door
                log.warning("a visitor to the guard's socket was not understood", error=error)


def visitors(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield connections until the listening socket is shut down.

    Where a storm of crashes uses up the descriptors, the rest waits in the backlog until some are let go.
    """
    while True:
        try:
            peer, _ = listening.accept()
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EBADF):  # what shutdown(2) and close(2) make of accept(2)
                return
            log.warning("nobody can be let in, they wait", error=error)
            time.sleep(BREATHER)
        else:
            yield peer


def _answer(peer: socket.socket, arrive: Callable[[Arrival], None], status: Callable[[], str]) -> None:
    _, uid, _ = struct.unpack("=iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != 0:
        raise ValueError(f"user {uid} is not root")
    message, fds, _, _ = socket.recv_fds(peer, MESSAGE_SIZE, 2)
    if message == b"status" and not fds:
        peer.send(status().encode())
        return
    arrival = None
    try:
        arrival = _arrival(message, fds)
        # A doorman that waited too long captures by itself: then it is gone, this fails, and we let go.
        peer.send(b"t")
    except (OSError, ValueError):
        for fd in fds:
            os.close(fd)
        raise
    arrive(arrival)


def _arrival(message: bytes, fds: list[int]) -> Arrival:
    kind, *arguments = message.decode("utf-8", "surrogateescape").split("\0")
    if kind != "crash" or not fds:
        raise ValueError(f"a message of kind {kind[:20]!r} with {len(fds)} descriptors")
    crash = pattern.parse_arguments(arguments)
    return Arrival(crash, fds[0], fds[1] if len(fds) > 1 else None)


def ask_status(path: str) -> str:
    """Ask the guard at path for its status; raises OSError if none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guard:
        guard.settimeout(PATIENCE)
        guard.connect(path)
        guard.send(b"status")
        return guard.recv(1 << 20).decode()
