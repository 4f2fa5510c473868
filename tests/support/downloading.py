"""Downloads by the real kubectl into a file, read as slowly as a test wants.

Not here: the cluster (testbed.cluster) and the dumps (dumps).
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coredump_shim import names
from testbed.cluster.controlplane import ControlPlane

SECONDS = 120
"""How long a download may take that nobody slows down."""
GULP = 64 << 10


def url(namespace: str, pod: str, rest: str = "dump") -> str:
    """Return the path of an endpoint's dumps; `rest` may have a query."""
    return f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}/{pod}/{rest}"


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Download:
    """One that is under way; kubectl gets no further than what is read here and what buffers hold."""

    def __init__(self, process: subprocess.Popen[bytes], into: Path, errors: Path) -> None:
        self._process, self._into, self._errors = process, into, errors
        self.size = 0

    @property
    def errors(self) -> str:
        """What kubectl has said on stderr."""
        return self._errors.read_text()

    def read(self, count: int) -> int:
        """Read so many bytes, fewer only at the end, into the file; return how many they were."""
        assert self._process.stdout is not None
        begun = self.size
        with self._into.open("ab") as file:
            while (left := count - (self.size - begun)) and (
                data := self._process.stdout.read(min(left, GULP))
            ):
                self.size += file.write(data)
        return self.size - begun

    def slowly(self, rate: int, seconds: float) -> None:
        """Read so many bytes a second for so long, or to the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.read(rate // 10):
            time.sleep(0.1)

    def finish(self) -> int:
        """Read the rest and return kubectl's exit status."""
        while self.read(GULP):
            pass
        return self._process.wait(SECONDS)

    def kill(self) -> None:
        """Break it off, as a lost connection does."""
        self._process.kill()


@contextlib.contextmanager
def begun(command: list[str], into: Path, environment: dict[str, str]) -> Iterator[Download]:
    """Start a command that downloads to stdout; afterwards it has ended."""
    with tempfile.NamedTemporaryFile(dir=into.parent) as errors:
        process = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=errors, env=environment)
        with process:
            try:
                yield Download(process, into, Path(errors.name))
            finally:
                process.kill()


@contextlib.contextmanager
def kubectl(plane: ControlPlane, path: str, into: Path, user: str = "admin") -> Iterator[Download]:
    """Have `kubectl get --raw` download, appending to a file."""
    with begun(plane.command("get", "--raw", path, user=user), into, plane.environment) as download:
        yield download
