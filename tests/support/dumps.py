"""Dumps as the guard delivers them, written straight into a store.

Not here: any capturing; the bytes are stored with the guard's own code, so that they are what it writes.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path

from coredump_guard import deflate, store
from coredump_guard.record import Capture, Core, Identity, Process, Record, Signal

BOOT_ID = "6b7c1a52-8f3d-4b0e-9f60-0d9f6f1f2a11"

_start_times = itertools.count(1000)
"""Makes the ids of two dumps differ that share second, executable and pid."""


def write_dump(
    store_root: Path,
    *,
    namespace: str = "demo",
    pod: str = "web",
    poduid: str = "11111111-2222-3333-4444-555555555555",
    container: str = "app",
    when: datetime.datetime | None = None,
    executable: str = "/usr/bin/program",
    pid: int = 4711,
    signal: tuple[int, str] = (11, "SIGSEGV"),
    core: bytes | None = b"\x7fELF" + bytes(2000),
    truncated: str | None = None,
    files: Mapping[str, bytes] | None = None,
    refused: str | None = None,
    crashes: int = 1,
    until: str | None = None,
) -> Path:
    """Write one whole dump and return its directory; `core=None` or `refused` makes one without a core."""
    core = None if refused else core
    when = when or datetime.datetime.now(datetime.UTC)
    identity = Identity(namespace, pod, poduid, container, "c" * 64, "registry.example/app:1", 0)
    dump_id = store.dump_id(when.timestamp(), executable, pid, BOOT_ID, next(_start_times))
    path = store_root / store.directory(identity, "node-1") / dump_id
    path.mkdir(parents=True)
    stored = b"" if core is None else _stored(core)
    if core is not None:
        (path / store.CORE).write_bytes(stored)
    files = files or {}
    for name, content in files.items():
        (path / name).write_bytes(content)
    record = Record(
        id=dump_id,
        time=when.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        node="node-1",
        boot_id=BOOT_ID,
        kernel="6.18.0",
        identity=identity,
        process=Process(pid, pid, 1, 0, 0, executable.rpartition("/")[2][:15], executable, [executable], 1),
        signal=Signal(signal[0], signal[1], 1, "0x0"),
        core=Core(
            bytes=len(core or b""),
            stored_bytes=len(stored),
            truncated=truncated,
            stored_sha256=hashlib.sha256(stored).hexdigest() if stored else "",
            sha256=hashlib.sha256(core).hexdigest() if core else "",
        ),
        capture=Capture("pipe", 0.1, "0.1.0"),
        files=sorted(files),
        refused=refused,
        crashes=crashes,
        until=until,
    )
    (path / store.INFO).write_text(record.to_json())
    return path


def announce(store_root: Path, dump: Path) -> Path:
    """Announce a dump as the guard does, and return the announcement."""
    inbox = store_root / store.INBOX
    inbox.mkdir(exist_ok=True)
    draft = inbox / f".{dump.name}"
    draft.write_text(f"{dump.relative_to(store_root)}\n")
    return draft.rename(inbox / dump.name)


def _stored(core: bytes) -> bytes:
    pieces = [core[at : at + deflate.PIECE] for at in range(0, len(core), deflate.PIECE)]
    body = b"".join(deflate.piece(piece) for piece in pieces)
    return deflate.HEADER + body + deflate.trailer(deflate.crc32(core), len(core))
