"""The kernel's announcements of crashes, by pyroute2's process connector: the one file that imports pyroute2.

Not here: what becomes of the crashes (account). Facts: drivers/connector/cn_proc.c; PROC_EVENT_COREDUMP comes
before the dump begins, and also when nothing is dumped.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

ROOM = 8 << 20
"""Bytes of the kernel's buffer: 20,000 crashes fit in, with nobody reading."""
PATIENCE = 2.0
"""Seconds that the kernel may take to accept us; it does so at once, or not at all."""
_REMEDY = "the kernel's speaks to root in init's own namespaces only"
_SO_RCVBUFFORCE = 33
_LARGEST = 1 << 16
_LISTEN, _DONE = 1, 3
"""PROC_CN_MCAST_LISTEN of linux/cn_proc.h, NLMSG_DONE of linux/netlink.h."""


class Unavailable(Exception):  # noqa: N818 # names the connector's state
    """The kernel announces no crashes to us; the message says why and what to do."""


@dataclass(frozen=True)
class Announcement:
    """A process whose crash the kernel announced."""

    pid: int
    time: float
    """In seconds since the epoch."""


class Connector:
    """A connection to the kernel, for one thread; `lost_at` says when announcements did not fit its buffer.

    pyroute2 makes the socket and knows the messages. It is read here: its own reader queues without bound,
    and one that met ENOBUFS reports it for ever after (0.9.7).
    """

    def __init__(self) -> None:
        self.lost_at = 0.0
        """Seconds since the epoch; 0 if none were ever lost."""
        self._kinds = _import()
        try:
            self._socket = self._kinds.ProcEventSocket()
            self._socket.set_marshal(_marshal(self._kinds))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM)
            self._socket.bind()
            self._listen()
        except (OSError, KeyError) as error:  # KeyError: pyroute2's bind was refused
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise Unavailable(f"the process connector refuses us ({reason}): {_REMEDY}") from None

    def close(self) -> None:
        """Be told no more."""
        self._socket.close()

    def read(self, seconds: float) -> list[Announcement]:
        """Wait up to so many seconds for crashes, and return those that were announced; raises OSError."""
        now, monotonic = time.time(), time.monotonic()
        return [
            Announcement(event["process_tgid"], now - monotonic + event["timestamp_ns"] / 1e9)
            for event in self._events(seconds)
            if event["what"] == self._kinds.PROC_EVENT_COREDUMP
        ]

    def _listen(self) -> None:
        """Ask for crashes only; kernels before 6.6 know no such filter, and tell of everything."""
        self._ask(action=_LISTEN, len=4)
        self._ask(action=_LISTEN, event_mask=self._kinds.PROC_EVENT_COREDUMP, len=8)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in self._events(0.1):
                if event["what"] == self._kinds.PROC_EVENT_NONE:
                    if event["error"]:
                        raise OSError(event["error"], os.strerror(event["error"]))
                    return
        raise Unavailable(f"the process connector does not answer: {_REMEDY}")

    def _ask(self, **values: int) -> None:
        message = self._kinds.proc_event_control()
        if "event_mask" in values:
            message.fields = (*message.fields, ("event_mask", "I"))
        for name, value in {"idx": self._kinds.CN_IDX_PROC, "val": self._kinds.CN_VAL_PROC, **values}.items():
            message[name] = value
        message["header"].update(type=_DONE, flags=0, sequence_number=0, pid=0)
        message.encode()
        self._socket.send(message.data)

    def _events(self, seconds: float) -> Iterator[dict[str, int]]:
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while poll.poll(seconds * 1000):
            seconds = 0
            try:
                data = self._socket.recv(_LARGEST, socket.MSG_DONTWAIT)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost_at = time.time()
                continue
            yield from (event for event in self._socket.marshal.parse(data) if "what" in event)


def _marshal(kinds: ModuleType) -> Any:
    """Return what reads messages: those that we ask for, and the kernel's answer with its error."""
    fields = (*kinds.proc_event_base.fields, ("error", "I"))
    answer = type("proc_event_ack", (kinds.proc_event_base,), {"fields": fields})
    marshal = kinds.ProcEventMarshal()
    marshal.msg_map = {
        kinds.PROC_EVENT_NONE: answer,
        kinds.PROC_EVENT_COREDUMP: kinds.proc_event_coredump,
    }
    return marshal


def _import() -> ModuleType:
    """Import the connector without the rest of pyroute2, which would cost 14 MB instead of 5.

    What a package's __init__ would import is left out: the package is there, but was never run.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None:
            raise Unavailable("pyroute2 is not installed: install coredump-guard with its extra 'node'")
        sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    try:
        kinds = importlib.import_module("pyroute2.netlink.connector.cn_proc")
    except Exception as error:
        with contextlib.suppress(KeyError):
            del sys.modules["pyroute2"]
        raise Unavailable(f"pyroute2 cannot be imported: {type(error).__name__}: {error}") from None
    return kinds
