"""A FUSE file system with one file, which falls silent when it is told to: as a crasher's own may.

Served by a thread over /dev/fuse itself (include/uapi/linux/fuse.h), so that nothing needs to be installed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

NAME = "file"
_IN = struct.Struct("=IIQQIIII")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _INIT, _OPENDIR, _INTERRUPT, _BATCH = (
    1,
    2,
    3,
    14,
    15,
    26,
    27,
    36,
    42,
)
_DONE = frozenset({18, 25, 29, 34})
"""RELEASE, FLUSH, RELEASEDIR, ACCESS: all is well."""
_ROOT, _FILE = 1, 2


class Fuse:
    """The one that is served; `content` is what its file holds."""

    def __init__(self, device: int, content: bytes) -> None:
        self.silent = threading.Event()
        """While it is set, nobody gets an answer."""
        self._device = device
        self._content = content
        self._waiting: list[int] = []

    def speak(self) -> None:
        """Answer again; those who waited have an error. A dying process cannot end before that."""
        self.silent.clear()
        while self._waiting:
            with contextlib.suppress(OSError):  # it waits no more
                os.write(self._device, struct.pack("=IiQ", 16, -errno.EIO, self._waiting.pop()))

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        with contextlib.suppress(OSError):
            while True:
                request = os.read(self._device, 1 << 20)
                _, code, unique, node, *_ = _IN.unpack_from(request)
                if code in (_FORGET, _BATCH, _INTERRUPT):
                    continue
                if self.silent.is_set():
                    self._waiting.append(unique)
                    continue
                error, data = self._answer(code, node, request[_IN.size :])
                os.write(self._device, struct.pack("=IiQ", 16 + len(data), -error, unique) + data)

    def _answer(self, code: int, node: int, data: bytes) -> tuple[int, bytes]:
        """Return errno and the answer to a request."""
        if code == _LOOKUP and data.rstrip(b"\0") != NAME.encode():
            return errno.ENOENT, b""
        if code == _READ:
            _, offset, size = struct.unpack_from("=QQI", data)
            return 0, self._content[offset : offset + size]
        answers = {
            _INIT: struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 10, 65536, 1, 16, 0, 0),
            _LOOKUP: struct.pack("=QQQQII", _FILE, 0, 3600, 3600, 0, 0) + self._attributes(_FILE),
            _GETATTR: struct.pack("=QII", 3600, 0, 0) + self._attributes(node),
            **dict.fromkeys((_OPEN, _OPENDIR), bytes(16)),
            **dict.fromkeys(_DONE, b""),
        }
        return (0, answers[code]) if code in answers else (errno.ENOSYS, b"")

    def _attributes(self, node: int) -> bytes:
        mode, size = (0o40755, 0) if node == _ROOT else (0o100755, len(self._content))
        return struct.pack("=6Q10I", node, size, size // 512 + 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextlib.contextmanager
def mounted(directory: Path, content: bytes) -> Iterator[Fuse]:
    """Mount one on a directory; afterwards it is gone, and whoever waited for it has an error."""
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        command = ["mount", "-i", "-t", "fuse", "-o", options, "hostile", str(directory)]
        subprocess.run(command, check=True, pass_fds=[device], timeout=30)
        fuse = Fuse(device, content)
        server = threading.Thread(target=fuse.serve, daemon=True)
        server.start()
        try:
            yield fuse
        finally:
            # By force: that ends the connection and with it every call that waits for an answer.
            subprocess.run(["umount", "--force", "--lazy", directory], check=True, timeout=30)
            server.join(timeout=10)
    finally:
        os.close(device)
