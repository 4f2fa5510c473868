"""The doctor names what is broken, and its remedy mends it: each thing is really broken here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import arming
from testbed.hung import hung
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import PODUID, pod_cgroup
from tests.support.disks import tmpfs
from tests.support.guard import NodeGuard, node_guard

pytestmark = pytest.mark.root

PATTERN, LIMIT, SUID_DUMPABLE = SETTINGS


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeGuard]:
    """Return an installation of the pipe door that runs and is armed, with an interpreter to be broken."""
    with node_guard(tmp_path, "pipe") as made:
        python = made.runtime / "python"
        python.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$@"\n')
        python.chmod(0o755)
        made.configure(interpreter=python)
        made.start()
        made.run("arm")
        yield made


def examine(node: NodeGuard) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the doctor's exit status and its findings by what was checked."""
    done = node.run("doctor", "--json", check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["captured"] == (done.returncode == 0)
    return done.returncode, {finding["check"]: finding for finding in found["findings"]}


def wrong(node: NodeGuard) -> dict[str, str]:
    """Return what is not ok, by what was checked."""
    return {name: finding["state"] for name, finding in examine(node)[1].items() if finding["state"] != "ok"}


def expect(node: NodeGuard, check: str, state: str, found: str, remedy: str) -> None:
    """See that the doctor names one thing that is wrong, and what to do."""
    status, findings = examine(node)
    assert (findings[check]["state"], status) == (state, int(state == "FAIL")), findings[check]
    assert found in findings[check]["found"]
    assert remedy in findings[check]["remedy"]


def at_boot() -> set[str]:
    """Return what is wrong with this machine itself: a sysctl.d that sets core_pattern, SELinux, AppArmor."""
    return {"boot", "security", "libraries"}


def test_all_is_well_and_nothing_is_left_behind(node: NodeGuard) -> None:
    told = node.run("doctor")
    assert told.stdout.splitlines()[-1].startswith("a crash would be captured; ")
    assert set(wrong(node)) <= at_boot()
    assert not list(node.spool.glob(".doctor*"))
    assert not list(node.store.rglob(".doctor*"))


def test_what_the_kernel_has_otherwise(node: NodeGuard) -> None:
    node.run("disarm")
    PATTERN.write_text("theirs")
    expect(node, "core_pattern", "FAIL", "is theirs: no crash reaches us", "coredump-guard arm")
    PATTERN.write_text("@@/run/coredump-guard-other/kernel.sock" if arming.has_sockets() else "core")
    if arming.has_sockets():
        expect(node, "core_pattern", "FAIL", "another installation", "coredump-guard arm")
    node.run("arm")
    node.stop()  # it would repair what follows
    LIMIT.write_text("4")
    SUID_DUMPABLE.write_text("0")
    assert examine(node)[0] == 0
    expect(node, "core_pipe_limit", "warning", "is 4", "coredump-guard arm")
    expect(node, "suid_dumpable", "warning", "is 0", "coredump-guard arm")
    expect(node, "guard", "warning", "captured one at a time", "coredump-guard run")
    node.run("arm")
    node.start()
    assert set(wrong(node)) <= at_boot()


@contextmanager
def noexec(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True, timeout=30)
    try:
        command = ["mount", "-o", "remount,bind,noexec", str(directory)]
        subprocess.run(command, check=True, timeout=30)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True, timeout=30)


def test_an_interpreter_that_the_kernel_cannot_start(node: NodeGuard) -> None:
    python = node.runtime / "python"
    python.chmod(0o644)
    expect(node, "interpreter", "FAIL", "is not executable", "[guard] interpreter")
    python.chmod(0o777)
    expect(
        node, "interpreter", "FAIL", f"{python} can be changed by others than root", f"chmod go-w {python}"
    )
    python.chmod(0o755)
    text = python.read_text()
    python.write_text("#!/bin/sh\necho 'no module named _socket' >&2\nexit 1\n")
    expect(node, "doorman runs", "FAIL", "no module named _socket", "run the same Python by hand")
    python.unlink()
    expect(node, "interpreter", "FAIL", "No such file", "[guard] interpreter")
    python.write_text(text)
    python.chmod(0o755)
    with noexec(node.runtime):
        expect(node, "interpreter", "FAIL", "mounted noexec", "[guard] interpreter")
    assert set(wrong(node)) <= at_boot()


def test_links_that_lead_elsewhere(node: NodeGuard) -> None:
    node.stop()
    doorman = node.runtime / "doorman.py"
    own = doorman.readlink()
    doorman.unlink()
    expect(node, "links", "FAIL", f"{doorman} leads nowhere: crashes are lost", "coredump-guard arm")
    copy = node.runtime / "copy.py"
    shutil.copy(own, copy)
    doorman.symlink_to(copy)
    expect(node, "links", "warning", f"{doorman} leads to {copy}", "coredump-guard arm")
    copy.chmod(0o666)
    expect(node, "doorman", "FAIL", f"{copy} can be changed by others than root", "chmod go-w")
    node.run("arm")
    node.start()
    assert set(wrong(node)) <= at_boot()


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, "socket") as node:
        node.start()
        node.run("arm")
        assert set(wrong(node)) <= at_boot()
        (node.runtime / "kernel.sock").rename(node.runtime / "elsewhere")
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(node.runtime / "kernel.sock"))  # which a guard has left, say
        expect(node, "guard", "FAIL", "Connection refused", "coredump-guard run")
        (node.runtime / "elsewhere").rename(node.runtime / "kernel.sock")
        assert set(wrong(node)) <= at_boot()
        node.stop(signal.SIGKILL)
        expect(node, "guard", "FAIL", "crashes are lost", "coredump-guard run")


def test_a_spool_that_takes_nothing(node: NodeGuard) -> None:
    with tmpfs(node.spool) as disk:
        disk.remount("ro")
        expect(node, "spool", "FAIL", "Read-only file system", "[guard] spool")
        disk.remount("rw", "size=64K")
        disk.fill()
        expect(node, "spool", "FAIL", "No space left on device", "[guard] spool")
    node.configure(spool__keep_free="1000T")
    expect(node, "room", "FAIL", "[spool] keep_free = ", "change that setting")
    assert examine(node)[1]["settings"]["found"].endswith("guard.conf: spool_free")
    node.configure(spool__keep_free=0)
    old = node.spool / "ready" / "20260101T000000Z-app-1-01234567"
    old.mkdir()
    assert wrong(node)["waiting"] == "warning"


def test_a_store_that_is_gone_or_hangs(node: NodeGuard) -> None:
    away = node.store.with_name("away")
    node.store.rename(away)
    expect(node, "store", "warning", "is not there", "dumps wait in the spool")
    away.rename(node.store)
    if not os.path.exists("/dev/fuse"):
        pytest.skip("missing: /dev/fuse; modprobe fuse")
    with hung(node.store):
        expect(node, "store", "warning", "does not answer within", "dumps wait in the spool")
    assert set(wrong(node)) <= at_boot()


def test_a_pods_process_that_no_runtimes_file_names(node: NodeGuard) -> None:
    with pod_cgroup() as prefix, subprocess.Popen([*prefix, "sleep", "60"]) as pod:
        try:
            wait_for("it is in the pod", lambda: PODUID in Path(f"/proc/{pod.pid}/cgroup").read_text())
            expect(node, "runtime", "warning", f"process {pod.pid} of pod {PODUID}", "/var/log/pods")
        finally:
            pod.kill()
            pod.wait(timeout=30)
    assert PODUID not in examine(node)[1]["runtime"]["found"]


def test_somebody_who_is_not_root_is_told(node: NodeGuard) -> None:
    for directory in (node.directory, *node.directory.parents[:2]):
        directory.chmod(0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [
        *nobody,
        str(Path(sys.executable).parent / "coredump-guard"),
        "--config",
        str(node.config),
        "doctor",
    ]
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.endswith("; it takes root\n")
