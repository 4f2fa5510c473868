"""waitress' connections, made fair and made to send archives by sendfile(2); stalled readers are closed.

Not here: which process has them (intake).

What waitress does by itself, and why that is not enough: a channel is flushed until its socket is full, so
one fast reader starves the rest; a file is copied through memory; a reader that stalls with a full socket is
never closed; and reading the store on its main loop makes no difference between its errors and the socket's.
"""

from __future__ import annotations

import fcntl
import logging
import struct
import termios
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.wasyncore import _DISCONNECTED as DISCONNECTED

from coredump_shim.archivefile import ArchiveFile
from coredump_shim.rawheaders import RawParser, RawTask
from coredump_shim.refusal import RefusalTask

log = logging.getLogger(__name__)

TURN = 256 << 10
"""Bytes that a connection may send before the others have theirs."""
STEPS = 4
"""Pieces that it may send in its turn: of many small dumps, each has to be read anew."""


class ClosingTask(RawTask):
    """A request whose answer is the last on its connection, which no proxy may use for anything else then."""

    def start(self) -> None:
        """Begin the answer."""
        super().start()
        self.set_close_on_finish()


class FairChannel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    """A connection that sends one TURN at a time."""

    parser_class = RawParser
    task_class = ClosingTask
    error_task_class = RefusalTask
    _unsent = 0

    def close_if_stalled(self, now: float, seconds: float) -> None:
        """Close if the reader has acknowledged nothing for so long, and nobody works for him."""
        unsent = self._in_kernel()
        if unsent != self._unsent:
            self._unsent, self.last_activity = unsent, now
        if not self.requests and self.last_activity < now - seconds:
            log.info("closing a connection from %s that stood still for %g s", self.addr[0], seconds)
            self.handle_close()

    def _in_kernel(self) -> int:
        """Return how many bytes the socket holds that the reader has not acknowledged (SIOCOUTQ, tcp(7))."""
        return int(struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0])

    def _flush_some(self, do_close: bool = True) -> bool:
        left = TURN
        for _ in range(STEPS):
            buffer = self._first_buffer()
            sent = self._send_from(buffer, min(left, buffer.__len__()), do_close) if buffer and left else 0
            if not sent:
                break
            left -= sent
            self.total_outbufs_len -= sent
        if left < TURN:
            self.last_activity = time.time()
        return left < TURN

    def _first_buffer(self) -> Any:
        """Return the first buffer that holds something; the last one stays, since more is appended to it."""
        while not self.outbufs[0].__len__():
            if len(self.outbufs) == 1:
                return None
            self.outbufs.pop(0).close()
        return self.outbufs[0]

    def _send_from(self, buffer: Any, limit: int, do_close: bool) -> int:
        archive = getattr(buffer, "file", None)
        if isinstance(archive, ArchiveFile):
            sent = self._transmit(archive, limit, do_close)
        else:
            sent = int(self.send(buffer.get(limit)[:limit], do_close=do_close))
        if sent:
            buffer.skip(sent, True)
        return sent

    def _transmit(self, archive: ArchiveFile, limit: int, do_close: bool) -> int:
        try:
            return archive.transmit(self.socket, limit)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in DISCONNECTED:
                log.warning("download for %s aborted: %s", self.addr[0], error)
            elif do_close:
                self.handle_close()
                return 0
        # The connection ends before Content-Length is reached: that is how the reader learns of it.
        self.will_close = True
        return 0
