"""core_pattern and what goes with it: set to ours, kept so, and put back exactly.

Not here: how our pattern is built and recognised (pattern), how the kernel is written (sysctl), how what was
there is remembered (original), when it is looked after (keeper), where core_pattern leads to (runtime).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from coredump_guard import mountns, pattern, pipedoor, runtime, sysctl
from coredump_guard import original as memory
from coredump_guard.config import Config
from coredump_guard.sysctl import Settings, current

__all__ = ["ArmingError", "Settings", "arm", "current", "disarm", "original"]

KERNEL_DEFAULT = "core"
_PIPE_LIMIT = "0"
"""No bound: a crash over a bound would be lost."""
_SUID_DUMPABLE = "2"
"""Processes that changed their ids are dumped too, for root's eyes: proc_sys_fs(5)."""


class ArmingError(Exception):
    """The kernel's settings could not be changed; the message says why and what to do."""


def has_sockets(sys_kernel: str = f"{sysctl.ROOT}/kernel") -> bool:
    """Whether this kernel can hand cores to a socket; one that cannot takes '@…' for a file's name."""
    with contextlib.suppress(OSError), open(f"{sys_kernel}/core_modes", encoding="utf-8") as file:
        return "socket" in file.read().split()
    return False


def door(config: Config) -> str:
    """Return the door that this machine uses, pipe or socket."""
    if config.mode != "auto":
        return config.mode
    return "socket" if has_sockets() else "pipe"


def door_in_force(config: Config, now: Settings | None = None) -> str | None:
    """Return the door that the kernel takes to this installation, or None if it takes none."""
    in_force = (now or current()).core_pattern
    if not pattern.is_ours(in_force):
        return None
    if in_force.lstrip("@") == config.kernel_socket:
        return "socket"
    return "pipe" if config.doorman in in_force.split() else None


def arm(config: Config, mode: str | None = None) -> Settings:
    """Remember the settings in force, unless that was done before, and put ours in their place.

    Returns what is in force now. Raises ArmingError, and then leaves everything as it was.
    """
    mode = mode or door(config)
    if mode == "socket":
        _expect_guard(config)
    if not mountns.in_init(lambda: os.access(config.interpreter, os.X_OK)):
        raise ArmingError(f"[guard] interpreter = {config.interpreter} is no program: cores would be lost")
    os.makedirs(config.state, 0o750, exist_ok=True)
    with _told(config), memory.locked(config.state):
        return _arm(config, mode)


def disarm(config: Config) -> Settings:
    """Put back what was remembered, and forget it; raises ArmingError.

    What somebody else has set in the meantime is left alone, be it the pattern or another of the settings.
    """
    known = os.path.isdir(config.state)  # where nobody ever armed, nobody does now
    with _told(config), memory.locked(config.state) if known else contextlib.nullcontext():
        before, now = original(config), current()
        wanted = _restored(config, before, now)
        # The other way round than they were set.
        sysctl.write(wanted, now, tuple(reversed(sysctl.FILES)))
        if before is not None:
            memory.forget(config.state)
    return current()


def original(config: Config) -> Settings | None:
    """Return what was in force before us, or None while nothing is remembered.

    Raises ArmingError if the memory is damaged, OSError if it cannot be read.
    """
    with _told(config):
        return memory.recall(config.state)


def is_armed(config: Config) -> bool:
    """Whether this installation was armed since the machine started, and not disarmed."""
    try:
        return memory.is_of_this_boot(config.state)
    except (OSError, ValueError):  # damaged: a person must say
        return False


def drift(config: Config, now: Settings) -> list[str]:
    """Return what is not as arming left it, in words with what was found."""
    found = []
    in_force = door_in_force(config, now)
    if in_force is None:
        found.append(f"core_pattern {now.core_pattern}")
    elif in_force == "socket" and not runtime.is_socket(config.kernel_socket):
        found.append(f"{config.kernel_socket} gone")
    if now.core_pipe_limit != _PIPE_LIMIT:
        found.append(f"core_pipe_limit {now.core_pipe_limit}")
    if config.setuid and now.suid_dumpable != _SUID_DUMPABLE:
        found.append(f"suid_dumpable {now.suid_dumpable}")
    found += [f"{link} gone" for link in runtime.links(config) if not os.path.exists(link)]
    return found


def repair(config: Config) -> bool:
    """Put ours back if this installation is armed; called by its guard.

    Returns whether it was needed and done: a disarm that is under way is not undone. Raises ArmingError.
    """
    if not is_armed(config):
        return False
    with _told(config), memory.locked(config.state, 0):
        if not is_armed(config) or not drift(config, current()):
            return False
        socket = door(config) == "socket" and runtime.is_socket(config.kernel_socket)
        _arm(config, "socket" if socket else "pipe")
    return True


def another(config: Config, now: Settings) -> str:
    """Return where core_pattern leads if that is another installation's and there, or nothing."""
    if not pattern.is_ours(now.core_pattern) or door_in_force(config, now):
        return ""
    place = pattern.leads_to(now.core_pattern)
    return place if os.path.exists(place) else ""


def _arm(config: Config, mode: str) -> Settings:
    before = current()
    if place := another(config, before):
        raise ArmingError(f"core_pattern leads to another installation, {place}: disarm that one first")
    ours, this_boot = pattern.is_ours(before.core_pattern), memory.is_of_this_boot(config.state)
    known = memory.recall(config.state) if ours or this_boot else None
    wanted = Settings(_pattern(config, mode), _PIPE_LIMIT, _suid_dumpable(config, before, known))
    memory.remember(config.state, _original(config, before, known))
    try:
        runtime.link(config)
        sysctl.write(wanted, before)
    except (sysctl.SettingError, OSError):
        if not (ours or this_boot):
            memory.forget(config.state)
        raise
    return wanted


def _original(config: Config, before: Settings, known: Settings | None) -> Settings:
    """Return what is to be remembered: what is known already, and never a pattern of ours."""
    suid_dumpable = before.suid_dumpable if config.setuid else ""
    if known:
        return replace(known, suid_dumpable=known.suid_dumpable or suid_dumpable)
    if pattern.is_ours(before.core_pattern):
        return _defaults(config)
    return replace(before, suid_dumpable=suid_dumpable)


def _defaults(config: Config) -> Settings:
    """Return the kernel's own settings, the best that is known where an installation has lost its memory."""
    return Settings(KERNEL_DEFAULT, "0", "0" if config.setuid else "")


def _suid_dumpable(config: Config, before: Settings, known: Settings | None) -> str:
    if config.setuid:
        return _SUID_DUMPABLE
    if known and known.suid_dumpable and before.suid_dumpable == _SUID_DUMPABLE:  # ours, from before
        return known.suid_dumpable
    return before.suid_dumpable


def _restored(config: Config, before: Settings | None, now: Settings) -> Settings:
    """Return what disarming leaves: what is not ours any more stays as it is."""
    ours = pattern.is_ours(now.core_pattern) and not another(config, now)
    if not ours and not is_armed(config):
        return now
    known = before or _defaults(config)
    limit_is_ours = ours or now.core_pipe_limit == _PIPE_LIMIT
    suid_is_ours = known.suid_dumpable and now.suid_dumpable == _SUID_DUMPABLE
    return Settings(
        known.core_pattern if ours else now.core_pattern,
        known.core_pipe_limit if limit_is_ours else now.core_pipe_limit,
        known.suid_dumpable if suid_is_ours else now.suid_dumpable,
    )


def _pattern(config: Config, mode: str) -> str:
    try:
        if mode == "socket":
            return pattern.socket_pattern(config.kernel_socket)
        return pattern.pipe_pattern(config.interpreter, config.doorman)
    except ValueError as error:
        raise ArmingError(f"{error}: choose another path") from None


def _expect_guard(config: Config) -> None:
    if not has_sockets():
        raise ArmingError("this kernel has no coredump sockets (Linux 6.17): set [guard] mode = pipe")
    try:
        pipedoor.ask_status(config.guard_socket)
    except OSError as error:
        raise ArmingError(
            f"no guard answers at {config.guard_socket} ({error}): start it first, cores would be lost"
        ) from None
    if not runtime.is_socket(config.kernel_socket):
        raise ArmingError(
            "the guard that runs has the pipe door only: restart it, with [guard] mode = socket"
        )


@contextlib.contextmanager
def _told(config: Config) -> Iterator[None]:
    """Let what goes wrong be an ArmingError that names the remedy."""
    try:
        yield
    except sysctl.SettingError as error:
        raise ArmingError(f"{error}; is this a container, or not root?") from None
    except memory.BusyError as error:
        raise ArmingError(f"{error}: try again") from None
    except ValueError as error:
        raise ArmingError(
            f"{config.state}/original.json cannot be read ({error}): mend or remove it"
        ) from None
