"""The doctor's checks of the kernel: does it bring crashes to us, now and after the next boot?

Not here: whether anybody is there to take them (doormancheck).
"""

from __future__ import annotations

import glob
import os
import re

from coredump_guard import arming, log, pattern
from coredump_guard.config import Config
from coredump_guard.finding import Finding, fail, ok, warning

ARM = "coredump-guard arm"
SYSCTL = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
"""Where sysctl.d(5) has its files, the most important first: a name there hides the same name in the next."""
_PATTERN = re.compile(r"\s*-?kernel[./]core_pattern\s*=\s*(.*?)\s*\Z")


def core_pattern(config: Config) -> Finding:
    """Check that the kernel takes crashes to this installation, by the door that is configured."""
    in_force, door = arming.current().core_pattern, arming.door_in_force(config)
    if door is None:
        other = ", of another installation of coredump-guard" if pattern.is_ours(in_force) else ""
        return fail("core_pattern", f"is {log.safe(in_force)}{other}: no crash reaches us", ARM)
    if door != arming.door(config):
        return warning("core_pattern", f"names the {door} door, configured is {arming.door(config)}", ARM)
    return ok("core_pattern", f"{door} door of this installation")


def core_pipe_limit(config: Config) -> Finding:
    """Check that no bound makes the kernel drop crashes that come at once."""
    limit = arming.current().core_pipe_limit
    if limit == "0" or arming.door_in_force(config) == "socket":
        return ok("core_pipe_limit", limit)
    found = f"is {limit}: of more crashes at once than that, the kernel drops the rest"
    return warning("core_pipe_limit", found, ARM)


def suid_dumpable(config: Config) -> Finding:
    """Check that processes which changed their ids are dumped, if they shall be."""
    value = arming.current().suid_dumpable
    if not config.setuid:
        return ok("suid_dumpable", f"{value}, left alone: [policy] setuid = no")
    if value != "2":
        found = f"is {value}: set-uid processes are not dumped for root's eyes"
        return warning("suid_dumpable", found, f"{ARM}, or [policy] setuid = no")
    return ok("suid_dumpable", value)


def core_modes(config: Config) -> Finding:
    """Check that the kernel has the door that is configured."""
    sockets = arming.has_sockets()
    if config.mode == "socket" and not sockets:
        return fail("core_modes", "this kernel has no coredump sockets (Linux 6.17)", "[guard] mode = auto")
    return ok("core_modes", "pipe and socket" if sockets else "pipe")


def sysctl_files(config: Config) -> Finding:
    """Check what core_pattern will be after the next boot."""
    found = at_boot()
    if found is None:
        return ok("boot", "no file of sysctl.d sets core_pattern")
    file, value = found
    if pattern.is_ours(value):
        return ok("boot", f"{file} sets ours")
    return warning(
        "boot", f"{file} sets core_pattern = {log.safe(value)}", f"{ARM} after each boot, when that was read"
    )


def at_boot(root: str = "") -> tuple[str, str] | None:
    """Return the file that sets core_pattern at boot, and to what, by the rules of sysctl.d(5)."""
    files: dict[str, str] = {}
    for directory in reversed(SYSCTL):
        files.update({os.path.basename(path): path for path in glob.glob(f"{root}{directory}/*.conf")})
    # procps reads it last; systemd-sysctl knows it as 99-sysctl.conf where a distribution links it so.
    paths = [*(files[name] for name in sorted(files)), f"{root}/etc/sysctl.conf"]
    settings = [(path, value) for path in paths for value in _values(path)]
    return settings[-1] if settings else None


def _values(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [match[1] for match in map(_PATTERN.match, file) if match]
    except OSError:
        return []


def security_modules(_: Config, root: str = "") -> Finding:
    """Check for SELinux and AppArmor, which may keep the doorman or the guard from what they need."""
    context = _word(f"{root}/proc/self/attr/current")
    if _word(f"{root}/sys/fs/selinux/enforce") == "1":
        remedy = "ausearch -m avc -ts recent shows denials; coredump-guard canary shows whether there are any"
        found = f"SELinux enforces, we are {context or 'unlabelled'}: its policy must let the kernel start us"
        return warning("security", found, remedy)
    if _word(f"{root}/sys/module/apparmor/parameters/enabled") == "Y":
        if context not in ("", "unconfined"):
            remedy = "journalctl -k -g apparmor shows denials; let the profile allow what the guard does"
            return warning("security", f"AppArmor confines us as {log.safe(context)}", remedy)
        return ok("security", "AppArmor, and we are not confined")
    return ok("security", "neither SELinux nor AppArmor enforces")


def _word(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip("\0\n ")
    except OSError:
        return ""


def cgroups(_: Config, proc: str = "/proc") -> Finding:
    """Check that processes' cgroups can be read: they say whose a crash is."""
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        lines, reason = [], error.strerror
    else:
        reason = "it is empty"
    if not lines:
        found = f"{proc}/self/cgroup cannot be read, {reason}: no crash can be named"
        return fail("cgroups", found, "the kernel needs CONFIG_CGROUPS, and we /proc")
    version = "version 2" if lines == [line for line in lines if line.startswith("0::")] else "version 1"
    return ok("cgroups", version)
