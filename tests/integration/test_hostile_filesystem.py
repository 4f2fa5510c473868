"""Crashers on file systems of their own, which answer nothing once it matters: no worker waits for them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import programs
from testbed.waiting import wait_for
from tests.support import fuse
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse"),
]

COVERED = """
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
/* Maps a file over its own arguments, and crashes; the frames in use are kept off the arguments' page. */
static int cover(int argc, char **argv)
{
	volatile char room[1 << 16];
	uintptr_t page = sysconf(_SC_PAGESIZE), from = (uintptr_t)argv[0] & ~(page - 1);
	uintptr_t to = ((uintptr_t)argv[argc - 1] & ~(page - 1)) + page;
	int file = open(argv[1], O_RDONLY);

	room[0] = 0;
	if (file < 0 || mmap((void *)from, to - from, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
		return 2;
	puts("ready");
	fflush(stdout);
	getchar();
	*(volatile int *)NULL = 42;
	return room[0];
}

int main(int argc, char **argv)
{
	return cover(argc, argv);
}
"""
WORKERS = 2


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuard]:
    settings = {"workers": WORKERS, "deadline": 3, "policy__loop_newest": 1000, "policy__loop_window": 1}
    with node_guard(tmp_path_factory.mktemp("fuse"), "pipe", **settings) as node:
        node.start()
        node.run("arm")
        yield node


def goes_on(guard: NodeGuard, prefix: list[str]) -> bool:
    """Whether an honest crash still becomes a whole dump."""
    program = programs.program("crash")
    crash([program, "--threads", "7"], prefix)
    dump = guard.wait_for_dump(lambda found: found.process.cmdline[1:] == ["--threads", "7"])
    return record(dump).core.truncated is None


def test_an_executable_and_a_directory_that_hang_hold_nobody_up(guard: NodeGuard, tmp_path: Path) -> None:
    program = programs.program("crash")
    with fuse.mounted(tmp_path, program.read_bytes()) as hostile, pod_cgroup() as prefix:
        processes = [
            subprocess.Popen(
                [*prefix, "sh", "-c", f"cd {tmp_path}; exec ./{fuse.NAME} --wait"], stdout=subprocess.PIPE
            )
            for _ in range(WORKERS)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            hostile.silent.set()
            for process in processes:
                process.send_signal(10)
            path = str(tmp_path / fuse.NAME)

            def kept() -> bool:
                return sum(record(dump).process.executable == path for dump in guard.delivered()) == WORKERS

            wait_for("both are kept", kept)
            assert goes_on(guard, prefix)
        finally:
            hostile.speak()
            for process in processes:
                end(process)


def test_cve_2018_1120_arguments_that_cannot_be_read_hold_nobody_up(guard: NodeGuard, tmp_path: Path) -> None:
    """The kernel itself then waits for them, and writes no core: that is over at the deadline."""
    source = tmp_path / "covered.c"
    source.write_text(COVERED)
    covered = tmp_path / "covered"
    subprocess.run(["gcc", "-o", covered, source], check=True, timeout=60)
    (tmp_path / "mount").mkdir()
    with fuse.mounted(tmp_path / "mount", bytes(1 << 20)) as hostile, pod_cgroup() as prefix:
        command = [*prefix, str(covered), str(tmp_path / "mount" / fuse.NAME)]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(WORKERS)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            hostile.silent.set()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()

            def kept() -> bool:
                return sum(record(d).process.comm == "covered" for d in guard.delivered()) == WORKERS

            wait_for("both are accounted for", kept)
            assert goes_on(guard, prefix)
        finally:
            hostile.speak()
            for process in processes:
                with contextlib.suppress(OSError):
                    assert process.stdin is not None
                    process.stdin.close()
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=60)
    if process.stdout is not None:
        process.stdout.close()
