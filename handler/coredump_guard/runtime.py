"""The runtime directory: short paths for core_pattern, which lead to this installation wherever that is.

Not here: who listens at its sockets (pipedoor, socketdoor).
"""

from __future__ import annotations

import contextlib
import os
import stat

from coredump_guard import pattern
from coredump_guard.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))
"""Where this installation's code lies."""


def links(config: Config) -> dict[str, str]:
    """Return the links in the directory and where they lead."""
    return {config.doorman: f"{HERE}/{pattern.DOORMAN}", f"{config.runtime}/guard.conf": config.path}


def link(config: Config) -> None:
    """Make the links, in the place of what is there; raises OSError."""
    os.makedirs(config.runtime, 0o755, exist_ok=True)
    for path, target in links(config).items():
        temporary = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)


def is_socket(path: str) -> bool:
    """Whether a socket has this path; one that nobody listens at has it too."""
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    return False
