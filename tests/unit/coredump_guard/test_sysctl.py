"""The kernel's settings: held descriptors tell the truth, and a write is all or nothing."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from coredump_guard import sysctl
from coredump_guard.sysctl import SettingError, Settings

from .conftest import descriptors

BEFORE = Settings("core \udcff", "4", "1")
AFTER = Settings("|/ours", "0", "2")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "fs").mkdir()
    for name, value in asdict(BEFORE).items():
        (tmp_path / sysctl.FILES[name]).write_bytes(os.fsencode(value) + b"\n")
    monkeypatch.setattr(sysctl, "ROOT", str(tmp_path))
    return tmp_path


def test_what_is_held_is_read_again_and_again(root: Path) -> None:
    held = sysctl.hold()
    assert sysctl.read(held) == BEFORE
    sysctl.write(AFTER, BEFORE)
    assert sysctl.read(held) == AFTER == sysctl.current()
    sysctl.release(held)


def test_a_file_that_is_missing_leaves_no_descriptor(root: Path) -> None:
    (root / "fs" / "suid_dumpable").unlink()
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        sysctl.hold()
    assert descriptors() == before


def test_only_what_differs_is_written(root: Path) -> None:
    (root / "kernel" / "core_pattern").unlink()
    with pytest.raises(SettingError, match=r"the kernel refuses core_pattern .*: No such file"):
        sysctl.write(AFTER, BEFORE, ("core_pattern",))
    (root / "kernel" / "core_pattern").write_text("core\n")
    sysctl.write(Settings("core", "0", "1"), Settings("core", "4", "1"))
    assert sysctl.current() == Settings("core", "0", "1")


def test_what_the_kernel_makes_something_else_of_is_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sysctl._set
    monkeypatch.setattr(sysctl, "_set", lambda name, value: real(name, value[:4]))
    with pytest.raises(SettingError, match=r"the kernel made '\|/ou' of core_pattern '\|/ours'"):
        sysctl.write(AFTER, Settings("core", "4", "1"))
    assert sysctl.current() == Settings("core", "4", "1")


def test_the_machines_own_settings_can_be_read() -> None:
    assert sysctl.current().core_pipe_limit.isdigit()
