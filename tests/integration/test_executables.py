"""Executables and libraries in the store: enough for gdb, and no way to anybody else's files."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import executables, store
from coredump_guard.config import load
from testbed.containerd import Containerd
from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="missing: gcc; tools/install installs it"),
]

LIBRARY = """
void fall_in_library(volatile int *nowhere) { *nowhere = 42; }
"""
PROGRAM = """
#include <unistd.h>
void fall_in_library(volatile int *nowhere);
int main(int argc, char **argv)
{
    while (argc-- > 1)
        unlink(argv[argc]);
    fall_in_library(0);
}
"""
"""Deletes what its arguments name, then crashes in the library."""
CRASH = "int main(void) { *(volatile int *)0 = 42; }"


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[NodeGuard]:
    with node_guard(tmp_path, "auto") as guard:
        guard.start()
        guard.run("arm")
        yield guard


def compiled(path: Path, source: str, *options: str) -> Path:
    command = ["gcc", "-g", "-O0", "-x", "c", "-", "-x", "none", *options, "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return path


def dynamic(directory: Path) -> tuple[Path, Path]:
    """Compile a program that crashes in a library of its own; return both."""
    library = compiled(directory / "libfall.so", LIBRARY, "-shared", "-fPIC")
    program = compiled(directory / "falling", PROGRAM, str(library), f"-Wl,-rpath,{directory}")
    return program, library


def stored(guard: NodeGuard, build_id: str) -> Path:
    """Wait for a file of the store."""
    path = guard.store / ".debug" / ".build-id" / build_id[:2] / build_id[2:]
    wait_for(f"{path} is stored", lambda: path.exists() or None)
    return path


def build_ids(dump: Path) -> dict[str, str]:
    return {Path(module.path).name: module.build_id for module in record(dump).modules}


def everything_stored(guard: NodeGuard, dump: Path) -> None:
    for build_id in filter(None, build_ids(dump).values()):
        stored(guard, build_id)


def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def backtrace(guard: NodeGuard, dump: Path) -> str:
    """Return what gdb says of a core, given nothing but core, record and store.

    Before gdb 16 only the program is looked up by its build-id, so that libraries are linked by their paths.
    """
    core, root = guard.directory / "core", guard.directory / "root"
    core.write_bytes(gzip.decompress((dump / store.CORE).read_bytes()))
    for module in record(dump).modules[1:]:
        link = Path(f"{root}{module.path}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(stored(guard, module.build_id))
    settings = [f"set debug-file-directory {guard.store}/.debug", f"set sysroot {root}"]
    commands = [part for text in settings for part in ("-iex", text)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *commands, "-ex", "bt", "-core", str(core)],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("gdb") is None, reason="missing: gdb")
def test_gdb_finds_deleted_executable_and_library_by_build_id(guard: NodeGuard, tmp_path: Path) -> None:
    program, library = dynamic(tmp_path)
    kept = {path.name: content(path) for path in (program, library)}
    with pod_cgroup() as prefix:
        crash([program, program, library], prefix)
    dump = guard.wait_for_dump()
    assert not program.exists()
    known = build_ids(dump)
    for name, digest in kept.items():
        assert content(stored(guard, known[name])) == digest
    everything_stored(guard, dump)
    found = backtrace(guard, dump)
    assert "fall_in_library (nowhere=0x0)" in found, found
    assert "in main (" in found, found
    wait_for("the spool is empty", lambda: not waiting(guard) or None)


def test_a_pods_static_executable(
    guard: NodeGuard, runtime: Containerd, crash_image: str, crash_program: Path
) -> None:
    pod = runtime.run_pod("demo", "web")
    pod.start("app", crash_image, ["--fork"])
    dump = guard.wait_for_dump()
    modules = record(dump).modules
    assert [module.path for module in modules] == ["/app/crash"]
    assert content(stored(guard, modules[0].build_id)) == content(crash_program)
    pod.stop()


def test_switched_off_nothing_is_stored(guard: NodeGuard, tmp_path: Path) -> None:
    guard.stop()
    guard.configure(metadata__executables="no")
    guard.start()
    program, _ = dynamic(tmp_path)
    with pod_cgroup() as prefix:
        crash([program], prefix)
    assert len(build_ids(guard.wait_for_dump())) > 2
    assert not (guard.store / ".debug").exists()
    assert not waiting(guard)


def test_another_file_with_the_same_build_id_replaces_nothing(guard: NodeGuard, tmp_path: Path) -> None:
    build_id = "ab" * 20
    programs = [
        compiled(tmp_path / name, f'char name[] = "{name}"; {CRASH}', f"-Wl,--build-id=0x{build_id}")
        for name in ("theirs", "forged")
    ]
    for program in programs:
        with pod_cgroup() as prefix:
            crash([program], prefix)
        if program.name == "theirs":
            first = stored(guard, build_id)
    other = first.with_name(f"{build_id[2:]}.{content(programs[1])[:16]}")
    wait_for("the other one is stored too", lambda: other.exists() or None)
    assert (content(first), content(other)) == (content(programs[0]), content(programs[1]))
    wait_for("it is said", lambda: "two different files claim one build-id" in guard.log.read_text() or None)


def test_path_that_leads_to_the_hosts_files_is_not_followed(guard: NodeGuard, tmp_path: Path) -> None:
    """IBM/core-dump-handler and others copy /proc/PID/root/<path>, a symlink's target by then."""
    secret = tmp_path / "secret"
    shutil.copy("/bin/true", secret)
    with secret.open("ab") as file:
        file.write(b"the host's secret")
    trick = f'unlink(argv[0]); symlink("{secret}", argv[0]); *(volatile int *)0 = 42;'
    source = f"#include <unistd.h>\nint main(int argc, char **argv) {{ {trick} }}"
    program = compiled(tmp_path / "tricky", source)
    digest = content(program)
    with pod_cgroup() as prefix:
        crash([program], prefix)
    dump = guard.wait_for_dump()
    assert program.is_symlink()
    everything_stored(guard, dump)
    assert content(stored(guard, build_ids(dump)["tricky"])) == digest
    files = [path for path in (guard.store / ".debug").rglob("*") if path.is_file()]
    assert content(secret) not in map(content, files)


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse")
def test_file_system_that_hangs_holds_up_the_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the next crash are copied although a child still waits for those of the last one."""
    directories = [tmp_path / name for name in ("mounted", "spool", "store")]
    for directory in directories:
        directory.mkdir()
    (tmp_path / "guard.conf").write_text(
        f"[guard]\nspool = {directories[1]}\n[spool]\nkeep_free = 0\n[store]\npath = {directories[2]}\n"
    )
    monkeypatch.setattr(executables, "SECONDS", 2)
    collector = executables.Collector(load(str(tmp_path / "guard.conf")), lambda: None)
    with hung(directories[0]):
        # Held without a word to the file system, which would not answer.
        collector.offer([os.open(directories[0], os.O_PATH)])
        collector.offer([os.open("/proc/self/exe", os.O_PATH)])
        threading.Thread(target=collector.run, daemon=True).start()
        wait_for("the second is copied", lambda: list((directories[1] / "debug").glob("*.*")) or None)


def waiting(guard: NodeGuard) -> list[Path]:
    """Return the files that wait in the spool."""
    return list((guard.spool / "debug").glob("*.*"))
