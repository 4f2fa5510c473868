"""The doctor's checks of our own part: the guard, the doorman, and what they need to run.

What the kernel starts is looked at where the kernel finds it, in init's mount namespace. Not here: the places
where dumps lie (placescheck).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import stat
from dataclasses import asdict

from coredump_guard import arming, config, deflate, mountns, pattern, pipedoor, runtime, trial
from coredump_guard.config import Config
from coredump_guard.finding import Finding, fail, ok, warning

PATIENCE = 20.0
"""Seconds that the doorman's imports may take; a busy machine needs one."""
_ARM = "coredump-guard arm"
_TRIAL = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="trial")
sys.path.insert(0, sys.argv[2])
from coredump_guard import alone
"""
"""What the doorman imports, and what it imports when it captures alone; nothing is run."""


def guard(settings: Config) -> Finding:
    """Check that the guard answers, and that the kernel finds it where core_pattern says."""
    start = "start it: coredump-guard run"
    try:
        pipedoor.ask_status(settings.guard_socket)
        if arming.door_in_force(settings) == "socket":
            _knock(settings.kernel_socket)
    except OSError as error:
        reason = f"does not answer ({settings.runtime}: {error.strerror or error})"
        if arming.door_in_force(settings) == "socket":
            return fail("guard", f"{reason}: crashes are lost", start)
        return warning("guard", f"{reason}: crashes are captured one at a time, nothing is delivered", start)
    return ok("guard", f"answers at {settings.guard_socket}")


def _knock(path: str) -> None:
    """See that somebody listens at a socket; a guard that does turns us away, since we are not crashing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.settimeout(pipedoor.PATIENCE)
        visitor.connect(path)


def same_settings(settings: Config) -> Finding:
    """Check that the guard runs with what the configuration says now."""
    try:
        used = asdict(config.last_good(settings.runtime))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return warning("settings", "no guard has left the ones it uses", "start it: coredump-guard run")
    differing = sorted(key for key, value in asdict(settings).items() if used.get(key) != value)
    if differing:
        found = f"of the guard are not those of {settings.path}: {', '.join(differing)}"
        return warning("settings", found, "restart the guard")
    return ok("settings", f"those of {settings.path}")


def interpreter(settings: Config) -> Finding:
    """Check that the kernel can start the interpreter, and that nobody but root can change it."""
    return _program("interpreter", _interpreter(settings), executable=True)


def doorman(settings: Config) -> Finding:
    """Check the program that the interpreter is given."""
    # Where no link leads to it yet (links), the file itself.
    path = settings.doorman if os.path.exists(settings.doorman) else f"{runtime.HERE}/{pattern.DOORMAN}"
    return _program("doorman", path, executable=False)


def _program(check: str, path: str, *, executable: bool) -> Finding:
    """Check a file that runs as root."""
    try:
        real, unsafe, noexec = mountns.in_init(lambda: _looked_at(path))
    except OSError as error:
        return fail(check, f"{path}: {error.strerror}", f"mend it or [guard] interpreter, then {_ARM}")
    if unsafe:
        remedy = f"chown root {unsafe}; chmod go-w {unsafe}"
        return fail(check, f"{unsafe} can be changed by others than root, and runs as root", remedy)
    if executable and (noexec or not mountns.in_init(lambda: os.access(path, os.X_OK))):
        reason = "is on a file system mounted noexec" if noexec else "is not executable"
        return fail(check, f"{real} {reason}", f"choose another [guard] interpreter, then {_ARM}")
    return ok(check, real if real == path else f"{path}, which is {real}")


def _looked_at(path: str) -> tuple[str, str, bool]:
    """Return where a file really is, which directory or file of the way is not root's alone, and noexec."""
    real = os.path.realpath(path)
    if not stat.S_ISREG(os.stat(real).st_mode):
        raise OSError(None, "is not a file", real)
    noexec = bool(os.statvfs(real).f_flag & os.ST_NOEXEC)
    return real, next((part for way in (path, real) for part in _way(way) if _others(part)), ""), noexec


def _way(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) or "/" for count in range(1, len(parts) + 1)]


def _others(path: str) -> bool:
    """Whether somebody else than root can put something else in this place."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):  # its directory decides
        return False
    mode = stat.S_IMODE(found.st_mode)
    if found.st_gid == 0:
        mode &= ~stat.S_IWGRP
    if stat.S_ISDIR(found.st_mode) and mode & stat.S_ISVTX:  # only owners remove what is there
        return found.st_uid != 0
    return found.st_uid != 0 or bool(mode & (stat.S_IWGRP | stat.S_IWOTH))


def _interpreter(settings: Config) -> str:
    """Return the interpreter that the kernel starts, which an older arming may have chosen."""
    in_force = arming.current().core_pattern
    if arming.door_in_force(settings) == "pipe":
        return in_force.split()[0][1:]
    return settings.interpreter


def imports(settings: Config) -> Finding:
    """Check that the doorman really runs: its imports, started as the kernel starts it."""
    paths = [f"{runtime.HERE}/{pattern.DOORMAN}", os.path.dirname(runtime.HERE)]
    command = [_interpreter(settings), "-I", "-S", "-c", _TRIAL, *paths]
    remedy = "run the same Python by hand: the installation is incomplete, or that Python is older than 3.9"
    try:
        said = mountns.in_init(lambda: trial.start(command, PATIENCE))
    except OSError as error:
        return fail("doorman runs", f"{command[0]} cannot be started: {error.strerror}", remedy)
    return fail("doorman runs", said, remedy) if said else ok("doorman runs", "with the guard and alone")


def links(settings: Config) -> Finding:
    """Check that the runtime directory leads to this installation and this configuration."""
    needed = arming.door_in_force(settings) == "pipe"
    for link, target in runtime.links(settings).items():
        real = os.path.realpath(link)
        if not os.path.exists(link):
            found = f"{link} leads nowhere"
            return (
                fail("links", f"{found}: crashes are lost", _ARM) if needed else warning("links", found, _ARM)
            )
        if real != os.path.realpath(target):
            return warning("links", f"{link} leads to {real}, of another installation", _ARM)
    return ok("links", f"{settings.runtime} leads to this installation")


def libraries(_: Config) -> Finding:
    """Check for the libraries without which we are slower, or know less."""
    missing = [] if deflate.FAST else ["isal: cores are compressed eight times slower, after the capture"]
    with contextlib.suppress(ValueError):
        if importlib.util.find_spec("pyroute2") is None:
            missing.append("pyroute2: crashes that never reach us are not counted")
    if missing:
        return warning(
            "libraries", f"without {'; without '.join(missing)}", "pip install 'coredump-guard[node]'"
        )
    return ok("libraries", "isal and pyroute2")
