"""The doctor's checks of the kernel, where this machine cannot be made to be what they look for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import arming, kernelcheck
from coredump_guard.arming import Settings
from coredump_guard.config import Config


def settings(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    monkeypatch.setattr(arming, "current", lambda: Settings(*values))


def test_another_door_than_the_one_configured(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, f"@@{config.kernel_socket}", "0", "2")
    found = kernelcheck.core_pattern(config)
    assert (found.state, found.found) == ("warning", "names the socket door, configured is pipe")
    assert kernelcheck.core_pattern(replace(config, mode="socket")).state == "ok"


def test_the_limit_plays_no_part_in_the_socket_door(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, f"@@{config.kernel_socket}", "4", "2")
    assert kernelcheck.core_pipe_limit(config).state == "ok"


def test_set_uid_processes_that_are_not_wanted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, "core", "0", "0")
    assert kernelcheck.suid_dumpable(config).state == "warning"
    assert kernelcheck.suid_dumpable(replace(config, setuid=False)).state == "ok"


@pytest.mark.parametrize(
    ("mode", "sockets", "state"),
    [("socket", False, "FAIL"), ("socket", True, "ok"), ("auto", False, "ok"), ("pipe", True, "ok")],
)
def test_core_modes(
    config: Config, monkeypatch: pytest.MonkeyPatch, mode: str, sockets: bool, state: str
) -> None:
    monkeypatch.setattr(arming, "has_sockets", lambda: sockets)
    found = kernelcheck.core_modes(replace(config, mode=mode))
    assert (found.state, bool(found.remedy)) == (state, state == "FAIL")


def put(root: Path, file: str, text: str) -> str:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_nothing_sets_core_pattern_at_boot(tmp_path: Path) -> None:
    put(tmp_path, "etc/sysctl.d/10-x.conf", "# kernel.core_pattern = no\nkernel.core_uses_pid = 1\n;x\n")
    put(tmp_path, "etc/sysctl.d/20-x.txt", "kernel.core_pattern = no\n")
    assert kernelcheck.at_boot(str(tmp_path)) is None


def test_the_last_file_by_its_name_sets_core_pattern_at_boot(tmp_path: Path) -> None:
    root = str(tmp_path)
    first = put(tmp_path, "usr/lib/sysctl.d/50-coredump.conf", "kernel.core_pattern=|/usr/lib/systemd %P\n")
    assert kernelcheck.at_boot(root) == (first, "|/usr/lib/systemd %P")
    put(tmp_path, "etc/sysctl.d/10-x.conf", "kernel.core_pattern = earlier\n")
    assert kernelcheck.at_boot(root) == (first, "|/usr/lib/systemd %P")
    hiding = put(
        tmp_path, "etc/sysctl.d/50-coredump.conf", "-kernel/core_pattern = a\nkernel.core_pattern = b \n"
    )
    assert kernelcheck.at_boot(root) == (hiding, "b")
    last = put(tmp_path, "etc/sysctl.conf", "kernel.core_pattern =\n")
    assert kernelcheck.at_boot(root) == (last, "")


def test_what_is_set_at_boot_is_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernelcheck, "at_boot", lambda: ("/etc/x.conf", "|/theirs %P"))
    found = kernelcheck.sysctl_files(config)
    assert (found.state, found.found) == ("warning", '/etc/x.conf sets core_pattern = "|/theirs %P"')
    monkeypatch.setattr(kernelcheck, "at_boot", lambda: ("/etc/x.conf", "@@/run/coredump-guard/kernel.sock"))
    assert kernelcheck.sysctl_files(config).state == "ok"


def test_security_modules(config: Config, tmp_path: Path) -> None:
    root = str(tmp_path)
    assert kernelcheck.security_modules(config, root).state == "ok"
    put(tmp_path, "sys/module/apparmor/parameters/enabled", "Y\n")
    put(tmp_path, "proc/self/attr/current", "unconfined\n")
    assert kernelcheck.security_modules(config, root).state == "ok"
    put(tmp_path, "proc/self/attr/current", "guard (enforce)\n")
    found = kernelcheck.security_modules(config, root)
    assert (found.state, found.found) == ("warning", 'AppArmor confines us as "guard (enforce)"')
    put(tmp_path, "sys/fs/selinux/enforce", "1")
    put(tmp_path, "proc/self/attr/current", "system_u:system_r:init_t:s0\0")
    found = kernelcheck.security_modules(config, root)
    assert found.found.startswith("SELinux enforces, we are system_u:system_r:init_t:s0: ")
    assert "ausearch -m avc" in found.remedy
    put(tmp_path, "sys/fs/selinux/enforce", "0")
    assert "SELinux" not in kernelcheck.security_modules(config, root).found


@pytest.mark.parametrize(
    ("text", "state", "found"),
    [
        ("0::/\n", "ok", "version 2"),
        ("1:name=systemd:/\n0::/\n", "ok", "version 1"),
        ("", "FAIL", "it is empty"),
        (None, "FAIL", "No such file"),
    ],
)
def test_cgroups(config: Config, tmp_path: Path, text: str | None, state: str, found: str) -> None:
    if text is not None:
        put(tmp_path, "self/cgroup", text)
    finding = kernelcheck.cgroups(config, str(tmp_path))
    assert finding.state == state
    assert found in finding.found
