"""core_pattern is set to ours and comes back exactly, whatever was there, on the real kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming, pattern
from testbed.kernel import SETTINGS, read_settings
from testbed.waiting import wait_for
from tests.support.guard import COMMAND, NodeGuard, node_guard

pytestmark = pytest.mark.root

PATTERN, LIMIT, SUID_DUMPABLE = SETTINGS

READ_ONLY = 'mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
SANDBOX = "mount -t proc proc /proc && mount -t tmpfs tmpfs /var/tmp && " + READ_ONLY
"""A mount namespace such as systemd makes of PrivateTmp, ProtectProc and ProtectKernelTunables."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeGuard]:
    """Return an installation of the pipe door that neither runs nor is armed."""
    with node_guard(tmp_path, "pipe") as made:
        yield made


@pytest.mark.parametrize(
    "before",
    [
        "core",
        "",
        "/var/crash/core.%e.%p",
        "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h",
        "|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -- %E",
        "x" * 127,
    ],
)
@pytest.mark.parametrize("limit", ["0", "16"])
def test_what_was_there_comes_back_exactly(node: NodeGuard, before: str, limit: str) -> None:
    PATTERN.write_text(before or "\n")
    LIMIT.write_text(limit)
    SUID_DUMPABLE.write_text("0" if limit == "0" else "1")
    was = read_settings()
    node.run("arm")
    assert pattern.is_ours(PATTERN.read_text())
    assert (LIMIT.read_text(), SUID_DUMPABLE.read_text()) == ("0\n", "2\n")
    node.run("disarm")
    assert read_settings() == was


def test_arming_again_never_takes_ours_for_the_original(node: NodeGuard) -> None:
    PATTERN.write_text("before")
    node.run("arm")
    node.run("arm")
    node.run("disarm")
    assert PATTERN.read_text() == "before\n"


def test_another_pattern_that_came_after_us_is_left_alone(node: NodeGuard) -> None:
    PATTERN.write_text("before")
    node.run("arm")
    PATTERN.write_text("theirs")
    node.run("disarm")
    assert PATTERN.read_text() == "theirs\n"


def test_our_limit_does_not_stay_below_another_pattern(node: NodeGuard) -> None:
    PATTERN.write_text("before")
    LIMIT.write_text("16")
    node.run("arm")
    PATTERN.write_text("theirs")
    node.run("disarm")
    assert (PATTERN.read_text(), LIMIT.read_text()) == ("theirs\n", "16\n")


def in_namespaces(node: NodeGuard, unshare: str, prepare: str, what: str) -> subprocess.CompletedProcess[str]:
    shell = ["sh", "-c", prepare, "sh", *COMMAND, "--config", str(node.config), what]
    command = ["unshare", "--mount", *unshare.split(), *shell]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_kernel_that_is_read_only_is_told_in_one_sentence(node: NodeGuard) -> None:
    """As in a container, whose first process is not the machine's."""
    before = PATTERN.read_bytes()
    refused = in_namespaces(node, "--pid --fork --mount-proc", READ_ONLY, "arm")
    assert refused.returncode == 1
    assert refused.stderr.startswith("coredump-guard: the kernel refuses core_pattern")
    assert refused.stderr.endswith("Read-only file system; is this a container, or not root?\n")
    assert not (node.directory / "state" / "original.json").exists()
    assert PATTERN.read_bytes() == before


@pytest.mark.parametrize("mode", ["pipe", "socket"])
def test_a_sandbox_does_not_keep_us_from_the_kernel(tmp_path: Path, mode: str) -> None:
    if mode == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, mode) as node:
        PATTERN.write_text("before")
        node.start()
        armed = in_namespaces(node, "", SANDBOX, "arm")
        assert (armed.returncode, armed.stderr) == (0, "")
        assert PATTERN.read_text()[0] == {"pipe": "|", "socket": "@"}[mode]
        assert in_namespaces(node, "", SANDBOX, "disarm").returncode == 0
        assert PATTERN.read_text() == "before\n"


def test_disarming_twice_changes_nothing(node: NodeGuard) -> None:
    PATTERN.write_text("before")
    node.run("arm")
    node.run("disarm")
    PATTERN.write_text("later")
    node.run("disarm")
    assert PATTERN.read_text() == "later\n"


def test_a_pattern_that_would_be_truncated_is_refused(tmp_path: Path) -> None:
    interpreter = tmp_path / ("x" * 100)
    interpreter.symlink_to("/bin/sh")
    with node_guard(tmp_path, "pipe", interpreter=interpreter) as node:
        before = PATTERN.read_bytes()
        refused = node.run("arm", check=False)
        assert refused.returncode == 1
        assert "127" in refused.stderr
        assert PATTERN.read_bytes() == before


def test_the_socket_is_not_armed_while_nobody_listens(tmp_path: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, "socket") as node:
        before = PATTERN.read_bytes()
        refused = node.run("arm", check=False)
        assert refused.returncode == 1
        assert "start it first" in refused.stderr
        assert PATTERN.read_bytes() == before


def test_the_socket_is_not_armed_while_the_guard_has_the_pipe_door_only(tmp_path: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, "pipe") as node:
        node.start()
        node.configure(mode="socket")
        refused = node.run("arm", check=False)
        assert refused.returncode == 1
        assert "restart it" in refused.stderr
        node.stop()
        node.start()
        node.run("arm")
        assert PATTERN.read_text().startswith("@@")


def test_the_socket_is_armed_again_by_the_guard_that_comes_back(tmp_path: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, "socket") as node:
        PATTERN.write_text("before")
        node.start()
        assert PATTERN.read_text() == "before\n"
        node.run("arm")
        assert PATTERN.read_text().startswith("@@")
        node.stop()
        assert PATTERN.read_text().startswith("|")
        assert node.status()["door"] == "pipe"
        node.start()
        wait_for("the socket is armed", lambda: PATTERN.read_text().startswith("@@"))
        assert node.status()["door"] == "socket"
        node.run("disarm")
        assert PATTERN.read_text() == "before\n"


def test_status_says_when_nothing_is_at_work(node: NodeGuard) -> None:
    told = node.run("status", check=False)
    assert told.returncode == 3
    assert "NOT ARMED: no crash reaches us" in told.stdout
    assert "NOT RUNNING" in told.stdout


def test_status_of_somebody_who_is_not_root_claims_nothing_that_it_cannot_know(node: NodeGuard) -> None:
    node.start()
    node.run("arm")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*nobody, *COMMAND, "--config", str(node.config), "status"]
    for directory in (node.directory, *node.directory.parents[:2]):  # pytest makes them root's own
        directory.chmod(0o755)
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert "guard  cannot be asked; it takes root" in told.stdout, told.stderr
    assert f"spool  {node.spool} cannot be read; it takes root" in told.stdout
    assert "before us  unknown; it takes root" in told.stdout
