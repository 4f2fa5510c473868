"""A core.gz against its record."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from coredump_guard.record import Core
from coredump_shim import storedcore
from coredump_shim.storedcore import CoreError, StoredCore
from tests.support.dumps import write_dump

RAW = b"core" * 5000


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return write_dump(tmp_path, core=RAW) / "core.gz"


def check(path: Path, expected: Core) -> StoredCore:
    fd = os.open(path, os.O_RDONLY)
    try:
        return storedcore.check(fd, expected)
    finally:
        os.close(fd)


def recorded(path: Path) -> Core:
    return Core(bytes=len(RAW), stored_bytes=path.stat().st_size)


def test_as_recorded(stored: Path) -> None:
    core = check(stored, recorded(stored))
    assert core.bytes == len(RAW)
    assert core.start + core.length < core.stored_bytes == stored.stat().st_size


@pytest.mark.parametrize("change", [{"bytes": len(RAW) + 1}, {"bytes": -1}, {"stored_bytes": 1}])
def test_other_than_recorded(stored: Path, change: dict[str, int]) -> None:
    with pytest.raises(CoreError, match=r"core\.gz"):
        check(stored, dataclasses.replace(recorded(stored), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 10, 17, 18])
def test_cut(stored: Path, size: int) -> None:
    os.truncate(stored, size)
    with pytest.raises(CoreError, match=r"core\.gz"):
        check(stored, recorded(stored))


def test_no_gzip(stored: Path) -> None:
    stored.write_bytes(bytes(stored.stat().st_size))
    with pytest.raises(CoreError, match="does not begin"):
        check(stored, recorded(stored))
