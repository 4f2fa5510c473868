"""What a look at a store shows; a store that does not answer is in tests/integration/test_hung_store.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from coredump_guard import store
from coredump_shim import storelook
from tests.support.dumps import write_dump

SECONDS = 10.0


def test_an_empty_directory(tmp_path: Path) -> None:
    seen = storelook.look(str(tmp_path), SECONDS)
    assert (seen.used, seen.mounted, seen.dump, seen.cluster, seen.readonly) == (False, False, "", "", "")
    assert seen.stamp is not None
    assert abs(seen.stamp - time.time()) < 3600
    assert os.listdir(tmp_path) == []


def test_a_dump_is_read_whoever_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "demo" / "empty-pod").mkdir(parents=True)
    (tmp_path / ".inbox").mkdir()
    dump = write_dump(tmp_path)
    (tmp_path / store.CLUSTER).write_text("uid-of-kube-system\n")
    seen = storelook.look(str(tmp_path), SECONDS)
    assert (seen.used, seen.dump, seen.unreadable) == (True, str(dump.relative_to(tmp_path)), "")
    assert seen.cluster == "uid-of-kube-system"


def test_a_store_that_a_node_delivers_to_is_used(tmp_path: Path) -> None:
    (tmp_path / store.INBOX).mkdir()
    assert storelook.look(str(tmp_path), SECONDS).used


def test_pods_that_a_store_lacks(tmp_path: Path) -> None:
    namespace, poduid = write_dump(tmp_path).relative_to(tmp_path).parts[:2]
    there, gone = (namespace, poduid), (namespace, "22222222-2222-3333-4444-555555555555")
    odd = [("..", poduid), (namespace, "../" + poduid), (namespace, "None")]
    (tmp_path / "linked").symlink_to(tmp_path / namespace)
    assert storelook.lacking(str(tmp_path), [there, there], SECONDS) == 0
    assert storelook.lacking(str(tmp_path), [there, gone, *odd, ("linked", poduid)], SECONDS) == 5
    with pytest.raises(OSError, match="No such file or directory"):
        storelook.lacking(str(tmp_path / "none"), [there], SECONDS)


def test_a_crash_without_a_core_is_readable(tmp_path: Path) -> None:
    write_dump(tmp_path, refused="[policy] deny")
    assert storelook.look(str(tmp_path), SECONDS).unreadable == ""


def test_a_core_that_is_none_is_said(tmp_path: Path) -> None:
    core = write_dump(tmp_path) / store.CORE
    core.unlink()
    core.symlink_to("/etc/hostname")
    assert "symbolic links" in storelook.look(str(tmp_path), SECONDS).unreadable


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        storelook.look(str(tmp_path / "none"), SECONDS)


def test_another_file_system_is_a_mount() -> None:
    seen = storelook.look("/proc", SECONDS)
    assert (seen.mounted, seen.stamp, bool(seen.readonly)) == (True, None, True)
