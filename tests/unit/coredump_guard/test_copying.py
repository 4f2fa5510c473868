"""The copying child: whole ELF files only, named by their own build-id and sum, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coredump_guard import copying, executables
from coredump_guard.copying import NAME, copy

from .test_elfcore import PT_LOAD, PT_NOTE, core_head, note

ID = "ab" * 20


def elf(build_id: str = ID, more: bytes = b"") -> bytes:
    notes = note(3, bytes.fromhex(build_id), name=b"GNU\0")
    return core_head([(PT_NOTE, 0, len(notes)), (PT_LOAD, 0, 0)], notes) + more


def name_of(data: bytes, build_id: str = ID) -> str:
    return f"{build_id}.{hashlib.sha256(data).hexdigest()[:16]}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "spool" / copying.DIRECTORY
    (path / copying.STORED).mkdir(parents=True)
    return path


def copied(source: Path, directory: Path, limit: int = 1 << 20, keep_free: int = 0) -> str | None:
    fd = os.open(source, os.O_PATH)
    try:
        return copy(fd, str(directory), limit, keep_free)
    finally:
        os.close(fd)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def test_a_file_is_copied_whole(tmp_path: Path, directory: Path) -> None:
    source = tmp_path / "app"
    source.write_bytes(data := elf(more=os.urandom(3_000_000)))
    assert copied(source, directory, len(data)) == name_of(data)
    assert (directory / name_of(data)).read_bytes() == data
    assert files(directory) == [name_of(data)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"root:secret:1::::::\n",
        b"#!/bin/sh\n",
        core_head([(PT_LOAD, 0, 0)]) + bytes(99),
        elf("ab"),
        elf(""),
    ],
)
def test_what_is_no_elf_file_with_a_build_id_is_not(tmp_path: Path, directory: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert copied(tmp_path / "file", directory) is None
    assert files(directory) == []


def test_one_that_is_too_large_is_not(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "app").write_bytes(data := elf(more=bytes(5000)))
    assert copied(tmp_path / "app", directory, len(data) - 1) is None
    assert files(directory) == []


def test_nothing_is_copied_where_the_disk_must_stay_free(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "app").write_bytes(elf())
    assert copied(tmp_path / "app", directory, keep_free=1 << 62) is None
    assert files(directory) == []


def test_what_the_store_has_is_not_copied_again(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "app").write_bytes(data := elf())
    (tmp_path / "forged").write_bytes(other := elf(more=b"forged"))
    (directory / copying.STORED / name_of(data)).touch()
    assert copied(tmp_path / "app", directory) is None
    assert copied(tmp_path / "forged", directory) == name_of(other)
    assert files(directory) == [name_of(other)]


def test_neither_fifo_nor_device_nor_directory_is_opened(tmp_path: Path, directory: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for source in (tmp_path / "fifo", Path("/dev/null"), tmp_path):
        assert copied(source, directory) is None


def test_a_full_disk_leaves_nothing(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app").write_bytes(elf())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        copied(tmp_path / "app", directory)
    assert files(directory) == []


def test_names() -> None:
    match = NAME.match(name_of(b"x"))
    assert match is not None
    assert match["build_id"] == ID
    for name in ("../x.0123456789abcdef", "ab.0123456789abcdef", "abcd.0123", "stored", ".4711"):
        assert NAME.match(name) is None


def test_as_a_process_of_its_own(tmp_path: Path, directory: Path) -> None:
    """All there is room for, and the rest not; a bad file among them holds up no other."""
    sources = [tmp_path / name for name in ("bad", "one", "two")]
    sources[0].write_bytes(b"bad")
    data = [elf(f"{number}{number}" * 20, bytes(9000)) for number in (1, 2)]
    for source, content in zip(sources[1:], data, strict=True):
        source.write_bytes(content)
    fds = [os.open(source, os.O_PATH) for source in sources]
    values = [directory.parent, 1 << 20, len(data[0]) + 100, 0, 60, *fds]
    command = [sys.executable, "-I", "-S", "-c"]
    code = executables._CHILD
    handler = Path(copying.__file__).parents[1]
    try:
        subprocess.run([*command, code, handler, *map(str, values)], check=True, pass_fds=fds, timeout=60)
    finally:
        for fd in fds:
            os.close(fd)
    assert files(directory) == [name_of(data[0], "11" * 20)]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="missing: gcc")
def test_a_real_program(tmp_path: Path, directory: Path) -> None:
    subprocess.run(
        ["gcc", "-x", "c", "-", "-o", tmp_path / "app"], input=b"int main(void) {}", check=True, timeout=60
    )
    name = copied(tmp_path / "app", directory)
    assert name is not None
    said = subprocess.run(
        ["file", "-b", tmp_path / "app"], check=True, capture_output=True, text=True, timeout=60
    )
    assert f"BuildID[sha1]={name[:40]}," in said.stdout
