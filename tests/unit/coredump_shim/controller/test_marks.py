"""Marks on a store, and whatever else lies where they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from coredump_shim.controller import marks

UID = "30d4253e-831e-482d-bdf9-e1b2603f72aa"
WHEN = 1_795_500_000.0


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def test_a_mark_says_since_when(root: str, tmp_path: Path) -> None:
    assert marks.since(root, "demo", UID) is None
    marks.make(root, "demo", UID, WHEN)
    assert marks.since(root, "demo", UID) == WHEN
    assert (tmp_path / ".gone/demo" / UID).read_text() == "2026-11-24T06:00:00Z\n"
    assert marks.namespaces(root) == ["demo"]
    assert marks.all_of(root, "demo") == [UID]


def test_the_last_one_of_a_namespace_takes_its_directory_along(root: str, tmp_path: Path) -> None:
    marks.make(root, "demo", UID, WHEN)
    marks.make(root, "demo", "other", WHEN)
    marks.clear(root, "demo", "other")
    assert marks.all_of(root, "demo") == [UID]
    marks.clear(root, "demo", UID)
    marks.clear(root, "demo", UID)
    assert list((tmp_path / ".gone").iterdir()) == []


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24", "\0" * 1000, "2026-11-24T07:20:00Z" * 9])
def test_what_is_no_time_counts_as_none_and_is_replaced(root: str, tmp_path: Path, text: str) -> None:
    path = tmp_path / ".gone/demo" / UID
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert marks.since(root, "demo", UID) is None
    marks.make(root, "demo", UID, WHEN)
    assert marks.since(root, "demo", UID) == WHEN


def test_links_and_directories_are_replaced_and_not_followed(root: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("2026-11-24T07:20:00Z")
    gone = tmp_path / ".gone/demo"
    gone.mkdir(parents=True)
    (gone / UID).symlink_to(precious)
    (gone / "other" / "below").mkdir(parents=True)
    assert marks.since(root, "demo", UID) is None
    assert marks.since(root, "demo", "other") is None
    marks.make(root, "demo", UID, WHEN)
    marks.make(root, "demo", "other", WHEN)
    assert marks.since(root, "demo", UID) == marks.since(root, "demo", "other") == WHEN
    assert precious.read_text() == "2026-11-24T07:20:00Z"


def test_names_that_no_pod_has_are_left_out(root: str, tmp_path: Path) -> None:
    marks.make(root, "demo", UID, WHEN)
    (tmp_path / ".gone/demo/.hidden").write_text("")
    assert marks.all_of(root, "demo") == [UID]
