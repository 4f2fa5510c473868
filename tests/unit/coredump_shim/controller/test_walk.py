"""Walking a store that somebody hostile may have written, by names only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coredump_shim import beneath
from coredump_shim.controller import walk
from coredump_shim.controller.walk import PodDumps

FIRST, SECOND, THIRD = (f"20261123T23273{n}Z-web-29798-b527c0f{n}" for n in range(3))
POD = "30d4253e-831e-482d-bdf9-e1b2603f72aa"


def dump(root: Path, *place: str) -> Path:
    directory = root.joinpath(*place)
    directory.mkdir(parents=True)
    return directory


def test_pods_in_order_with_their_dumps_sorted(tmp_path: Path) -> None:
    for place in (("b", POD, "app", SECOND), ("b", POD, "app", FIRST), ("b", POD, "side", THIRD)):
        dump(tmp_path, *place)
    dump(tmp_path, "a", "f" * 32, "app", FIRST)
    found = list(walk.pods(str(tmp_path)))
    assert found == [
        PodDumps("a", "f" * 32, {"app": [FIRST]}),
        PodDumps("b", POD, {"app": [FIRST, SECOND], "side": [THIRD]}),
    ]
    assert [len(pod) for pod in found] == [1, 3]
    assert walk.pod(str(tmp_path), "b", POD) == found[1]


def test_what_no_dump_can_be_is_not_seen(tmp_path: Path) -> None:
    outside = dump(tmp_path, "outside", POD, "app", FIRST)
    root = tmp_path / "store"
    for place in (
        (".inbox", POD, "app", FIRST),
        ("_host", "node", FIRST),
        ("_unidentified", "c" * 64, FIRST),
        ("a", "..uid", "app", FIRST),
        ("a", POD, "App", FIRST),
        ("a", POD, "app", f".purged-{FIRST}-00"),
    ):
        dump(root, *place)
    (root / "a" / POD / "app" / SECOND).write_text("a file")
    (root / "a" / POD / "app" / THIRD).symlink_to(outside)
    (root / "a" / POD / "link").symlink_to(outside.parent)
    (root / "a" / "linked").symlink_to(outside.parent.parent)
    (root / "b").symlink_to(tmp_path / "outside")
    assert list(walk.pods(str(root))) == [PodDumps("a", POD, {"app": []})]
    assert walk.pod(str(root), "b", POD) == PodDumps("b", POD, {})
    assert walk.pod(str(root), "..", POD) == PodDumps("..", POD, {})


def test_the_signature_tells_that_a_dump_came_or_went() -> None:
    pods = [
        {"app": [FIRST]},
        {"app": [FIRST, SECOND]},
        {"app": [SECOND]},
        {"side": [FIRST]},
        {"app": [FIRST], "side": [SECOND]},
        {},
    ]
    assert len({PodDumps("a", POD, containers).signature for containers in pods}) == len(pods)
    assert PodDumps("a", POD, {"side": []}).signature == PodDumps("a", POD, {}).signature


def test_a_broken_directory_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [
        dump(tmp_path, "a", POD, "app", FIRST).parent,
        dump(tmp_path, "b", POD, "app", FIRST).parents[2],
    ]
    dump(tmp_path, "a", "other", "app", FIRST)
    dump(tmp_path, "c", POD, "app", FIRST)
    inodes = {path.stat().st_ino for path in broken}
    real = beneath.subdirectories

    def subdirectories(fd: int) -> list[str]:
        if os.fstat(fd).st_ino in inodes:
            raise OSError(5, "Input/output error")
        return real(fd)

    monkeypatch.setattr(beneath, "subdirectories", subdirectories)
    unreadable: set[str] = set()
    found = [(pod.namespace, pod.poduid) for pod in walk.pods(str(tmp_path), unreadable)]
    assert found == [("a", "other"), ("c", POD)]
    assert unreadable == {"a", "b"}


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(walk.pods(str(tmp_path / "none")))
