"""Files of the directory that the shim and HAProxy share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coredump_shim import rundir


def test_replaced_whole_for_the_group_and_nobody_else(tmp_path: Path) -> None:
    target = rundir.path(str(tmp_path), rundir.REQUESTHEADER_CA)
    for content in (b"first", b"2nd"):
        rundir.replace(target, content)
        assert Path(target).read_bytes() == content
        assert os.stat(target).st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == [rundir.REQUESTHEADER_CA]


def test_what_cannot_be_replaced_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        rundir.replace(str(tmp_path / "directory"), b"content")
    assert os.listdir(tmp_path) == ["directory"]
