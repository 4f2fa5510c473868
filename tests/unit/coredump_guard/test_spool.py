"""The spool: a dump is seen whole or not at all, wherever its capture ends."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coredump_guard import spool as module
from coredump_guard import store
from coredump_guard.record import RecordError
from coredump_guard.spool import Spool

from .conftest import Spooled, fail_at

ID = store.dump_id(1_700_000_000, "/bin/app", 4711, "boot", 1)


def in_incoming(spool: Spool) -> list[str]:
    return os.listdir(f"{spool.root}/incoming")


def test_a_dump_appears_when_its_draft_ends(spool: Spool) -> None:
    with spool.draft(ID) as draft:
        draft.write("maps", b"text")
        assert spool.pending() == []
    assert spool.pending() == [ID]
    assert Path(spool.path(ID), "maps").read_bytes() == b"text"
    assert in_incoming(spool) == []


def test_files_and_directories_are_private(spool: Spool) -> None:
    with spool.draft(ID) as draft:
        draft.write("maps", b"")
    assert os.stat(spool.path(ID)).st_mode & 0o777 & ~module.DIRECTORY_MODE == 0
    assert os.stat(f"{spool.path(ID)}/maps").st_mode & 0o777 & ~module.FILE_MODE == 0


def test_cve_2015_1338_files_are_created_exclusively(spool: Spool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with spool.draft(ID) as draft:
        for name, target in (("there", victim), ("dangling", tmp_path / "new")):
            os.symlink(target, f"{spool.root}/incoming/{ID}/{name}")
            with pytest.raises(FileExistsError):
                draft.create(name)
        draft.write("file", b"first")
        with pytest.raises(FileExistsError):
            draft.write("file", b"second")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [OSError, KeyError, KeyboardInterrupt])
def test_a_draft_that_raises_leaves_nothing(spool: Spool, error: type[BaseException]) -> None:
    with pytest.raises(error), spool.draft(ID) as draft:
        draft.write("maps", b"")
        raise error
    assert spool.pending() == in_incoming(spool) == []


def test_a_draft_of_an_id_that_is_there_raises_and_keeps_the_first(spool: Spool) -> None:
    with spool.draft(ID) as draft:
        draft.write("maps", b"first")
    with pytest.raises(OSError, match="not empty"), spool.draft(ID) as draft:
        draft.write("maps", b"second")
    assert Path(spool.path(ID), "maps").read_bytes() == b"first"
    assert in_incoming(spool) == []


def test_two_drafts_of_an_id_at_once(spool: Spool) -> None:
    with spool.draft(ID):
        with pytest.raises(FileExistsError), spool.draft(ID):
            pass
        assert in_incoming(spool) == [ID]
    assert spool.pending() == [ID]


@pytest.mark.parametrize(
    ("name", "call"), [("mkdir", 1), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("rename", 1)]
)
def test_no_failing_step_shows_a_partial_dump(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    with monkeypatch.context() as patched:
        fail_at(patched, name, call)
        with pytest.raises(OSError, match="Input/output"), spool.draft(ID) as draft:
            draft.write("maps", b"maps")
            draft.write("info.json", b"{}")
    assert spool.pending() == in_incoming(spool) == []
    with spool.draft(ID) as draft:
        draft.write("maps", b"maps")
    assert spool.pending() == [ID]


def test_a_dump_is_on_disk_before_it_is_seen(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        steps.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        real_fsync(fd)

    def rename(old: str, new: str) -> None:
        steps.append("rename")
        real_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with spool.draft(ID) as draft:
        draft.write("maps", b"")
    assert steps == ["fsync maps", f"fsync {ID}", "rename", "fsync ready"]


KILLED = """
import os, sys
from coredump_guard.spool import Spool
with Spool(sys.argv[1]).draft(sys.argv[2]) as draft:
    draft.write("maps", b"")
    os._exit(9)
"""


def test_what_a_killed_writer_left_can_be_gone_on_with(spool: Spool) -> None:
    command = [sys.executable, "-c", KILLED, spool.root, ID]
    path = {"PYTHONPATH": str(Path(module.__file__).parents[1])}
    assert subprocess.run(command, check=False, timeout=30, env=path).returncode == 9
    assert in_incoming(spool) == [ID]
    assert spool.pending() == []
    assert spool.abandoned() == [ID]
    with spool.adopt(ID) as draft:
        assert draft.names == {"maps"}
        draft.write("more", b"")
    assert spool.abandoned() == in_incoming(spool) == []
    assert sorted(os.listdir(spool.path(ID))) == ["maps", "more"]


def test_a_draft_that_is_being_written_is_not_abandoned(spool: Spool) -> None:
    with spool.draft(ID) as draft:
        assert spool.abandoned() == []
        draft.write("maps", b"still possible")
    assert spool.pending() == [ID]


def test_a_draft_that_ends_while_the_abandoned_are_sought(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doorman captures alone and finishes while the guard starts."""
    draft = spool.draft(ID)
    draft.__enter__()
    real = fcntl.flock

    def finished_first(fd: int, operation: int) -> None:
        draft.__exit__(None, None, None)
        real(fd, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", finished_first)
        assert spool.abandoned() == []
    assert spool.pending() == [ID]
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", lambda _: [ID])
        assert spool.abandoned() == []


def test_what_is_no_draft_is_left_alone(spool: Spool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(spool.root, "incoming", "file").write_text("")
    Path(spool.root, "incoming", "link").symlink_to(outside)
    assert spool.abandoned() == []
    assert outside.is_dir()


def test_pending_are_the_dumps_in_the_order_of_their_crashes(spool: Spool) -> None:
    ids = [
        store.dump_id(when, "/bin/app", 1, "b", 1) for when in (1_800_000_000, 1_600_000_000, 1_700_000_000)
    ]
    for dump_id in ids:
        with spool.draft(dump_id):
            pass
    Path(spool.ready, "lost+found").mkdir()
    Path(spool.ready, ".hidden").mkdir()
    assert spool.pending() == [ids[1], ids[2], ids[0]]


def test_record(spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    assert spool.record(record.id) == record
    Path(spool.path(record.id), store.INFO).write_text("{}")
    with pytest.raises(RecordError):
        spool.record(record.id)


def test_a_removal_that_is_cut_short_shows_no_half_dump(
    spool: Spool, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spooled()
    with monkeypatch.context() as patched:
        fail_at(patched, "unlink", 2)
        with pytest.raises(OSError, match="Input/output"):
            spool.remove(record.id)
    assert spool.pending() == []
    assert spool.abandoned() == []  # not a capture that was cut off


def test_set_aside(spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    aside = spool.set_aside(record.id)
    assert spool.pending() == []
    assert sorted(os.listdir(aside)) == ["core.gz", "info.json", "maps"]


def test_usage_is_what_waiting_dumps_take_on_disk(spool: Spool, spooled: Spooled) -> None:
    assert spool.usage() == 0
    record = spooled()
    path = Path(spool.path(record.id))
    assert spool.usage() == sum(file.stat().st_blocks * 512 for file in path.iterdir()) > 0


def test_usage_while_a_dump_is_delivered(
    spool: Spool, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled()
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path.endswith("/maps"):
            os.unlink(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert spool.usage() > 0


def test_prepare_may_be_repeated(spool: Spool) -> None:
    with spool.draft(ID):
        pass
    spool.prepare()
    assert spool.pending() == [ID]
