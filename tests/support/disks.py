"""Small disks that a test fills up: a tmpfs whose room and inodes are set at will, and an ext4 in a file."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, *options: str) -> None:
        """Change what it was mounted with: size=…, nr_inodes=…, ro, rw."""
        _run("mount", "-o", ",".join(["remount", *options]), str(self.path))

    def fill(self) -> None:
        """Leave no room in it."""
        fill(self.path / "ballast")


def fill(ballast: Path) -> None:
    """Write a file until the disk takes no more, down to its last block."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass
        os.fsync(file.fileno())


@contextmanager
def tmpfs(path: Path, *options: str) -> Iterator[Disk]:
    """Mount a tmpfs, on a directory that is made if need be."""
    path.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", ",".join([*options, "mode=0755"]), "test", str(path))
    try:
        yield Disk(path)
    finally:
        _run("umount", "--lazy", str(path))


@contextmanager
def ext4(path: Path, image: Path, mib: int) -> Iterator[None]:
    """Mount an ext4 of so many MiB that reserves nothing for root."""
    path.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    _run("mount", "-o", "loop", str(image), str(path))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)
