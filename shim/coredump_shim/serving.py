"""Serving an application by two processes: a front, and one for dumps.

Not here: what either does (front, intake), and keeping them alive (supervisor).

A store that hangs blocks whoever reads it, and a dump is read by the main loop that sends it, so the process
that sends dumps does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from waitress import wasyncore

from coredump_shim import handover, server, supervisor
from coredump_shim.front import FrontServer
from coredump_shim.intake import DownloadServer
from coredump_shim.server import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DOWNLOAD_THREADS = 8
"""Threads that plan archives; sending them needs none."""
STALL_SECONDS = 120.0
"""A reader who takes nothing for so long is not waited for any more."""
BACKLOG = 1024
"""Connections that wait to be accepted; the kernel's net.core.somaxconn bounds it too."""
SOCKET_MODE = 0o660
"""A unix socket is its owner's and its group's."""


def serve(
    factory: Callable[[], WSGIApplication],
    listener: socket.socket,
    *,
    front_factory: Callable[[], WSGIApplication] | None = None,
    threads: int,
    max_body: int,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Serve until SIGTERM or SIGINT. Call it before any thread is started, since it forks.

    The factory is called once in every process, the front's own in the front; threads is the front's;
    max_body is in bytes.
    """
    _raise_descriptor_limit()
    settings = partial(server.settings, max_body=max_body, stall_seconds=stall_seconds)
    gives, takes = handover.pair()

    def front(lifeline: int) -> None:
        _run(FrontServer((front_factory or factory)(), listener, settings(threads=threads), gives), lifeline)

    def downloads(lifeline: int) -> None:
        _run(DownloadServer(factory(), settings(threads=DOWNLOAD_THREADS), takes), lifeline)

    with gives, takes, listener:
        supervisor.run({"shim-front": front, "shim-downloads": downloads})


def listen(address: tuple[str, int] | str) -> socket.socket:
    """Return a socket that listens on host and port, or on a path. Raises OSError."""
    if isinstance(address, tuple):
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    _unlink_stale(address)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(address)
        os.chmod(address, SOCKET_MODE)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unlink_stale(path: str) -> None:
    """Remove a socket on which nobody listens any more; binding fails where there is anything else."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(path)
        return
    os.unlink(path)


def _run(served: Server, lifeline: int) -> None:
    _Lifeline(lifeline, map=served._map)
    served.run()


class _Lifeline(wasyncore.file_dispatcher):  # type: ignore[misc] # waitress has no types
    """Ends the process when the one that started it is no more."""

    def writable(self) -> bool:
        """Never."""
        return False

    def handle_read(self) -> None:
        """Leave; nothing is ever written here, so this is the end."""
        raise SystemExit

    handle_close = handle_read


def _raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
