"""The process that serves dumps: it takes connections with a request already read, and sends archives.

Not here: who gives them away (front), how a connection travels (handover), how it is sent to (channels).
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

from waitress import wasyncore
from waitress.adjustments import Adjustments

from coredump_shim import handover
from coredump_shim.channels import FairChannel
from coredump_shim.server import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)


class DownloadServer(Server):
    """Serves connections fairly and closes those whose readers stand still."""

    channel_class = FairChannel

    def __init__(self, application: WSGIApplication, adj: Adjustments, source: socket.socket):
        super().__init__(application, None, adj)
        self._intake = _Intake(self, source)

    def maintenance(self, now: float) -> None:
        """Close what stalls; waitress itself never closes a connection whose socket is full."""
        for channel in list(self.active_channels.values()):
            channel.close_if_stalled(now, self.adj.channel_timeout)

    def take(self, handed: handover.Handed) -> None:
        """Go on with a connection where the other process left it."""
        channel = self.channel_class(self, handed.connection, handed.address, self.adj, map=self._map)
        channel.received(handed.begun)


class _Intake(wasyncore.dispatcher):  # type: ignore[misc] # waitress has no types
    """The socket on which connections arrive."""

    def __init__(self, server: DownloadServer, source: socket.socket) -> None:
        super().__init__(source, map=server._map)
        self._server = server
        self._receiver = handover.Receiver(source)

    def readable(self) -> bool:
        """Take no more than can be held; what is not taken is answered by the other process."""
        return len(self._server.active_channels) < int(self._server.adj.connection_limit)

    def writable(self) -> bool:
        """Never: confirmations are sent at once or not at all."""
        return False

    def handle_read(self) -> None:
        """Take one connection; the next has its turn when the others had theirs."""
        try:
            handed = self._receiver.receive()
        except OSError as error:
            log.warning("%s", error)
            time.sleep(0.1)  # until descriptors are free again this would spin
            return
        if handed is not None:
            self._server.take(handed)
