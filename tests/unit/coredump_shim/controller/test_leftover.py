from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from coredump_guard import store
from coredump_shim.controller import leftover
from coredump_shim.controller.inbox import BAD, Inbox
from tests.support.dumps import announce, write_dump


def made(tmp_path: Path) -> tuple[Path, Path]:
    inbox = tmp_path / store.INBOX
    (inbox / BAD).mkdir(parents=True)
    return inbox, inbox / BAD


def later() -> float:
    return time.time() + leftover.MAX_AGE + 60


def test_what_is_new_stays(tmp_path: Path) -> None:
    inbox, bad = made(tmp_path)
    (bad / "rubbish").write_text("")
    (inbox / ".draft").write_text("")
    leftover.tidy(str(tmp_path))
    assert (bad / "rubbish").exists() and (inbox / ".draft").exists()


def test_what_is_old_goes_and_announcements_stay(tmp_path: Path) -> None:
    inbox, bad = made(tmp_path)
    announced = announce(tmp_path, write_dump(tmp_path))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (bad / "link").symlink_to(outside)
    (bad / "deep").mkdir()
    (bad / "deep" / "er").mkdir()
    (bad / "deep" / "er" / "link").symlink_to(outside / "precious")
    os.mkfifo(bad / "fifo")
    (bad / os.fsdecode(b"\xff\n")).write_text("")
    (inbox / ".draft").write_text("")
    (inbox / f"{BAD}-0123abcd").symlink_to(outside)
    leftover.tidy(str(tmp_path), later)
    assert list(bad.iterdir()) == []
    assert set(inbox.iterdir()) == {bad, announced}
    assert (outside / "precious").exists()


def test_the_newest_are_kept_of_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover, "MAX_COUNT", 3)
    _, bad = made(tmp_path)
    for number in range(6):
        (bad / f"{9 - number}").write_text("")
        time.sleep(0.01)  # ctimes are as fine as the kernel's ticks
    leftover.tidy(str(tmp_path))
    assert {path.name for path in bad.iterdir()} == {"4", "5", "6"}


def test_a_flood_of_rubbish_ends_in_a_bounded_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftover, "MAX_COUNT", 10)
    inbox, bad = made(tmp_path)
    found = Inbox(str(tmp_path))
    for number in range(50):
        (inbox / f"rubbish-{number}").write_text("")
    for name, reason in found.waiting()[1]:
        found.put_aside(name, reason)
    assert len(list(bad.iterdir())) == 50
    leftover.tidy(str(tmp_path))
    assert len(list(bad.iterdir())) == 10


@pytest.mark.parametrize("kind", ["absent", "file", "link"])
def test_a_bad_that_is_no_directory_is_left_alone(tmp_path: Path, kind: str) -> None:
    inbox, bad = made(tmp_path)
    bad.rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    if kind == "file":
        bad.write_text("")
    elif kind == "link":
        bad.symlink_to(outside)
    leftover.tidy(str(tmp_path), later)
    assert (outside / "precious").exists()
    assert inbox.is_dir()


def test_a_store_without_an_inbox_has_nothing_left_over(tmp_path: Path) -> None:
    leftover.tidy(str(tmp_path))
