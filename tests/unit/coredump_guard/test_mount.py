"""A mount point without its mount is not the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coredump_guard import mount


def check(path: Path, state: Path) -> None:
    with mount.mounted(str(path), str(state)) as root:
        assert os.path.samestat(os.fstat(root), path.stat())


def test_a_local_store_stays_one(tmp_path: Path) -> None:
    for _ in range(2):
        check(tmp_path, tmp_path / "state")


def test_one_that_was_mounted_is_away_when_it_is_on_the_nodes_own_disk(tmp_path: Path) -> None:
    """Another file system that everybody may look at stands for the store."""
    mounted, point = Path("/proc/self/fd"), tmp_path / "point"
    point.symlink_to(mounted)
    for _ in range(2):
        check(point, tmp_path / "state")
    point.unlink()
    point.mkdir()
    with pytest.raises(
        OSError, match="point is not mounted; if it is meant to be a local directory now, remove"
    ):
        check(point, tmp_path / "state")
    check(tmp_path, tmp_path / "state")
    next((tmp_path / "state" / "mounts").iterdir()).unlink()
    check(point, tmp_path / "state")
