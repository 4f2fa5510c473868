"""The store's directories by descriptor: what is planted in them is neither followed nor waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import tree

from .conftest import descriptors


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def root(top: Path) -> Iterator[int]:
    before = descriptors()
    with tree.root(str(top)) as fd:
        yield fd
    assert descriptors() == before


def test_directories_are_made_with_their_group_and_mode(root: int, top: Path) -> None:
    group = os.getgid() if os.geteuid() else 4242
    with tree.entered(root, ["a", "b"], group) as fd:
        assert os.path.samestat(os.fstat(fd), os.stat(top / "a" / "b"))
    for path in (top / "a", top / "a" / "b"):
        assert (path.stat().st_mode & 0o7777, path.stat().st_gid) == (0o750, group)


def test_one_whose_maker_died_gets_its_group_later_and_somebody_elses_is_left(root: int, top: Path) -> None:
    (top / "unfinished").mkdir(0o500)
    (top / "yours").mkdir(0o700)
    group = os.getgid() if os.geteuid() else 4242
    for name in ("unfinished", "yours"):
        with tree.entered(root, [name], group):
            pass
    assert ((top / "unfinished").stat().st_mode & 0o777, (top / "unfinished").stat().st_gid) == (0o750, group)
    assert ((top / "yours").stat().st_mode & 0o777, (top / "yours").stat().st_gid) == (
        0o700,
        top.stat().st_gid,
    )


def test_nothing_is_made_without_being_told(root: int, top: Path) -> None:
    with pytest.raises(FileNotFoundError), tree.entered(root, ["a"]):
        pass
    assert os.listdir(top) == []


@pytest.mark.parametrize("names", [["link"], ["link", "x"], ["file"], ["fifo"], ["dir", "link"]])
@pytest.mark.parametrize("group", [None, -1])
def test_what_is_no_directory_is_not_entered(
    root: int, top: Path, tmp_path: Path, names: list[str], group: int | None
) -> None:
    (top / "dir").mkdir()
    (top / "link").symlink_to(tmp_path)
    (top / "dir" / "link").symlink_to(tmp_path)
    (top / "file").touch()
    os.mkfifo(top / "fifo")
    with pytest.raises(NotADirectoryError, match="in the store is not a directory"):  # noqa: SIM117
        with tree.entered(root, names, group):
            pass


def test_a_root_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is it mounted"), tree.root(str(tmp_path / "away")):
        pass


def test_only_regular_files_are_read_and_no_more_of_them_than_wanted(root: int, top: Path) -> None:
    (top / "file").write_bytes(b"12345")
    (top / "link").symlink_to("file")
    (top / "dir").mkdir()
    os.mkfifo(top / "fifo")
    assert tree.read(root, "file", 3) == b"123"
    for name in ("link", "dir", "fifo", "none"):
        with pytest.raises(OSError, match=r".") as raised:
            tree.read(root, name, 3)
        assert raised.value.errno in tree.ABSENT


def test_writing_replaces_what_is_there_and_touches_nothing_else(
    root: int, top: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    os.mkfifo(top / "fifo")
    (top / "link").symlink_to(outside)
    (top / "dir").mkdir()
    (top / "dir" / "x").touch()
    for name in ("fifo", "link", "dir", "new"):
        tree.write(root, name, b"data", -1)
        assert (top / name).read_bytes() == b"data"
        assert not (top / name).is_symlink()
    assert outside.read_text() == "precious"


def test_removing_follows_no_link(root: int, top: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (top / "dir" / "below").mkdir(parents=True)
    (top / "dir" / "link").symlink_to(outside)
    (top / "dir" / "below" / "link").symlink_to(outside)
    (top / "link").symlink_to(outside)
    os.mkfifo(top / "dir" / "fifo")
    for name in ("dir", "link", "none"):
        tree.remove(root, name)
    assert os.listdir(top) == []
    assert os.listdir(outside) == ["precious"]


def test_removing_what_is_deep_needs_neither_stack_nor_descriptors(root: int, top: Path) -> None:
    """Deeper than a path may be long, and than Python recurs."""
    fds = [os.dup(root)]
    for _ in range(3000):
        os.mkdir("d", dir_fd=fds[-1])
        fds.append(os.open("d", os.O_RDONLY, dir_fd=fds[-1]))
        os.close(fds.pop(0))
    os.close(fds[0])
    tree.remove(root, "d")
    assert os.listdir(top) == []
