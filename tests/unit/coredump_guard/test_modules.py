"""Mapped ELF files: real processes and files, and maps and notes that are anybody's words."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import filesystems, modules
from coredump_guard.modules import Mapped, build_id, mapped, of_process
from coredump_guard.process import PAGE, Process

from .test_elfcore import PT_LOAD, PT_NOTE, core_head, note

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="missing: gcc; tools/install installs it")


@contextmanager
def running(*command: str | Path) -> Iterator[Process]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Process("/proc", process.pid) as held:
                yield held
        finally:
            process.kill()


def compiled(path: Path, *options: str) -> Path:
    source = '#include <stdio.h>\nint main(void) { puts("ready"); fflush(stdout); getchar(); return 0; }'
    command = ["gcc", "-x", "c", "-", "-o", str(path), *options]
    subprocess.run(command, input=source.encode(), check=True, timeout=60)
    return path


def true_build_id(path: str | Path) -> str:
    said = subprocess.run(
        ["readelf", "-n", path], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    return re.search("Build ID: ([0-9a-f]+)", said)[1]  # type: ignore[index]


def found(process: Process) -> list[tuple[str, str]]:
    listed = of_process(process, process.read("maps"), process.link("exe").removesuffix(" (deleted)"))
    return [(module.path, known) for module, known in listed]


def of_file(path: Path) -> str | None:
    data = path.read_bytes()
    return build_id(lambda at, size: data[at : at + size], in_memory=False)


@needs_gcc
@pytest.mark.parametrize(
    "options", [[], ["-static"], ["-no-pie"], ["-static-pie"], ["-Wl,-z,noseparate-code"]]
)
def test_the_executable_comes_first_with_its_build_id(tmp_path: Path, options: list[str]) -> None:
    program = compiled(tmp_path / "zz", *options)
    with running(program) as held:
        listed = found(held)
    assert listed[0] == (str(program), true_build_id(program)) == (str(program), of_file(program))
    assert [known == true_build_id(path) for path, known in listed[1:]] == [True] * (len(listed) - 1)
    assert len(listed) == (1 if options and options[0].startswith("-static") else 3)


@needs_gcc
def test_a_deleted_executable(tmp_path: Path) -> None:
    program = compiled(tmp_path / "gone")
    known = true_build_id(program)
    with running(program) as held:
        program.unlink()
        assert found(held)[0] == (str(program), known)


@needs_gcc
def test_a_forked_process_that_has_no_page_of_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "forking"
    source = """
    #include <stdio.h>
    #include <unistd.h>
    int main(void) { if (fork()) pause(); puts("ready"); fflush(stdout); getchar(); return 0; }
    """
    command = ["gcc", "-static", "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=source.encode(), check=True, timeout=60)
    with running(program) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
        try:
            with Process("/proc", int(children)) as held:
                listed = mapped(held.read("maps"))
                assert not held.resident(listed[0].start, listed[0].start + 1)
                with monkeypatch.context() as patched:
                    patched.setattr(filesystems, "LOCAL", frozenset())  # such as a FUSE one of its own
                    assert found(held) == [(str(program), "")]
                assert found(held) == [(str(program), true_build_id(program))]
        finally:
            os.kill(int(children), signal.SIGKILL)


@needs_gcc
def test_one_without_a_build_id(tmp_path: Path) -> None:
    program = compiled(tmp_path / "none", "-Wl,--build-id=none")
    with running(program) as held:
        assert found(held)[0] == (str(program), "") == (str(program), of_file(program))


def test_where_the_leader_has_exited() -> None:
    program = """
import ctypes, threading, time
def rest():
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(60)
threading.Thread(target=rest).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with running(sys.executable, "-I", "-S", "-c", program) as held:
        listed = of_process(held, held.read("maps"), held.link("exe"))
        assert listed[0][0].path == held.link("exe")
        assert listed[0][1] == true_build_id(held.link("exe"))


def test_files_that_hold_no_code_are_no_modules() -> None:
    maps = (
        b"1000-2000 r--p 00000000 fe:00 10                       /data\n"
        b"3000-4000 r--p 00000000 fe:00 11                       /lib/a b.so\n"
        b"4000-5000 r-xp 00001000 fe:00 11                       /lib/a b.so\n"
        b"6000-7000 r-xp 00001000 fe:00 12                       /lib/not-from-its-beginning.so\n"
        b"8000-9000 r-xp 00000000 00:00 0                        [vdso]\n"
        b"a000-b000 r-xp 00000000 fd:1a 13                       /app\\012name (deleted)\n"
    )
    library, program = (
        Mapped(0x3000, 0x4000, "fe:00", "11", "/lib/a b.so"),
        Mapped(0xA000, 0xB000, "fd:1a", "13", "/app\\012name"),
    )
    assert mapped(maps) == [library, program]
    assert mapped(maps, "/app\nname") == [program, library]


@given(st.binary(max_size=300))
def test_any_maps_raise_nothing(maps: bytes) -> None:
    mapped(maps)


def elf_with(notes: bytes) -> bytes:
    return core_head([(PT_NOTE, 0, len(notes)), (PT_LOAD, 0, 0)], notes)


def id_of(data: bytes) -> str | None:
    return build_id(lambda at, size: data[at : at + size], in_memory=False)


def test_notes_of_others_are_passed_over() -> None:
    ours = note(3, b"\xab\xcd" * 10, name=b"GNU\0")
    assert (
        id_of(elf_with(note(3, b"x" * 20, name=b"Go\0\0") + note(1, b"y" * 16, name=b"GNU\0") + ours))
        == "abcd" * 10
    )


@pytest.mark.parametrize("size", [0, modules.MAX_BUILD_ID + 1, 4000])
def test_a_build_id_of_no_reasonable_length_is_none(size: int) -> None:
    assert id_of(elf_with(note(3, bytes(size), name=b"GNU\0"))) == ""


def test_what_is_no_elf_file() -> None:
    assert id_of(b"#!/bin/sh\n") is None


@given(st.dictionaries(st.integers(4, 200), st.integers(0, 255), max_size=30))
def test_mutated_headers_raise_nothing_and_read_little(changes: dict[int, int]) -> None:
    data = bytearray(elf_with(note(3, bytes(20), name=b"GNU\0")))
    for at, value in changes.items():
        if at < len(data):
            data[at] = value

    def read(at: int, size: int) -> bytes:
        assert 0 <= size <= modules.MAX_NOTES
        return bytes(data[at : at + size]) if at >= 0 else b""

    for in_memory in (True, False):
        build_id(read, in_memory=in_memory)


def test_a_table_of_headers_that_is_far_away_is_not_read() -> None:
    far = bytearray(elf_with(b""))
    struct.pack_into("<Q", far, 32, 1 << 62)
    sizes: list[int] = []

    def read(at: int, size: int) -> bytes:
        sizes.append(size)
        return bytes(far[at : at + size])

    assert build_id(read, in_memory=False) == ""
    assert max(sizes) <= modules.MAX_NOTES


def test_memory_that_would_have_to_be_fetched_is_not_read() -> None:
    program = """
import mmap, sys
area = mmap.mmap(-1, 3 * 4096)
area[:4] = b"here"
import ctypes
print("ready", flush=True)
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdin=-1, stdout=-1) as process:
        try:
            assert process.stdout is not None
            address = int(process.stdout.readline() and process.stdout.readline())
            with Process("/proc", process.pid) as held:
                assert held.memory(address, 4) == b"here"
                assert held.memory(address, PAGE + 1) == held.memory(address + PAGE, 4) == b""
                assert not held.resident(address, address)
                assert not held.resident(0, 1)
        finally:
            process.kill()
