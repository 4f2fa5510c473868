"""Which kind of file system a device number stands for, from mountinfo: some of them make readers wait.

Not here: mounting anything.
"""

from __future__ import annotations

import re

_MOUNT = re.compile(rb"^\d+ \d+ (\d+):(\d+) .*? - (\S+) ", re.MULTILINE)
"""proc(5), mountinfo: device and type of the file system."""

REMOTE = (b"nfs", b"nfs4", b"9p")
"""Those that ask their server before they let go even of a path (d_weak_revalidate)."""
LOCAL = frozenset(
    b"ext2 ext3 ext4 xfs btrfs f2fs zfs erofs squashfs overlay tmpfs".split()  # a FUSE one is anybody's
)
"""Those that answer by themselves, where the node itself has mounted them."""


def kinds(mountinfo: bytes) -> dict[str, bytes]:
    """Return the type of each device's file system; the device is written as /proc/PID/maps has it."""
    return {f"{int(major):02x}:{int(minor):02x}": kind for major, minor, kind in _MOUNT.findall(mountinfo)}


def of_node() -> dict[str, bytes]:
    """Return the types of what the node has mounted, its containers' root directories among them.

    A container cannot add to these, other than to what it mounts in its own mount namespace.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        return kinds(file.read(4 << 20))
