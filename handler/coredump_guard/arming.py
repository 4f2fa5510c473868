"""core_pattern and core_pipe_limit: set to ours, what was there remembered once and put back exactly.

Not here: how our pattern is built and recognised (pattern).
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass

from coredump_guard import pattern, pipedoor
from coredump_guard.config import Config

KERNEL_DEFAULT = "core"


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


def arm(config: Config, mode: str | None = None) -> Settings:
    """Remember the settings in force, unless that was done before, and put ours in their place.

    Returns what is in force now. Raises ArmingError, and then leaves everything as it was.
    """
    mode = mode or door(config)
    wanted = Settings(_pattern(config, mode), "0")
    before = current()
    if not pattern.is_ours(before.core_pattern):
        _remember(config, before)
    elif original(config) is None:
        # An earlier installation lost its memory: the kernel's default is the best that is known.
        _remember(config, Settings(KERNEL_DEFAULT, "0"))
    _write(wanted, before)
    return wanted


def disarm(config: Config) -> Settings:
    """Put back what was remembered, and forget it; raises ArmingError.

    A core_pattern that somebody else has set in the meantime is left alone.
    """
    before = original(config)
    now = current()
    if before is not None:
        if pattern.is_ours(now.core_pattern):
            _write(before, now)
        os.unlink(_memory(config))
    elif pattern.is_ours(now.core_pattern):
        _write(Settings(KERNEL_DEFAULT, "0"), now)
    return current()


def original(config: Config) -> Settings | None:
    """Return what was in force before us, or None while nothing is remembered."""
    try:
        with open(_memory(config), encoding="utf-8", errors="surrogateescape") as file:
            return Settings(**json.load(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
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


def _remember(config: Config, settings: Settings) -> None:
    """Write the memory, unless there is one: what came after us is never the original."""
    os.makedirs(config.state, 0o750, exist_ok=True)
    temporary = f"{_memory(config)}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(asdict(settings), file)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, _memory(config))
    os.unlink(temporary)


def _write(wanted: Settings, before: Settings) -> None:
    """Write and read back: the kernel truncates and reinterprets patterns without a word."""
    try:
        _set("core_pipe_limit", wanted.core_pipe_limit)
        _set("core_pattern", wanted.core_pattern)
    except OSError as error:
        reason = f"the kernel refuses core_pattern {wanted.core_pattern!r}: {error.strerror}"
    else:
        if current() == wanted:
            return
        reason = f"the kernel made {current().core_pattern!r} of core_pattern {wanted.core_pattern!r}"
    _set("core_pipe_limit", before.core_pipe_limit)
    _set("core_pattern", before.core_pattern)
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
