"""Arming: the original is remembered once, never ours, and put back exactly.

/proc/sys is a directory here; what the real one does is left to the integration tests.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from coredump_guard import arming, original, pattern, sysctl
from coredump_guard.arming import ArmingError, Settings
from coredump_guard.config import Config

OTHERS = "@@/run/coredump-guard-other/kernel.sock"
APPORT = Settings("|/usr/share/apport/apport -p%p -P%P -- %E", "10", "1")


class Kernel:
    """Stands for /proc/sys."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.truncates = 4096
        (path / "kernel").mkdir(parents=True)
        (path / "fs").mkdir()
        self.pattern = path / "kernel" / "core_pattern"
        self.set(APPORT)
        monkeypatch.setattr(sysctl, "ROOT", str(path))
        monkeypatch.setattr(sysctl, "_set", self.write)

    def set(self, settings: Settings) -> None:
        for name, value in asdict(settings).items():
            self.write(name, value)

    def write(self, name: str, value: str) -> None:
        (self.path / sysctl.FILES[name]).write_bytes(
            value.encode("utf-8", "surrogateescape")[: self.truncates] + b"\n"
        )


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path / "sys", monkeypatch)


@pytest.fixture
def short(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return the configuration with a limit that tmp_path's long names respect."""
    monkeypatch.setattr(pattern, "MAX_LENGTH", 1000)
    return config


def test_arming_sets_ours_and_remembers_the_original(kernel: Kernel, short: Config) -> None:
    assert arming.original(short) is None
    now = arming.arm(short)
    assert arming.current() == now
    assert pattern.is_ours(now.core_pattern)
    assert now.core_pipe_limit == "0"
    assert arming.original(short) == APPORT


def test_disarming_puts_the_original_back_and_forgets_it(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    assert arming.disarm(short) == arming.current() == APPORT
    assert arming.original(short) is None
    assert arming.disarm(short) == APPORT


@pytest.mark.parametrize(
    "before",
    [
        Settings("", "0", "0"),
        Settings("core", "0", "0"),
        Settings("|/x \udcff %e", "4", "0"),
        Settings(" core ", "7", "0"),
    ],
)
def test_any_original_comes_back_exactly(kernel: Kernel, short: Config, before: Settings) -> None:
    kernel.set(before)
    bytes_before = kernel.pattern.read_bytes()
    arming.arm(short)
    arming.disarm(short)
    assert kernel.pattern.read_bytes() == bytes_before


def test_arming_again_never_takes_ours_for_the_original(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    arming.arm(replace(short, interpreter="/bin/sh"))
    assert arming.original(short) == APPORT


def test_an_interpreter_that_is_none_is_refused(kernel: Kernel, short: Config) -> None:
    before = arming.current()
    with pytest.raises(arming.ArmingError, match="interpreter = /nope/python is no program"):
        arming.arm(replace(short, interpreter="/nope/python"))
    assert arming.current() == before


def test_another_installation_that_is_there_is_left_alone(
    kernel: Kernel, short: Config, tmp_path: Path
) -> None:
    doorman = tmp_path / "coredump-guard-other" / "doorman.py"
    doorman.parent.mkdir()
    doorman.touch()
    theirs = Settings(f"|/usr/bin/python3 -I -S {doorman} %P", "0", "2")
    kernel.set(theirs)
    with pytest.raises(arming.ArmingError, match=f"another installation, {doorman}: disarm that one first"):
        arming.arm(short)
    assert arming.disarm(short) == theirs


def test_the_original_is_remembered_once(kernel: Kernel, short: Config) -> None:
    """What somebody set after us came after the original."""
    arming.arm(short)
    kernel.set(Settings("|/other", "3", "0"))
    arming.arm(short)
    assert arming.original(short) == APPORT


@pytest.mark.parametrize(
    "ours",
    ["|/usr/bin/python3 -I -S /run/coredump-guard-old/doorman.py %P", "@@/run/coredump-guard/kernel.sock"],
)
def test_a_lost_memory_makes_the_kernels_default_the_original(
    kernel: Kernel, short: Config, ours: str
) -> None:
    kernel.set(Settings(ours, "0", "0"))
    arming.arm(short)
    assert arming.original(short) == Settings("core", "0", "0")
    assert arming.disarm(short) == Settings("core", "0", "0")


def test_disarming_without_a_memory(kernel: Kernel, short: Config) -> None:
    kernel.set(Settings("@@/run/coredump-guard/kernel.sock", "0", "0"))
    assert arming.disarm(short) == Settings("core", "0", "0")


def test_disarming_leaves_what_somebody_else_set(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    kernel.set(Settings("|/other", "3", "0"))
    assert arming.disarm(short) == Settings("|/other", "3", "0")
    assert arming.original(short) is None


def test_disarming_puts_our_limit_back_below_what_somebody_else_set(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    kernel.set(Settings("|/other", "0", "0"))
    assert arming.disarm(short) == Settings("|/other", APPORT.core_pipe_limit, "0")
    assert arming.original(short) is None


LATER = Settings("/cores/%e", "5", "0")


def remembered_by(boot: str | None, config: Config) -> None:
    """Write the memory as a guard did in another boot, or, with None, as the first version did."""
    os.makedirs(config.state)
    memory = {"core_pattern": "|/earlier", "core_pipe_limit": "7", **({"boot_id": boot} if boot else {})}
    Path(config.state, "original.json").write_text(json.dumps(memory))


def test_after_a_reboot_the_original_is_remembered_anew(kernel: Kernel, short: Config) -> None:
    remembered_by("another", short)
    kernel.set(LATER)
    arming.arm(short)
    assert arming.original(short) == LATER
    assert arming.disarm(short) == LATER


def test_a_memory_stays_if_ours_is_in_force_after_a_reboot(kernel: Kernel, short: Config) -> None:
    remembered_by("another", short)
    kernel.set(Settings("|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py %P", "0", "0"))
    arming.arm(short)
    assert arming.disarm(short) == Settings("|/earlier", "7", "0")


def test_a_memory_without_boot_id_is_of_this_boot(kernel: Kernel, short: Config) -> None:
    remembered_by(None, short)
    kernel.set(LATER)
    arming.arm(short)
    assert arming.original(short) == Settings("|/earlier", "7", "0")


def test_the_limit_of_an_earlier_boot_is_not_put_back(kernel: Kernel, short: Config) -> None:
    remembered_by("another", short)
    kernel.set(Settings("|/other", "0", "0"))
    assert arming.disarm(short) == Settings("|/other", "0", "0")
    assert arming.original(short) is None


def test_set_uid_processes_are_dumped_too_and_no_longer_afterwards(kernel: Kernel, short: Config) -> None:
    assert arming.arm(short).suid_dumpable == "2"
    assert arming.disarm(short).suid_dumpable == APPORT.suid_dumpable


def test_another_suid_dumpable_that_came_after_us_is_left_alone(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    kernel.write("suid_dumpable", "0")
    assert arming.disarm(short) == replace(APPORT, suid_dumpable="0")


def test_our_suid_dumpable_does_not_stay_below_another_pattern(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    kernel.write("core_pattern", "theirs")
    assert arming.disarm(short) == replace(APPORT, core_pattern="theirs")


def test_suid_dumpable_is_not_touched_where_set_uid_processes_are_not_wanted(
    kernel: Kernel, short: Config
) -> None:
    unwanted = replace(short, setuid=False)
    assert arming.arm(unwanted).suid_dumpable == APPORT.suid_dumpable
    kernel.write("suid_dumpable", "2")
    assert arming.disarm(unwanted) == replace(APPORT, suid_dumpable="2")


def test_arming_without_set_uid_processes_takes_back_what_we_set(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    assert arming.arm(replace(short, setuid=False)).suid_dumpable == APPORT.suid_dumpable


def test_a_memory_of_an_earlier_version_learns_suid_dumpable(kernel: Kernel, short: Config) -> None:
    arming.arm(replace(short, setuid=False))
    assert "suid_dumpable" not in Path(short.state, "original.json").read_text()
    arming.arm(short)
    assert arming.original(short) == APPORT
    assert arming.disarm(short) == APPORT


@pytest.mark.parametrize("name", ["core_pattern", "suid_dumpable"])
def test_what_was_written_before_a_refusal_is_taken_back(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real: Callable[[str, str], None] = kernel.write

    def refuse(given: str, value: str) -> None:
        if given == name and value != getattr(APPORT, name):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(given, value)

    monkeypatch.setattr(sysctl, "_set", refuse)
    with pytest.raises(ArmingError, match=f"the kernel refuses {name} .*: Invalid argument"):
        arming.arm(short)
    assert arming.current() == APPORT
    assert arming.original(short) is None


def test_each_setting_is_remembered_before_it_is_changed(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the machine or we end, what was there is known; on the way back it is forgotten last."""
    real: Callable[[str, str], None] = kernel.write
    written: list[str] = []

    def look(name: str, value: str) -> None:
        assert arming.original(short) == APPORT
        written.append(name)
        real(name, value)

    monkeypatch.setattr(sysctl, "_set", look)
    arming.arm(short)
    arming.disarm(short)
    assert written[3:] == written[2::-1]
    assert written[:3] == ["core_pipe_limit", "core_pattern", "suid_dumpable"]


def test_a_memory_is_of_the_boot_whose_settings_it_holds(kernel: Kernel, short: Config) -> None:
    assert not arming.is_armed(short)
    remembered_by("another", short)
    assert not arming.is_armed(short)
    arming.arm(short)
    assert arming.is_armed(short)
    arming.disarm(short)
    assert not arming.is_armed(short)


def test_two_commands_do_not_change_settings_at_once(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    arming.arm(short)
    monkeypatch.setattr(original, "PATIENCE", 0.1)
    with original.locked(short.state):
        with pytest.raises(ArmingError, match=r"another process arms or disarms: .*: try again"):
            arming.disarm(short)
        kernel.set(LATER)
        with pytest.raises(ArmingError, match="another process"):
            arming.repair(short)
    assert arming.current() == LATER


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"core_pattern": "theirs"}, ["core_pattern theirs"]),
        ({"core_pattern": ""}, ["core_pattern "]),
        ({"core_pattern": OTHERS}, [f"core_pattern {OTHERS}"]),
        ({"core_pipe_limit": "16", "suid_dumpable": "0"}, ["core_pipe_limit 16", "suid_dumpable 0"]),
    ],
)
def test_what_somebody_else_changed_is_repaired(
    kernel: Kernel, short: Config, change: dict[str, str], found: list[str]
) -> None:
    ours = arming.arm(short)
    assert arming.drift(short, arming.current()) == []
    kernel.set(replace(ours, **change))
    assert arming.drift(short, arming.current()) == found
    assert arming.repair(short)
    assert arming.current() == ours
    assert not arming.repair(short)
    assert arming.original(short) == APPORT


@pytest.mark.parametrize("link", ["doorman.py", "guard.conf"])
def test_a_link_that_is_gone_is_repaired(kernel: Kernel, short: Config, link: str) -> None:
    ours = arming.arm(short)
    Path(short.runtime, link).unlink()
    assert arming.drift(short, ours) == [f"{short.runtime}/{link} gone"]
    assert arming.repair(short)
    assert arming.drift(short, ours) == []


def test_a_socket_that_is_gone_gives_way_to_the_pipe(kernel: Kernel, short: Config) -> None:
    pipe = arming.arm(short)
    kernel.set(replace(pipe, core_pattern=pattern.socket_pattern(short.kernel_socket)))
    assert arming.drift(short, arming.current()) == [f"{short.kernel_socket} gone"]
    assert arming.repair(replace(short, mode="socket"))
    assert arming.current() == pipe


def test_nothing_is_repaired_where_nobody_armed(kernel: Kernel, short: Config) -> None:
    assert not arming.repair(short)
    arming.arm(short)
    arming.disarm(short)
    assert not arming.repair(short)
    assert arming.current() == APPORT


def test_a_kernel_that_cannot_be_written_is_told_and_nothing_is_remembered(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, value: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(sysctl, "_set", refuse)
    with pytest.raises(ArmingError, match=r"refuses core_pipe_limit .*: Read-only file system; is this a c"):
        arming.arm(short)
    assert os.listdir(short.state) == []


def test_a_memory_of_an_earlier_call_survives_a_failure(kernel: Kernel, short: Config) -> None:
    arming.arm(short)
    kernel.set(LATER)
    kernel.truncates = 60
    with pytest.raises(ArmingError, match="the kernel made"):
        arming.arm(short)
    assert arming.original(short) == APPORT


def test_a_pattern_that_the_kernel_cuts_is_taken_back(kernel: Kernel, short: Config) -> None:
    kernel.truncates = 60
    with pytest.raises(
        ArmingError, match=r"the kernel made .* of core_pattern .*; is this a container, or not root"
    ):
        arming.arm(short)
    assert arming.current() == APPORT


def test_a_kernel_that_refuses_is_left_as_it_was(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[str, str], None] = kernel.write

    def refuse(name: str, value: str) -> None:
        if pattern.is_ours(value):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(name, value)

    monkeypatch.setattr(sysctl, "_set", refuse)
    with pytest.raises(ArmingError, match=r"the kernel refuses core_pattern .*: Invalid argument"):
        arming.arm(short)
    assert arming.current() == APPORT


def test_a_pattern_that_would_be_too_long_changes_nothing(kernel: Kernel, config: Config) -> None:
    long = replace(config, runtime=config.runtime + "x" * 100)
    with pytest.raises(ArmingError, match=r"at most 127: .*: choose another path"):
        arming.arm(long)
    assert arming.current() == APPORT
    assert arming.original(long) is None


def test_the_socket_is_not_armed_without_a_guard(kernel: Kernel, short: Config) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets")
    with pytest.raises(ArmingError, match=r"no guard answers at .*guard\.sock .*start it first"):
        arming.arm(short, "socket")
    assert arming.current() == APPORT


def test_the_socket_is_not_armed_on_a_kernel_without(
    kernel: Kernel, short: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arming, "has_sockets", lambda: False)
    with pytest.raises(ArmingError, match=r"no coredump sockets .*set \[guard\] mode = pipe"):
        arming.arm(short, "socket")


@pytest.mark.parametrize(
    ("modes", "has"), [("file\npipe\nsocket\n", True), ("file\npipe\n", False), (None, False)]
)
def test_has_sockets(tmp_path: Path, modes: str | None, has: bool) -> None:
    if modes is not None:
        (tmp_path / "core_modes").write_text(modes)
    assert arming.has_sockets(str(tmp_path)) == has


@pytest.mark.parametrize(
    ("mode", "sockets", "door"),
    [("auto", True, "socket"), ("auto", False, "pipe"), ("pipe", True, "pipe"), ("socket", False, "socket")],
)
def test_door(config: Config, monkeypatch: pytest.MonkeyPatch, mode: str, sockets: bool, door: str) -> None:
    monkeypatch.setattr(arming, "has_sockets", lambda: sockets)
    assert arming.door(replace(config, mode=mode)) == door


@pytest.mark.parametrize(
    ("in_force", "door"),
    [
        ("@@{0.kernel_socket}", "socket"),
        ("|/usr/bin/python3 -I -S {0.doorman} %P", "pipe"),
        ("|/usr/bin/python3 -I -S {0.runtime}-other/doorman.py %P", None),
        ("@@{0.runtime}-other/kernel.sock", None),
        ("core", None),
    ],
)
def test_door_in_force(kernel: Kernel, config: Config, in_force: str, door: str | None) -> None:
    kernel.set(Settings(in_force.format(config), "0", "0"))
    assert arming.door_in_force(config) == door


@pytest.mark.parametrize("text", ["", "{", "[1]", "[]", "5", '{"core_pattern": "x"}', '{"a": 1}', "\x00"])
def test_a_memory_that_cannot_be_read_is_told_and_kept(kernel: Kernel, short: Config, text: str) -> None:
    os.makedirs(short.state)
    memory = Path(short.state, "original.json")
    memory.write_text(text)
    with pytest.raises(ArmingError, match=r"original\.json cannot be read .*: mend or remove it"):
        arming.original(short)
    with pytest.raises(ArmingError, match="mend or remove it"):
        arming.disarm(short)
    assert memory.read_text() == text
    assert arming.current() == APPORT


def test_a_write_of_the_memory_that_was_cut_short_is_written_anew(kernel: Kernel, short: Config) -> None:
    os.makedirs(short.state)
    Path(short.state, "original.json.new").write_text('{"core_pat')
    arming.arm(short)
    assert os.listdir(short.state) == ["original.json"]
    assert json.loads(Path(short.state, "original.json").read_text())["core_pattern"] == APPORT.core_pattern
