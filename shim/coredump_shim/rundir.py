"""The directory that the shim and HAProxy share: what its files are called, and how one is replaced.

Not here: what is in them (haproxy, trust) and where the directory is (config).

Both run as different users. The directory belongs to a group of both; whoever can write to it can pose as
the other, so nobody else may.
"""

from __future__ import annotations

import os
import tempfile

SHIM_SOCKET = "shim.sock"
"""Where the shim listens and HAProxy connects to."""
ADMIN_SOCKET = "admin.sock"
"""HAProxy's runtime API, by which the shim tells it of another request-header CA."""
OFFLINE_SOCKET = "offline.sock"
"""HAProxy's own way to what it answers itself while no shim does."""
REQUESTHEADER_CA = "requestheader-ca.pem"
"""The CAs whose client certificates make a front proxy: what the live ConfigMap says."""
HAPROXY_CFG = "haproxy.cfg"
OFFLINE = "offline"
"""Directory of the documents that HAProxy answers with while no shim does."""

MODE = 0o640


def path(run_dir: str, name: str) -> str:
    """Return where one of these files is."""
    return os.path.join(run_dir, name)


def replace(target: str, content: bytes) -> None:
    """Write a file so that whoever reads it finds the old or the new content, whole. Raises OSError."""
    directory, name = os.path.split(target)
    descriptor, draft = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, MODE)
            file.write(content)
        os.rename(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
