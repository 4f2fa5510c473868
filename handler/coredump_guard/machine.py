"""Which machine this is: what tells two nodes apart that were given the same name.

Not here: the node's name, which people choose (config).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets

MACHINE_ID = "/etc/machine-id"
_VALID = re.compile(r"[0-9a-f]{32}\n?\Z")


def identifier(state: str, source: str = MACHINE_ID) -> str:
    """Return eight hexadecimal digits that stay the same and are this machine's alone.

    From a keyed hash, since a machine-id is not to be published (machine-id(5)); where there is none, from
    one of our own in the state directory. Raises OSError if that cannot be written.
    """
    found = _read(source) or _read(f"{state}/machine-id") or _made(state)
    return hmac.new(b"coredump-guard", found.encode(), hashlib.sha256).hexdigest()[:8]


def _read(path: str) -> str:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        text = file.read(64)
        return text.strip() if _VALID.match(text) else ""
    return ""


def _made(state: str) -> str:
    os.makedirs(state, 0o755, exist_ok=True)
    path, made = f"{state}/machine-id", secrets.token_hex(16)
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(f"{made}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)
    return made
