"""Crashes of the node's own processes: chained to what was there before, kept, or dropped, as it was said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming, elfcore, journal, store
from testbed import systemd_coredump
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import crash
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

PATTERN, _, SUID_DUMPABLE = SETTINGS
UNLIMITED = ["prlimit", "--core=unlimited"]


@pytest.fixture(params=["pipe", "socket"])
def door(request: pytest.FixtureRequest) -> str:
    """Return each door that this kernel has."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    return str(request.param)


@pytest.fixture
def node(door: str, tmp_path: Path) -> Iterator[NodeGuard]:
    """Return a guard at work that is not armed yet, once for each door."""
    with node_guard(tmp_path, door) as guard:
        guard.start()
        yield guard


def ended(node: NodeGuard, count: int = 1) -> journal.Entry:
    """Wait for so many crashes to have ended and return what the journal says of the last."""

    def look() -> list[journal.Entry]:
        kinds = ("captured", "refused", "handed on", "missed")
        found = [one for one in journal.entries(str(node.directory / "state")) if one.event in kinds]
        return found if len(found) == count else []

    return wait_for(f"{count} crashes have ended", look)[-1]


def whole(core: Path) -> bool:
    data = core.read_bytes()
    return elfcore.parse(data).expected_bytes == len(data)


def test_systemd_coredump_gets_the_core_as_if_we_were_not(
    node: NodeGuard, crash_program: Path, tmp_path: Path
) -> None:
    if shutil.which("zstd") is None or shutil.which("apt-get") is None:
        pytest.skip("missing: zstd or apt-get")
    handler = systemd_coredump.program()
    with systemd_coredump.service() as storage:
        PATTERN.write_text(f"|{handler} {systemd_coredump.ARGUMENTS}")
        node.run("arm")
        crash([crash_program], UNLIMITED)
        (stored,) = wait_for("systemd has it", lambda: list(storage.glob("core.crash.0.*")))
        core = tmp_path / "core"
        subprocess.run(["zstd", "-q", "-d", "-f", stored, "-o", core], check=True, timeout=60)
        assert whole(core)
        assert stored.name.split(".")[:3] == ["core", "crash", "0"]
    assert ended(node).reason == f"to {handler}"
    assert node.delivered() == []


def test_keep_files_them_under_the_nodes_name(tmp_path: Path, crash_program: Path, door: str) -> None:
    with node_guard(tmp_path, door, policy__host_crashes="keep") as node:
        PATTERN.write_text("|/bin/false")
        node.start()
        node.run("arm")
        crash([crash_program])
        dump = node.wait_for_dump()
        assert dump.relative_to(node.store).parts[:2] == (store.HOST, "node-1")
        found = record(dump)
        assert (found.identity.host, found.core.truncated) == (True, None)
        assert ended(node).whose == "host"


def test_drop_leaves_a_line_in_the_journal_only(tmp_path: Path, crash_program: Path, door: str) -> None:
    with node_guard(tmp_path, door, policy__host_crashes="drop") as node:
        node.start()
        node.run("arm")
        crash([crash_program, "--memory", "heap:64"])
        entry = ended(node)
        assert (entry.event, entry.reason, entry.whose) == ("refused", "[policy] host_crashes = drop", "host")
        assert entry.executable == str(crash_program)
        assert (node.delivered(), list((node.spool / "ready").iterdir())) == ([], [])
        assert node.status()["guard"]["captured"] == 0


def test_what_the_host_would_not_have_dumped_is_not_handed_on(
    node: NodeGuard, crash_program: Path, tmp_path: Path
) -> None:
    """With fs.suid_dumpable = 0 the kernel gives no core of a process that changed its ids to anybody."""
    handler = tmp_path / "handler"
    handler.write_text(f"#!/bin/sh\ncat > {tmp_path}/core\n")
    handler.chmod(0o755)
    PATTERN.write_text(f"|{handler}")
    SUID_DUMPABLE.write_text("0")
    node.run("arm")
    SUID_DUMPABLE.write_text("2")
    crash([_setuid(crash_program)], [*UNLIMITED, "setpriv", "--reuid=65534", "--clear-groups"], cwd=Path("/"))
    entry = ended(node)
    assert (entry.event, entry.reason) == (
        "handed on",
        "nowhere: it changed its ids, and fs.suid_dumpable was 0 before us",
    )
    assert not (tmp_path / "core").exists()
    crash([crash_program], UNLIMITED)
    assert ended(node, 2).reason == f"to {handler}"
    wait_for("the handler has the other", (tmp_path / "core").exists)


def _setuid(program: Path) -> Path:
    """Return a copy that anybody may run, as root."""
    copy = Path("/run") / f"coredump-guard-test-{program.name}"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o4755)
    return copy


@pytest.fixture(autouse=True)
def _no_setuid_program_is_left() -> Iterator[None]:
    yield
    Path("/run/coredump-guard-test-crash").unlink(missing_ok=True)


def test_a_previous_socket_is_said_clearly_to_be_out_of_reach(node: NodeGuard, crash_program: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    PATTERN.write_text("@@/run/systemd/coredump")
    node.run("arm")
    crash([crash_program], UNLIMITED)
    dump = node.wait_for_dump()
    assert dump.relative_to(node.store).parts[0] == store.HOST
    assert ended(node).event == "captured"
    assert "the previous core_pattern is a socket, which only the kernel can serve" in node.log.read_text()


def test_the_previous_program_has_the_limits_that_the_kernel_gives(
    node: NodeGuard, crash_program: Path, tmp_path: Path
) -> None:
    handler = tmp_path / "handler"
    handler.write_text(
        f"#!/bin/sh\ncat > /dev/null\ncd {tmp_path}\ncat /proc/self/limits > new\nmv new limits\n"
    )
    handler.chmod(0o755)
    PATTERN.write_text(f"|{handler}")
    theirs = _limits_of_the_kernels_own(crash_program, tmp_path / "limits")
    node.run("arm")
    crash([crash_program], UNLIMITED)
    wait_for("the handler has run", (tmp_path / "limits").exists)
    assert _files((tmp_path / "limits").read_text()) == theirs


def _limits_of_the_kernels_own(program: Path, file: Path) -> list[str]:
    """Let the kernel itself start the handler and return how many descriptors it was given."""
    crash([program], UNLIMITED)
    wait_for("the kernel's own has run", file.exists)
    found = _files(file.read_text())
    file.unlink()
    return found


def _files(limits: str) -> list[str]:
    return next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5]
