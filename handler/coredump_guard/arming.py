"""core_pattern and core_pipe_limit: set to ours, what was there remembered once and put back exactly.

Not here: how our pattern is built and recognised (pattern).
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from coredump_guard import pattern, pipedoor
from coredump_guard.config import Config

KERNEL_DEFAULT = "core"
_ORDER = ("core_pipe_limit", "core_pattern")
"""How they are written: no crash comes to our pattern while another's limit holds."""


class ArmingError(Exception):
    """The kernel's settings could not be changed; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """The kernel's settings that arming changes, as text without the final newline."""

    core_pattern: str
    core_pipe_limit: str


def current(sys_kernel: str = "/proc/sys/kernel") -> Settings:
    """Read the settings in force."""
    return Settings(_read(f"{sys_kernel}/core_pattern"), _read(f"{sys_kernel}/core_pipe_limit"))


def has_sockets(sys_kernel: str = "/proc/sys/kernel") -> bool:
    """Whether this kernel can hand cores to a socket; one that cannot takes '@…' for a file's name."""
    with contextlib.suppress(OSError):
        return "socket" in _read(f"{sys_kernel}/core_modes").split()
    return False


def door(config: Config) -> str:
    """Return the door that this machine uses, pipe or socket."""
    if config.mode != "auto":
        return config.mode
    return "socket" if has_sockets() else "pipe"


def door_in_force(config: Config) -> str | None:
    """Return the door that the kernel takes to this installation, or None if it takes none."""
    in_force = current().core_pattern
    if not pattern.is_ours(in_force):
        return None
    if in_force.lstrip("@") == config.kernel_socket:
        return "socket"
    return "pipe" if config.doorman in in_force.split() else None


def arm(config: Config, mode: str | None = None) -> Settings:
    """Remember the settings in force, unless that was done before, and put ours in their place.

    Returns what is in force now. Raises ArmingError, and then leaves everything as it was.
    """
    wanted = Settings(_pattern(config, mode or door(config)), "0")
    before = current()
    if not pattern.is_ours(before.core_pattern):
        made = _remember(config, before)
    else:
        # An earlier installation may have lost its memory: the kernel's default is the best that is known.
        made = original(config) is None and _remember(config, Settings(KERNEL_DEFAULT, "0"))
    try:
        _write(wanted, before)
    except ArmingError:
        if made:
            os.unlink(_memory(config))
        raise
    return wanted


def disarm(config: Config) -> Settings:
    """Put back what was remembered, and forget it; raises ArmingError.

    What somebody else has set in the meantime is left alone, be it the pattern or the limit.
    """
    before = original(config)
    now = current()
    if pattern.is_ours(now.core_pattern):
        _write(before or Settings(KERNEL_DEFAULT, "0"), now)
    elif before and now.core_pipe_limit == "0" and not _is_stale(config):
        _write(replace(now, core_pipe_limit=before.core_pipe_limit), now)
    if before is not None:
        os.unlink(_memory(config))
    return current()


def original(config: Config) -> Settings | None:
    """Return what was in force before us, or None while nothing is remembered.

    Raises ArmingError if the memory is damaged, OSError if it cannot be read.
    """
    try:
        memory = _recall(config)
        return None if memory is None else Settings(memory["core_pattern"], memory["core_pipe_limit"])
    except (ValueError, TypeError, KeyError) as error:
        raise ArmingError(f"{_memory(config)} cannot be read ({error}): mend or remove it") from None


def _pattern(config: Config, mode: str) -> str:
    try:
        if mode == "pipe":
            _link_runtime(config)
            return pattern.pipe_pattern(config.interpreter, config.doorman)
        if not has_sockets():
            raise ArmingError("this kernel has no coredump sockets (Linux 6.17): set [guard] mode = pipe")
        pipedoor.ask_status(config.guard_socket)
        return pattern.socket_pattern(config.kernel_socket)
    except ValueError as error:
        raise ArmingError(f"{error}: choose another path") from None
    except OSError as error:
        raise ArmingError(
            f"no guard answers at {config.guard_socket} ({error}): start it first, cores would be lost"
        ) from None


def _link_runtime(config: Config) -> None:
    """Put the doorman where the pattern names it: a short path, whatever the installation's."""
    os.makedirs(config.runtime, 0o755, exist_ok=True)
    here = os.path.dirname(os.path.abspath(__file__))
    for target, link in (
        (f"{here}/{pattern.DOORMAN}", config.doorman),
        (config.path, f"{config.runtime}/guard.conf"),
    ):
        temporary = f"{link}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, link)


def _memory(config: Config) -> str:
    return f"{config.state}/original.json"


def _recall(config: Config) -> Any:
    """Read the memory; raises OSError or ValueError."""
    try:
        with open(_memory(config), encoding="utf-8", errors="surrogateescape") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def _is_stale(config: Config) -> bool:
    """Whether the memory is of an earlier boot, which began with settings of its own."""
    with contextlib.suppress(ValueError):  # a damaged one is for a person to mend
        memory = _recall(config)
        if isinstance(memory, dict) and "boot_id" in memory:  # version 0.1.0 wrote none
            return bool(memory["boot_id"] != _boot_id())
    return False


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _remember(config: Config, settings: Settings) -> bool:
    """Write the memory, unless this boot has one: what came after us is never the original.

    Returns whether it was written.
    """
    os.makedirs(config.state, 0o750, exist_ok=True)
    if _is_stale(config):
        os.unlink(_memory(config))
    temporary = f"{_memory(config)}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump({**asdict(settings), "boot_id": _boot_id()}, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, _memory(config))
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _write(wanted: Settings, before: Settings) -> None:
    """Write and read back: the kernel truncates and reinterprets patterns without a word."""
    names = [name for name in _ORDER if getattr(wanted, name) != getattr(before, name)]
    try:
        for name in names:
            _set(name, getattr(wanted, name))
    except OSError as error:
        reason = f"the kernel refuses core_pattern {wanted.core_pattern!r}: {error.strerror}"
    else:
        if current() == wanted:
            return
        reason = f"the kernel made {current().core_pattern!r} of core_pattern {wanted.core_pattern!r}"
    for name in names:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing was
            _set(name, getattr(before, name))
    raise ArmingError(f"{reason}; is this a container, or not root?")


def _set(name: str, value: str) -> None:
    fd = os.open(f"/proc/sys/kernel/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("utf-8", "surrogateescape") or b"\n")
    finally:
        os.close(fd)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().removesuffix("\n")
