"""inotify: readable once a held file was written, whatever became of its name."""

from __future__ import annotations

import ctypes
import errno
import os
import select
from pathlib import Path

import pytest

from coredump_guard import inotify


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_write_is_seen_until_it_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    held = os.open(file, os.O_RDONLY)
    try:
        with inotify.watching([held]) as events:
            assert not readable(events)
            file.write_text("after")
            assert readable(events)
            inotify.forget(events)
            assert not readable(events)
            inotify.forget(events)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(events)
    finally:
        os.close(held)


def test_what_cannot_be_watched_is_told() -> None:
    with pytest.raises(OSError, match="inotify: No such file") as told, inotify.watching([999999]):
        pass
    assert told.value.errno == errno.ENOENT


def test_a_machine_without_instances_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def inotify_init1(self, _: int) -> int:  # as where fs.inotify.max_user_instances is used up
            ctypes.set_errno(errno.EMFILE)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Without())
    with pytest.raises(OSError, match="inotify: Too many open files"), inotify.watching([]):
        pass
