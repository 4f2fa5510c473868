"""A file system that never answers, as that of a dead NFS server: a FUSE mount that nobody serves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hung(directory: Path) -> Iterator[None]:
    """Cover a directory by it; at the end every call that waits fails. Needs root and /dev/fuse."""
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "hung", directory],
            check=True,
            pass_fds=[device],
            timeout=30,
        )
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True, timeout=30)
    finally:
        os.close(device)  # ends every call that waits
