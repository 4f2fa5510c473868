"""A waitress server on a socket that is already there, TCP or unix, or on none.

Not here: what is served (the application) and how a connection is sent to (channels).
"""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import BaseWSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MAX_HEADERS = 1 << 16
"""Longest request line and headers, in bytes."""
MAX_CONNECTIONS = 4000
"""Connections at one time; waitress' own 100 would let 100 slow readers silence the rest."""
FAREWELL = 2
"""Seconds that requests under way are given when the server ends."""

Address = tuple[str, int | None]


def settings(*, threads: int, max_body: int, stall_seconds: float) -> Adjustments:
    """Return waitress' settings; max_body is in bytes."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Adjustments(
        threads=threads,
        max_request_body_size=max_body,
        max_request_header_size=MAX_HEADERS,
        connection_limit=min(MAX_CONNECTIONS, descriptors // 3),  # a download has a core open as well
        channel_timeout=stall_seconds,
        cleanup_interval=max(stall_seconds / 4, 1),
        asyncore_use_poll=True,
        channel_request_lookahead=1,  # only then is it noticed that the reader of a watch has gone
        log_socket_errors=False,
        ident=None,
    )


class Server(BaseWSGIServer):  # type: ignore[misc] # waitress has no types
    """A server that is given its listening socket; without one, connections must be brought to it."""

    ending = False
    """Whether requests under way should come to their end."""

    def __init__(self, application: WSGIApplication, listener: socket.socket | None, adj: Adjustments):
        sock = listener or socket.socket(socket.AF_UNIX)
        super().__init__(
            application,
            _start=listener is not None,
            _sock=sock,
            adj=adj,
            sockinfo=(sock.family, sock.type, sock.proto, None),
            bind_socket=False,
        )

    def getsockname(self) -> Address:
        """Return the name and port that an application may show."""
        if self.family == socket.AF_UNIX:
            return ("localhost", 80)
        return tuple(self.socket.getsockname()[:2])

    def set_socket_options(self, conn: socket.socket) -> None:
        """Send what is there at once: the head of an answer must not wait for its body."""
        if conn.family != socket.AF_UNIX:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fix_addr(self, addr: Any) -> Address:
        """Return who connected; nobody is known on a unix socket."""
        return ("localhost", None) if self.family == socket.AF_UNIX else addr

    def run(self) -> None:
        """Serve until SystemExit is raised, as it is by a signal."""
        try:
            wasyncore.loop(self.adj.asyncore_loop_timeout, self.adj.asyncore_use_poll, self._map)
        finally:
            self.ending = True
            self.task_dispatcher.shutdown(timeout=FAREWELL)
            for channel in list(self.active_channels.values()):
                channel.handle_close()
