from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import store
from coredump_shim.controller.inbox import BAD, Inbox, NoAnnouncement, parsed
from tests.support.dumps import announce, write_dump

ID = "20260131T120000Z-web-4711-0123abcd"


def test_an_announcement_is_read_and_removed(tmp_path: Path) -> None:
    dump = write_dump(tmp_path)
    announce(tmp_path, dump)
    inbox = Inbox(str(tmp_path))
    (found,), bad = inbox.waiting()
    assert (found.namespace, found.poduid, found.container, found.id) == dump.relative_to(tmp_path).parts
    assert not bad
    inbox.remove([found])
    assert inbox.waiting() == ([], [])


def test_an_announcement_that_came_anew_stays(tmp_path: Path) -> None:
    dump = write_dump(tmp_path)
    announce(tmp_path, dump)
    inbox = Inbox(str(tmp_path))
    announced, _ = inbox.waiting()
    announce(tmp_path, dump)
    inbox.remove(announced)
    (again,), _ = inbox.waiting()
    assert again.stamp != announced[0].stamp
    inbox.remove([again])
    assert inbox.waiting() == ([], [])


def test_the_oldest_crash_comes_first(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        name = f"2026010{day}T000000Z-x-1-00000000"
        (tmp_path / store.INBOX).mkdir(exist_ok=True)
        (tmp_path / store.INBOX / name).write_text(f"demo/uid/app/{name}\n")
    assert [found.id[6:8] for found in Inbox(str(tmp_path)).waiting()[0]] == ["01", "02", "03"]


def test_a_store_without_an_inbox_has_no_announcements(tmp_path: Path) -> None:
    assert Inbox(str(tmp_path)).waiting() == ([], [])


def test_a_store_that_is_away_is_no_empty_inbox() -> None:
    with pytest.raises(FileNotFoundError):
        Inbox("/nowhere").waiting()


@pytest.mark.parametrize("in_its_place", ["file", "link"])
def test_what_is_put_aside_stays_whole(tmp_path: Path, in_its_place: str) -> None:
    inbox = tmp_path / store.INBOX
    inbox.mkdir()
    (tmp_path / "elsewhere").mkdir()
    if in_its_place == "file":
        (inbox / BAD).write_text("no directory")
    else:
        (inbox / BAD).symlink_to(tmp_path / "elsewhere")
    (inbox / "rubbish").write_text("rubbish")
    Inbox(str(tmp_path)).put_aside("rubbish", "its name is no dump's id")
    (aside,) = (inbox / BAD).iterdir()
    assert aside.read_text() == "rubbish"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_longest_name_can_be_put_aside(tmp_path: Path) -> None:
    inbox = tmp_path / store.INBOX
    inbox.mkdir()
    name = os.fsdecode("ä".encode() * 127 + b"\xff")
    (inbox / name).write_text("")
    found = Inbox(str(tmp_path))
    ((said, reason),) = found.waiting()[1]
    assert said == name
    found.put_aside(said, reason)
    assert found.waiting() == ([], [])


@pytest.mark.parametrize("place", [f"_host/node-1/{ID}", f"_unidentified/{'c' * 64}/{ID}"])
def test_what_is_no_pods(place: str) -> None:
    assert parsed(ID, place.encode()).namespace == ""


@pytest.mark.parametrize(
    "text",
    ["", ID, f"/demo/uid/app/{ID}", f"demo/../app/{ID}", f"demo/uid/app/{ID}/", f"demo/uid/app/x\n{ID}",
     f"_host/{ID}", f"Demo/uid/app/{ID}", f"demo/uid/app/{ID}\n\n", f"demo/uid/app/{ID[:-1]}e"],
)  # fmt: skip
def test_what_is_no_announcement(text: str) -> None:
    with pytest.raises(NoAnnouncement):
        parsed(ID, text.encode())


@given(st.text() | st.just(ID), st.binary(max_size=200))
def test_anything_is_an_announcement_of_checked_names_or_none(name: str, text: bytes) -> None:
    try:
        found = parsed(name, text)
    except NoAnnouncement:
        return
    assert store.is_dump_id(found.id)
    assert not found.namespace or store.is_namespace(found.namespace)
