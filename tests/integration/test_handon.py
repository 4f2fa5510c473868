"""Crashes outside of pods reach what was there before, as if we were not: through both doors."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming, elfcore, store
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import crash
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

PATTERN = SETTINGS[0]
NOBODY = 65534
UNLIMITED = ["prlimit", "--core=unlimited"]
HANDLER = """#!/bin/sh
cat > {directory}/core.tmp
printf '%s\\n' "$@" > {directory}/arguments
env > {directory}/environment
mv {directory}/core.tmp {directory}/core
"""


@pytest.fixture(params=["pipe", "socket"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NodeGuard]:
    """Return a guard at work that is not armed yet, once for each door."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, request.param) as guard:
        guard.start()
        yield guard


def whole(core: Path) -> bool:
    data = core.read_bytes()
    return elfcore.parse(data).expected_bytes == len(data)


def test_the_handler_before_us_gets_core_and_arguments(
    node: NodeGuard, tmp_path: Path, crash_program: Path
) -> None:
    handler = tmp_path / "handler"
    handler.write_text(HANDLER.format(directory=tmp_path))
    handler.chmod(0o755)
    PATTERN.write_text(f"|{handler} %s %e %u x%%y %E")
    node.run("arm")
    crash([crash_program], UNLIMITED)
    wait_for("the handler has it", (tmp_path / "core").exists)
    assert whole(tmp_path / "core")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    # Over the socket, the kernel does not announce the signal before 6.19.
    assert arguments[0] in ("11", "0")
    assert arguments[1:] == ["crash", "0", "x%y", str(crash_program).replace("/", "!")]
    wait_for("it is counted", lambda: node.status()["guard"]["handed_on"] == 1)
    assert node.delivered() == []


def test_a_core_file_is_written_as_the_kernel_would(
    node: NodeGuard, tmp_path: Path, crash_program: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    for parent in theirs.parents:
        if parent.owner() == "root" and parent != Path("/") and parent.is_relative_to("/tmp/pytest-of-root"):
            parent.chmod(0o755)
    PATTERN.write_text("core.%p")
    node.run("arm")
    command = [*UNLIMITED, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    process = subprocess.Popen([*command, _readable(crash_program, tmp_path)], cwd=theirs)
    assert process.wait(timeout=60) == -11
    core = theirs / f"core.{process.pid}"
    wait_for("it is handed on", lambda: node.status()["guard"]["handed_on"] == 1)
    assert whole(core)
    status = core.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o600)


def test_cve_2013_1067_no_file_where_the_limit_forbids_it(
    node: NodeGuard, tmp_path: Path, crash_program: Path
) -> None:
    PATTERN.write_text("core")
    node.run("arm")
    crash([crash_program], ["prlimit", "--core=0"], cwd=tmp_path)
    wait_for("it is counted", lambda: node.status()["guard"]["handed_on"] == 1)
    assert not (tmp_path / "core").exists()


def test_cve_2015_1324_a_planted_link_is_not_followed(
    node: NodeGuard, tmp_path: Path, crash_program: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "core").symlink_to(precious)
    PATTERN.write_text("core")
    node.run("arm")
    crash([crash_program], UNLIMITED, cwd=trap)
    dump = node.wait_for_dump()  # kept, rather than lost
    assert precious.read_text() == "precious"
    assert dump.relative_to(node.store).parts[0] == store.HOST
    assert record(dump).core.truncated is None


def test_a_handler_that_is_missing_costs_no_core(node: NodeGuard, crash_program: Path) -> None:
    PATTERN.write_text("|/nowhere/handler %p")
    node.run("arm")
    crash([crash_program], UNLIMITED)
    assert record(node.wait_for_dump()).core.truncated is None


def _readable(program: Path, directory: Path) -> Path:
    """Return a copy of a program that everybody may run."""
    copy = directory / program.name
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    return copy


def test_a_handler_that_crashes_is_not_started_for_itself(
    node: NodeGuard, tmp_path: Path, crash_program: Path
) -> None:
    handler = tmp_path / "handler"
    handler.write_text(f"#!/bin/sh\necho >> {tmp_path}/started\n{crash_program}\nexit 0\n")
    handler.chmod(0o755)
    PATTERN.write_text(f"|{handler}")
    node.run("arm")
    crash([crash_program], UNLIMITED)
    wait_for("it is handed on", lambda: node.status()["guard"]["handed_on"] == 1)
    crash([crash_program], UNLIMITED)
    wait_for("the second too", lambda: node.status()["guard"]["handed_on"] == 2)
    assert len((tmp_path / "started").read_text()) == 2
