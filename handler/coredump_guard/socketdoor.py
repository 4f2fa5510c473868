"""The kernel's coredump socket: request and acknowledge of Linux 6.17 (include/uapi/linux/coredump.h).

Not here: the pattern that makes the kernel connect (pattern).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from coredump_guard import log
from coredump_guard.arrival import Arrival
from coredump_guard.pattern import Crash
from coredump_guard.pipedoor import visitors

KERNEL, USERSPACE, REJECT, WAIT = 1, 2, 4, 8
"""COREDUMP_*: what an acknowledgement may ask for; exactly one of the first three."""

SO_PEERPIDFD = 77
PIDFD_INFO_EXIT, PIDFD_INFO_COREDUMP = 1 << 3, 1 << 4
PIDFD_COREDUMPED, PIDFD_COREDUMP_SKIP, PIDFD_COREDUMP_USER, PIDFD_COREDUMP_ROOT = 1, 2, 4, 8
_INFO = struct.Struct("=QQ11IiII")
"""struct pidfd_info of 6.16, include/uapi/linux/pidfd.h."""
_PIDFD_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_REQUEST = struct.Struct("=IIQ")
_ACKNOWLEDGE = struct.Struct("=IIQ")
_REQACK = b"\0\0\0\0"
PATIENCE = 10.0
"""Seconds that the kernel may take to ask; it does so at once."""


class ProtocolError(OSError):
    """What came over the socket is not what a kernel of 6.17 or later sends."""


@dataclass
class SocketArrival(Arrival):
    """A crash over the socket: no byte moves before it is asked for, which is done once."""

    asked: bool = False

    def begin(self) -> None:
        """Acknowledge: the kernel shall write the core and keep /proc/PID until we close.

        Raises OSError, ConnectionError if the process has died meanwhile.
        """
        self._acknowledge(KERNEL | WAIT)

    def refuse(self) -> None:
        """Acknowledge: the kernel need not write anything; nor does a process that has died meanwhile."""
        with contextlib.suppress(OSError):
            self._acknowledge(REJECT)

    def _acknowledge(self, mask: int) -> None:
        if self.asked:
            return
        with socket.socket(fileno=os.dup(self.core)) as peer:
            peer.settimeout(PATIENCE)
            size, ack_size, offered = _REQUEST.unpack(_receive(peer, _REQUEST.size))
            _receive(peer, max(0, size - _REQUEST.size))
            if ack_size < _ACKNOWLEDGE.size or mask & ~offered:
                raise ProtocolError(f"the kernel offers {offered:#x}, {mask:#x} is needed")
            peer.sendall(_ACKNOWLEDGE.pack(_ACKNOWLEDGE.size, 0, mask))
            answer = _receive(peer, len(_REQACK))
            if answer != _REQACK:
                raise ProtocolError(f"the kernel refuses our acknowledgement: {answer.hex()}")
            peer.setblocking(True)  # the mode is shared with the descriptor that is drained
        self.asked = True  # not before: what failed must not pass for done when asked for again


def _receive(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the kernel closed the connection")
        data += part
    return data


def serve(listening: socket.socket, arrive: Callable[[Arrival], None]) -> None:
    """Take crashes until the listening socket is shut down; more wait in its backlog, without loss."""
    for peer in visitors(listening):
        try:
            arrive(_arrival(peer.detach()))
        except Exception as error:  # no visitor ends the door
            log.warning("a visitor to the kernel's socket was not understood", error=error)


def _arrival(core: int) -> SocketArrival:
    pidfd = -1
    try:
        with socket.socket(fileno=os.dup(core)) as peer:
            pidfd = peer.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
        return SocketArrival(_crash(pidfd), core, pidfd)
    except OSError:
        for fd in (core, pidfd):
            if fd >= 0:
                os.close(fd)
        raise


def _crash(pidfd: int) -> Crash:
    """Ask the kernel about its own process: a visitor that is not dumping core is turned away."""
    buffer = bytearray(_INFO.size)
    struct.pack_into("=Q", buffer, 0, PIDFD_INFO_COREDUMP)
    fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    fields = _INFO.unpack(buffer)
    mask, pid, coredump = fields[0], fields[3], fields[14]
    if not mask & PIDFD_INFO_COREDUMP or not coredump & PIDFD_COREDUMPED:
        raise ProtocolError(f"process {pid} is not dumping core")
    dumpable = 1 if coredump & PIDFD_COREDUMP_USER else 2
    return Crash(pid=pid, time=time.time(), dumpable=dumpable, mode="socket")
