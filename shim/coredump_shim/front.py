"""The process with the listening socket: it reads requests, and gives those for a dump away.

Not here: the process that they are given to (intake), and how a connection travels (handover).
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel

from coredump_shim import handover, names
from coredump_shim.rawheaders import RawParser, RawTask
from coredump_shim.refusal import RefusalTask
from coredump_shim.server import Server
from coredump_shim.status import unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DUMP = re.sub("<[a-z]+>", "[^/]+", f"{names.OBJECT}/(proxy/)?dump").replace(".", r"\.")
"""Regular expression of the paths of dumps; HAProxy goes by it as well."""
_DUMP = re.compile(f"/*{DUMP}")


def is_dump(path: str) -> bool:
    """Whether this path, decoded, is an endpoint's dump."""
    return _DUMP.fullmatch(path) is not None


def guarded(application: WSGIApplication) -> WSGIApplication:
    """Answer 503 to a request for a dump that could not be given away; the front never reads dumps itself."""

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not is_dump(environ["PATH_INFO"]):
            return application(environ, start_response)
        error = unavailable("the process that serves dumps does not answer; try again in a few seconds")
        status, headers, body = error.plain()
        start_response(status, headers)
        return [body]

    return guard


class Parser(RawParser):
    """Keeps a request as it was received, as far as it can be handed over."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.raw = bytearray()

    def received(self, data: bytes) -> int:
        """Take what belongs to this request and return how much that was."""
        taken = int(super().received(data))
        if len(self.raw) <= handover.MAX_BYTES:
            self.raw += data[:taken]
        return taken


class FrontChannel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    """A connection that is left alone while it is being handed over."""

    parser_class = Parser
    task_class = RawTask
    error_task_class = RefusalTask
    handed = False

    def readable(self) -> bool:
        """Whether to wait for more from the client."""
        return not self.handed and bool(super().readable())

    def writable(self) -> bool:
        """Whether there is something to send."""
        return not self.handed and bool(super().writable())

    def check_client_disconnected(self) -> bool:
        """Whether a watch should end: its reader has gone, or the server is about to."""
        return self.server.ending or bool(super().check_client_disconnected())


class FrontServer(Server):
    """Serves the application, but for the requests that it hands over."""

    channel_class = FrontChannel

    def __init__(
        self, application: WSGIApplication, listener: socket.socket, adj: Adjustments, to: socket.socket
    ):
        super().__init__(guarded(application), listener, adj)
        self._handing = _Handing(self, to)

    def add_task(self, channel: FrontChannel) -> None:
        """Have a connection's first complete request served; called by the main loop and by threads."""
        if is_dump(getattr(channel.requests[0], "path", "")):
            self.trigger.pull_trigger(partial(self._handing.begin, channel))
        else:
            super().add_task(channel)


class _Handing(wasyncore.dispatcher):  # type: ignore[misc] # waitress has no types
    """Connections under way to the other process; lives on the main loop."""

    def __init__(self, server: FrontServer, to: socket.socket) -> None:
        super().__init__(to, map=server._map)
        self._server = server
        self._sender = handover.Sender(to)
        self._waiting: dict[int, tuple[FrontChannel, float]] = {}

    def begin(self, channel: FrontChannel) -> None:
        """Hand a connection over if nothing but its one request is under way on it."""
        request = channel.requests[0] if channel.connected and channel.requests else None
        if request is None:
            return
        alone = len(channel.requests) == 1 and channel.request is None and not channel.total_outbufs_len
        if request.error or not alone or len(request.raw) > handover.MAX_BYTES:
            Server.add_task(self._server, channel)
            return
        sent = self._sender.send(channel.socket, channel.addr, bytes(request.raw))
        if sent is None:
            Server.add_task(self._server, channel)
            return
        channel.handed = True
        self._waiting[sent[0]] = (channel, sent[1])

    def readable(self) -> bool:
        """Wait for confirmations; called in every round of the loop, so also what gives up waiting."""
        now = time.monotonic()
        for ticket in [ticket for ticket, (_, until) in self._waiting.items() if until < now]:
            channel, _ = self._waiting.pop(ticket)
            channel.handed = False
            Server.add_task(self._server, channel)
        return True

    def writable(self) -> bool:
        """Never: messages are sent at once or not at all."""
        return False

    def handle_read(self) -> None:
        """Let go of the connections that were taken."""
        while (ticket := self._sender.confirmed()) is not None:
            if ticket in self._waiting:
                self._waiting.pop(ticket)[0].handle_close()
