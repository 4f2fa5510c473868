"""Removing dumps from a store that somebody hostile may have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from coredump_shim import removal
from coredump_shim.catalog import Catalog
from tests.support.dumps import write_dump


def test_removes_dump_and_announcement(tmp_path: Path) -> None:
    gone, kept = write_dump(tmp_path), write_dump(tmp_path, container="sidecar")
    inbox = tmp_path / ".inbox"
    inbox.mkdir()
    for dump in (gone, kept):
        (inbox / dump.name).write_text("")
    found = Catalog(str(tmp_path)).dumps("demo")
    victims = [dump for dump in found if dump.container == "app"]
    assert removal.remove(str(tmp_path), victims) == victims
    assert removal.remove(str(tmp_path), victims) == []
    assert list(gone.parent.iterdir()) == []
    assert [entry.name for entry in inbox.iterdir()] == [kept.name]
    assert kept.is_dir()


def test_follows_no_symlink(tmp_path: Path) -> None:
    store, outside = tmp_path / "store", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    dump = write_dump(store)
    (dump / "link").symlink_to(outside)
    (dump / "subdirectory").mkdir()
    (dump / "subdirectory" / "link").symlink_to(outside / "precious")
    (store / ".inbox").symlink_to(outside)
    (outside / dump.name).write_text("")
    found = Catalog(str(store)).dumps("demo")
    removal.remove(str(store), found)
    assert list(dump.parent.iterdir()) == []
    assert sorted(entry.name for entry in outside.iterdir()) == sorted(["precious", dump.name])


def test_a_container_that_became_a_symlink_is_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    dump = write_dump(store)
    found = Catalog(str(store)).dumps("demo")
    dump.parent.rename(tmp_path / "moved")
    dump.parent.symlink_to(tmp_path / "moved")
    assert removal.remove(str(store), found) == []
    assert (tmp_path / "moved" / dump.name / "core.gz").exists()


def test_finishes_what_an_earlier_removal_left(tmp_path: Path) -> None:
    half, gone = write_dump(tmp_path), write_dump(tmp_path)
    half.rename(half.parent / f"{removal.PURGED}{half.name}-0")
    catalog = Catalog(str(tmp_path))
    found = catalog.dumps("demo")
    assert [dump.id for dump in found] == [gone.name]
    removal.remove(str(tmp_path), found)
    assert list(gone.parent.iterdir()) == []


def test_an_announcement_of_what_is_gone_names_its_pod(tmp_path: Path) -> None:
    dump = write_dump(tmp_path)
    (tmp_path / ".inbox").mkdir()
    (found,) = Catalog(str(tmp_path)).dumps("demo")
    removal.remove(str(tmp_path), [found])
    removal.announce(str(tmp_path), found)
    (announcement,) = (tmp_path / ".inbox").iterdir()
    assert announcement.name == dump.name
    assert announcement.read_text() == f"{dump.relative_to(tmp_path)}\n"


def test_nothing_is_announced_through_a_link_or_without_an_inbox(tmp_path: Path) -> None:
    store, outside = tmp_path / "store", tmp_path / "outside"
    outside.mkdir()
    write_dump(store)
    (found,) = Catalog(str(store)).dumps("demo")
    removal.announce(str(store), found)
    assert not (store / ".inbox").exists()
    (store / ".inbox").symlink_to(outside)
    removal.announce(str(store), found)
    assert list(outside.iterdir()) == []


def test_an_announcement_that_cannot_be_leaves_no_draft(tmp_path: Path) -> None:
    dump = write_dump(tmp_path)
    (found,) = Catalog(str(tmp_path)).dumps("demo")
    (tmp_path / ".inbox" / dump.name / "planted").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        removal.announce(str(tmp_path), found)
    assert [path.name for path in (tmp_path / ".inbox").iterdir()] == [dump.name]
