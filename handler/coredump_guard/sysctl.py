"""The kernel's settings for cores: read, and written all or none.

Not here: which values are wanted (arming), and when (arming, keeper).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from coredump_guard import mountns

ROOT = "/proc/sys"
"""Where they are."""
FILES = {
    "core_pipe_limit": "kernel/core_pipe_limit",
    "core_pattern": "kernel/core_pattern",
    "suid_dumpable": "fs/suid_dumpable",
}
"""In the order in which ours are set: no crash comes to our pattern while another's limit holds, and the
kernel warns of a suid_dumpable of 2 while the pattern is a relative path (fs/coredump.c)."""


class SettingError(Exception):
    """The kernel did not take a setting; all are as they were."""


@dataclass(frozen=True)
class Settings:
    """What arming changes, as text without the final newline."""

    core_pattern: str
    core_pipe_limit: str
    suid_dumpable: str = ""
    """Empty in a memory: it was not changed by us, and is not to be put back."""


def current() -> Settings:
    """Read the settings in force."""
    held = hold()
    try:
        return read(held)
    finally:
        release(held)


def hold() -> dict[str, int]:
    """Open the settings' files, by name; they tell the truth whichever procfs is written through."""
    held: dict[str, int] = {}
    try:
        for name, file in FILES.items():
            held[name] = os.open(f"{ROOT}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        release(held)
        raise
    return held


def read(held: dict[str, int]) -> Settings:
    """Read the settings from descriptors of `hold`."""
    return Settings(**{name: _text(os.pread(fd, 4096, 0)) for name, fd in held.items()})


def release(held: dict[str, int]) -> None:
    """Close descriptors of `hold`."""
    for fd in held.values():
        os.close(fd)


def write(wanted: Settings, before: Settings, names: Sequence[str] = tuple(FILES)) -> None:
    """Write what differs, in the order of the names, and read it back; from init's mount namespace.

    The kernel truncates and reinterprets patterns without a word. Raises SettingError, and has then put back
    what was there before.
    """
    mountns.in_init(lambda: _write(wanted, before, names))


def _write(wanted: Settings, before: Settings, names: Sequence[str]) -> None:
    written = []
    try:
        for name in names:
            value = getattr(wanted, name)
            if value != getattr(before, name):
                written.append(name)
                _set(name, value)
        for name in written:
            _compare(name, getattr(wanted, name), getattr(current(), name))
    except SettingError:
        _put_back(before, written)
        raise
    except OSError as error:
        _put_back(before, written)
        raise SettingError(f"the kernel refuses {name} {getattr(wanted, name)!r}: {error.strerror}") from None


def _compare(name: str, wanted: str, found: str) -> None:
    if found != wanted:
        raise SettingError(f"the kernel made {found!r} of {name} {wanted!r}")


def _put_back(before: Settings, written: Sequence[str]) -> None:
    for name in reversed(written):
        with contextlib.suppress(OSError):  # where nothing can be written, nothing was
            _set(name, getattr(before, name))


def _set(name: str, value: str) -> None:
    fd = os.open(f"{ROOT}/{FILES[name]}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("utf-8", "surrogateescape") + b"\n")
    finally:
        os.close(fd)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").removesuffix("\n")
