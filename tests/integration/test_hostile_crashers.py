"""Crashers that choose every name they can choose, with evil intent: real kernel, real guard, one for all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import store
from coredump_guard.record import Record
from testbed import cgroups, programs
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import CONTAINER_ID, PODUID, crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

NOBODY = 65534
OTHER_UID, OTHER_ID = "99999999-9999-4999-8999-999999999999", "bad" + "0" * 61
EVIL = b"..;x\n\x1b[2J\xff\xc2\x85 %s\"'`id`"


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuard]:
    """Return an armed guard at work; its kernel dumps set-uid processes too."""
    if shutil.which("gcc") is None:
        pytest.skip("missing: gcc; tools/install installs it")
    with node_guard(
        tmp_path_factory.mktemp("hostile"), "pipe", policy__loop_newest=1000, policy__loop_window=1
    ) as node:
        node.start()
        node.run("arm")
        SETTINGS[2].write_text("2")
        yield node


@pytest.fixture(scope="module")
def program() -> Path:
    return programs.program("crash")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def crashed(guard: NodeGuard, command: list[str | Path], prefix: list[str]) -> tuple[Path, Record]:
    """Crash a program and return the one dump that this makes."""
    before = set(guard.delivered())
    assert crash(command, prefix) == 11
    new = wait_for("a dump is delivered", lambda: sorted(set(guard.delivered()) - before))
    assert len(new) == 1
    assert store.is_dump_id(new[0].name)
    return new[0], record(new[0])


def log_is_clean(guard: NodeGuard) -> bool:
    """Whether every line of the log is one that the guard began, and all of it can be printed."""
    lines = guard.log.read_text().split("\n")
    return all(line.isprintable() and (not line or line.startswith(("info:", "warning:"))) for line in lines)


def test_cve_2016_9950_the_name_of_the_executable_is_data(
    guard: NodeGuard, program: Path, place: Path
) -> None:
    evil = Path(os.fsdecode(bytes(place) + b"/" + EVIL))
    shutil.copy(program, evil)
    with pod_cgroup() as prefix:
        dump, found = crashed(guard, [evil, os.fsdecode(b"--signal=0"), "--threads=0\n\x1b[2J"], prefix)
    assert dump.parent == guard.store / store.UNIDENTIFIED / CONTAINER_ID
    assert re.fullmatch(r"[\w.+-]+", dump.name, re.ASCII)
    assert found.process.executable == (bytes(place) + b"/" + EVIL).decode("utf-8", "backslashreplace")
    assert found.process.cmdline[1:] == ["--signal=0", "--threads=0\n\x1b[2J"]
    assert log_is_clean(guard)


def test_a_path_of_the_greatest_length_costs_no_core(guard: NodeGuard, program: Path, place: Path) -> None:
    deep = place
    while len(bytes(deep)) < 4095 - 256:
        deep /= "x\n" * 100
        deep.mkdir()
    deep /= "y" * (4095 - len(bytes(deep)) - 1)
    shutil.copy(program, deep)
    with pod_cgroup() as prefix:
        _, found = crashed(guard, [deep], prefix)
    assert found.core.truncated is None
    assert found.process.executable in ("", str(deep))


def test_cve_2021_25684_comm_and_stat_are_hostile_text(guard: NodeGuard, program: Path) -> None:
    with pod_cgroup() as prefix:
        dump, found = crashed(guard, [program, "--comm", ") R 1 1\n(\x1b[2J F3"], prefix)
    assert found.process.comm == ") R 1 1\n(\x1b[2J F3"[:15]
    assert found.process.pid == int(dump.name.split("-")[-2])
    assert log_is_clean(guard)


@pytest.mark.parametrize("hostname", ["../../x", "a  b F9 ../%p%%", "-" * 64])
def test_cve_2021_3710_a_hostname_is_no_path_and_no_argument(
    guard: NodeGuard, program: Path, hostname: str
) -> None:
    script = 'printf %s "$0" > /proc/sys/kernel/hostname && exec "$@"'
    with pod_cgroup() as prefix:
        command: list[str | Path] = ["unshare", "--uts", "sh", "-c", script, hostname, program]
        dump, found = crashed(guard, command, prefix)
    assert dump.parent == guard.store / store.UNIDENTIFIED / CONTAINER_ID
    assert (found.node, found.process.comm) == ("node-1", "crash")


@pytest.mark.parametrize(
    "name",
    [
        f"kubepods/besteffort/pod{OTHER_UID}/{OTHER_ID}",
        f"pod{OTHER_UID}/{OTHER_ID}",
        f"x:y::/kubepods/pod{OTHER_UID}/{OTHER_ID}",
        "a:b:c (deleted)",
    ],
)
def test_cve_2017_14180_a_forged_cgroup_below_its_own_never_decides(
    guard: NodeGuard, program: Path, name: str
) -> None:
    with pod_cgroup():
        own = cgroups.directories(f"/kubepods/besteffort/pod{PODUID}/{CONTAINER_ID}")[0]
        forged = own / name
        forged.mkdir(parents=True)
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(forged)]
        dump, found = crashed(guard, [program], enter)
    assert (found.identity.poduid, found.identity.container_id) == (PODUID, CONTAINER_ID)
    assert found.identity.nested
    assert dump.parent == guard.store / store.UNIDENTIFIED / CONTAINER_ID


def test_no_cgroup_can_hold_a_line_of_its_own() -> None:
    """cgroup_mkdir in kernel/cgroup/cgroup.c refuses newlines: so /proc/PID/cgroup can be parsed."""
    with pod_cgroup():
        own = cgroups.directories(f"/kubepods/besteffort/pod{PODUID}/{CONTAINER_ID}")[0]
        with pytest.raises(OSError, match="Invalid argument"):
            (own / f"x\n0::{PODUID}").mkdir()


def test_cve_2018_6552_a_pid_namespace_is_not_a_container(guard: NodeGuard, program: Path) -> None:
    before = guard.status()["guard"]["handed_on"]
    there = guard.delivered()
    subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--uts", program, "--fork"], check=False, timeout=60
    )
    wait_for("it is handed on", lambda: guard.status()["guard"]["handed_on"] == before + 1)
    assert guard.delivered() == there


def test_a_process_cannot_opt_out_by_its_own_environment(guard: NodeGuard, program: Path) -> None:
    with pod_cgroup() as prefix:
        dump, found = crashed(guard, ["env", "COREDUMP_CAPTURE=never", "SECRET=hunter2", program], prefix)
    assert found.refused is None
    assert (dump / store.CORE).is_file()
    assert not any(b"hunter2" in path.read_bytes() for path in dump.iterdir() if path.name != store.CORE)


def test_cve_2022_4415_a_set_uid_crashers_dump_is_not_the_crashers_to_read(
    guard: NodeGuard, program: Path, place: Path
) -> None:
    """CVE-2025-5467: nor its primary group's. Neither owner nor group are the crasher's."""
    raised = place / "raised"
    shutil.copy(program, raised)
    raised.chmod(0o4755)
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with pod_cgroup() as prefix:
        dump, found = crashed(guard, [raised], [*prefix, *nobody])
    assert found.core.truncated is None
    for path in [dump, *dump.iterdir()]:
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (0, 0)
        assert not stat.S_IMODE(status.st_mode) & 0o027


def test_cve_2015_1862_nothing_of_the_crashers_tree_is_run_or_read(
    guard: NodeGuard, program: Path, place: Path
) -> None:
    """The crasher lives in a root of its own, where the names that root would use lead to traps."""
    root = place / "root"
    for name in ("etc", "bin", "usr/bin", "proc", "var/log/pods", "run"):
        (root / name).mkdir(parents=True)
    shutil.copy(program, root / "crash")
    (root / "var/log/pods" / f"victim_web_{PODUID}" / "app").mkdir(parents=True)
    for name in ("sh", "gdb", "python3"):
        trap = root / "bin" / name
        trap.write_text(f"#!/bin/sh\ntouch {place}/sprung\n")
        trap.chmod(0o755)
    os.mkfifo(root / "etc/passwd")
    with pod_cgroup() as prefix:
        command: list[str | Path] = ["unshare", "--mount", "chroot", root, "/crash"]
        _, found = crashed(guard, command, prefix)
    assert found.identity.namespace == ""
    assert not (place / "sprung").exists()
