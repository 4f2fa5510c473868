"""Which machine this is: the same at every start, and not what the machine-id is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coredump_guard import machine


def test_it_comes_from_the_machine_id_and_does_not_tell_it(tmp_path: Path) -> None:
    source, other = tmp_path / "machine-id", tmp_path / "other"
    source.write_text("0123456789abcdef0123456789abcdef\n")
    other.write_text("1123456789abcdef0123456789abcdef\n")
    found = machine.identifier(str(tmp_path / "state"), str(source))
    assert re.fullmatch("[0-9a-f]{8}", found)
    assert found not in source.read_text()
    assert found == machine.identifier(str(tmp_path / "elsewhere"), str(source))
    assert found != machine.identifier(str(tmp_path / "state"), str(other))
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", [None, b"", b"uninitialized\n", b"\xff" * 32, b"../../../" * 100])
def test_without_a_machine_id_one_is_made_and_kept(tmp_path: Path, text: bytes | None) -> None:
    source = tmp_path / "machine-id"
    if text is not None:
        source.write_bytes(text)
    found = machine.identifier(str(tmp_path / "state"), str(source))
    assert found == machine.identifier(str(tmp_path / "state"), str(source))
    assert found != machine.identifier(str(tmp_path / "another"), str(source))
