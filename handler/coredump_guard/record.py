"""The record of a dump, info.json: what the node writes and controller and shim read.

Not here: where a dump lies (store) and how its core is stored (deflate).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import Any, TypeVar

SCHEMA = 1
MAX_BYTES = 1 << 20
"""Longest info.json that is read: the store may have been written by somebody hostile."""

_LARGEST = sys.float_info.max

T = TypeVar("T")


class RecordError(ValueError):
    """An info.json that is not a record; the message names the field."""


@dataclass(frozen=True)
class Identity:
    """Whose process it was. Empty strings stand for what could not be learned."""

    namespace: str = ""
    pod: str = ""
    poduid: str = ""
    container: str = ""
    container_id: str = ""
    image: str = ""
    restarts: int | None = None
    """Restart count of the container, the N of /var/log/pods/…/N.log."""
    nested: bool = False
    """It ran in a cgroup below its container's: docker in docker, systemd in a pod."""
    capture: str = ""
    """What the pod's spec says in COREDUMP_CAPTURE: never, always, or nothing."""
    host: bool = False
    """It was no pod's process but the node's own."""

    @property
    def complete(self) -> bool:
        """Whether the dump can be filed under its namespace, pod and container."""
        return bool(self.namespace and self.pod and self.poduid and self.container)


@dataclass(frozen=True)
class Process:
    """The process that died; ids are those of the initial namespaces."""

    pid: int
    tid: int | None = None
    """The thread that crashed; None where neither kernel nor core told."""
    ppid: int = 0
    uid: int = -1
    gid: int = -1
    comm: str = ""
    executable: str = ""
    cmdline: list[str] = field(default_factory=list)
    threads: int = 0


@dataclass(frozen=True)
class Thread:
    """A thread that was there when the process died."""

    tid: int
    name: str


@dataclass(frozen=True)
class Module:
    """An ELF file that was mapped: the executable first, then the libraries."""

    path: str
    """As the container saw it."""
    build_id: str
    """Hexadecimal, from the note that the linker wrote (ld(1), --build-id); empty if it has none."""
    start: str
    """Lowest address at which it was mapped, in hexadecimal."""


@dataclass(frozen=True)
class Signal:
    """Why it died: signal(7) and the core's NT_SIGINFO note."""

    number: int
    name: str
    code: int | None = None
    address: str | None = None
    """Fault address in hexadecimal, for the signals that have one."""


@dataclass(frozen=True)
class Core:
    """The core file. Sizes are in bytes; a truncated core says why, a whole one has `truncated` None."""

    bytes: int
    stored_bytes: int
    truncated: str | None = None
    stored_sha256: str = ""
    """SHA-256 of core.gz; both sums are worked out at delivery, off the crash path."""
    sha256: str = ""
    """SHA-256 of the uncompressed core."""


@dataclass(frozen=True)
class Capture:
    """How it was captured."""

    mode: str
    """The door: pipe, socket, or alone (the doorman without a guard)."""
    seconds: float
    version: str


@dataclass(frozen=True)
class Record:
    """Everything known of one dump; `to_json` and `from_json` are each other's inverse."""

    id: str
    time: str
    """The crash, RFC 3339 in UTC."""
    node: str
    boot_id: str
    kernel: str
    identity: Identity
    process: Process
    signal: Signal
    core: Core
    capture: Capture
    refused: str | None = None
    """Why the core was not kept; then there is no core.gz and core.bytes is 0."""
    crashes: int = 1
    """How many crashes this record stands for: more than one in a crash loop's tally, which has no core."""
    until: str | None = None
    """The last of those crashes, RFC 3339 in UTC."""
    replaces: str | None = None
    """The dump of the same crash loop that goes when this one has been delivered."""
    threads: list[Thread] = field(default_factory=list)
    modules: list[Module] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """The names of the small files beside core.gz and info.json."""
    delivered: str | None = None
    """When the store had it, RFC 3339 in UTC by the node's clock; None while it is in the spool."""
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the text of info.json."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Read info.json's text; fields of later schemas are ignored.

        Raises RecordError naming the field.
        """
        if len(text) > MAX_BYTES:
            raise RecordError(f"info.json is {len(text)} bytes long, more than {MAX_BYTES}")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"info.json is not JSON: {error}") from None
        return _load(cls, data, "info.json")


_NESTED = {kind.__name__: kind for kind in (Identity, Process, Thread, Module, Signal, Core, Capture)}


def _load(kind: type[T], data: object, where: str) -> T:
    if not isinstance(data, dict):
        raise RecordError(f"{where} must be an object")
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if entry.name in data:
            values[entry.name] = _value(str(entry.type), data[entry.name], f"{where}: {entry.name}")
    try:
        return kind(**values)
    except TypeError as error:
        raise RecordError(f"{where}: {error}") from None


def _value(kind: str, value: object, where: str) -> object:
    if kind in _NESTED:
        return _load(_NESTED[kind], value, where)
    if kind.endswith(" | None"):
        return None if value is None else _value(kind[: -len(" | None")], value, where)
    if kind.startswith("list["):
        if isinstance(value, list):
            return [_value(kind[5:-1], item, f"{where}[{index}]") for index, item in enumerate(value)]
    elif kind == "float":
        # Compared, not converted: JSON's numbers may be longer than any float, and Python's json knows NaN.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return float(value)
    elif type(value).__name__ == kind:
        return value
    raise RecordError(f"{where} must be {kind}, is {type(value).__name__}")
