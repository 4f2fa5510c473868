"""Kinds of file systems by device: as the kernel writes mountinfo, and as anybody may name a mount point."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from coredump_guard.filesystems import kinds, of_node

MOUNTINFO = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /mnt/a\\040b rw master:1 propagate_from:2 - fuse.sshfs host: rw
31 22 0:300 / / rw - overlay overlay rw,lowerdir=/a - b /c
"""


def test_devices_are_written_as_in_maps() -> None:
    assert kinds(MOUNTINFO) == {"fe:00": b"ext4", "00:1a": b"fuse.sshfs", "00:12c": b"overlay"}


def test_the_nodes_own_root_is_known() -> None:
    device = os.stat("/proc/self").st_dev
    assert of_node()[f"{os.major(device):02x}:{os.minor(device):02x}"] == b"proc"


@given(st.binary())
def test_any_bytes_raise_nothing(mountinfo: bytes) -> None:
    kinds(mountinfo)
