"""The doctor's checks of our own part; what is broken for real is in the integration tests."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import config as configuration
from coredump_guard import deflate, doormancheck
from coredump_guard.config import Config


def test_settings_that_differ_are_named(config: Config) -> None:
    assert doormancheck.same_settings(config).state == "warning"
    configuration.keep(config)
    assert doormancheck.same_settings(config).state == "ok"
    found = doormancheck.same_settings(replace(config, workers=7, deny=("a",)))
    assert found.found.endswith("guard.conf: deny, workers")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"x": 1}'])
def test_settings_that_cannot_be_read(config: Config, text: str) -> None:
    os.makedirs(config.runtime)
    Path(config.runtime, "settings.json").write_text(text)
    assert doormancheck.same_settings(config).state == "warning"


@pytest.mark.parametrize(
    ("mode", "changed"), [(0o755, False), (0o775, False), (0o757, True), (0o1777, False), (0o700, False)]
)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: what others may change is theirs otherwise")
def test_who_can_change_a_directory(tmp_path: Path, mode: int, changed: bool) -> None:
    tmp_path.chmod(mode)
    assert doormancheck._others(str(tmp_path)) == changed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown(2)")
def test_what_belongs_to_somebody_else_can_be_changed_by_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o755)
    assert not doormancheck._others(str(file))
    os.chown(file, -1, 65534)
    assert not doormancheck._others(str(file))
    file.chmod(0o775)
    assert doormancheck._others(str(file))
    file.chmod(0o755)
    os.chown(file, 65534, -1)
    assert doormancheck._others(str(file))


def test_a_directory_is_no_program(config: Config, tmp_path: Path) -> None:
    found = doormancheck.interpreter(replace(config, interpreter=str(tmp_path)))
    assert (found.state, found.found) == ("FAIL", f"{tmp_path}: is not a file")


def test_libraries_that_are_missing_are_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "FAST", False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = doormancheck.libraries(config)
    assert found.state == "warning"
    assert "without isal" in found.found
    assert "without pyroute2" in found.found
