"""What a CoredumpEndpoint says: worked out from a namespace's dumps and what was created and deleted there.

Not here: reading either of them, and resource versions (history).
"""

from __future__ import annotations

import datetime
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from coredump_guard import store
from coredump_guard.record import Signal
from coredump_shim import names
from coredump_shim.catalog import Dump, last_crash
from coredump_shim.kept import Kept

Object = dict[str, Any]
"""An API object as JSON has it."""

NEWEST = 10
"""How many dumps a status names."""
LONGEST = 1024
"""Characters of a text in a status; what a record says can be longer, and an object in etcd must not be."""

UNKNOWN = "unknown"
"""The signal of a crash that the socket announced and whose core was refused: the core alone would tell."""

_UIDS = uuid.UUID("0d1c39b5-6b0a-5a0e-9d0e-6f1d9f3c2b77")
"""Namespace of the UIDs of derived endpoints (RFC 9562, version 5), so that they survive a restart."""

_LARGEST = (1 << 63) - 1
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


def now() -> str:
    """Return the time as Kubernetes writes it: RFC 3339 in UTC, whole seconds."""
    return _rfc3339(datetime.datetime.now(datetime.UTC))


def all_of(namespace: str, dumps: Sequence[Dump], kept: Mapping[str, Kept]) -> dict[str, Object]:
    """Return a namespace's endpoints by name; dumps come sorted by id."""
    latest, pods = latest_pods(dumps), by_pod(dumps)
    entries = {name: entry for name, entry in kept.items() if not entry.deleted}
    for name, poduid in latest.items():
        if name not in entries and not _is_hidden(name, kept.get(name), dumps):
            entries[name] = derived(namespace, name, pods[poduid], kept.get(name))
    return {name: build(namespace, name, entry, pods[entry.poduid]) for name, entry in entries.items()}


def by_pod(dumps: Sequence[Dump]) -> defaultdict[str, list[Dump]]:
    """Return the dumps by the UID of their pod, each pod's in the order given."""
    pods = defaultdict(list)
    for dump in dumps:
        pods[dump.poduid].append(dump)
    return pods


def latest_pods(dumps: Sequence[Dump]) -> dict[str, str]:
    """Return, by pod name, the UID of the pod of this name that crashed last."""
    pods = ((dump.record.identity.pod, dump.poduid) for dump in dumps)
    return {name: poduid for name, poduid in pods if store.is_pod(name)}


def ids_of_pods(name: str, dumps: Sequence[Dump]) -> list[str]:
    """Return the ids of the dumps of every pod that had this name."""
    return [dump.id for dump in dumps if dump.record.identity.pod == name]


def derived(namespace: str, name: str, pod: Sequence[Dump], mark: Kept | None) -> Kept:
    """Return what is true of an endpoint that nobody created, by its pod's dumps.

    `mark` is that of its last deletion: what comes back after one is another object.
    """
    first = pod[0]
    lived = "/".join((namespace, name, first.poduid, mark.deleted if mark else ""))
    return Kept(uid=str(uuid.uuid5(_UIDS, lived)), created=_rfc3339(_crashed(first)), poduid=first.poduid)


def build(namespace: str, name: str, entry: Kept, pod: Sequence[Dump]) -> Object:
    """Return the object, still without a resourceVersion, by its pod's dumps."""
    metadata: Object = {
        "name": name,
        "namespace": namespace,
        "uid": entry.uid,
        "creationTimestamp": entry.created,
    }
    if entry.labels:
        metadata["labels"] = entry.labels
    if entry.annotations:
        metadata["annotations"] = entry.annotations
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": metadata,
        "spec": {"poduid": entry.poduid},
        "status": status(pod),
    }


def status(dumps: Sequence[Dump]) -> Object:
    """Sum up one pod's dumps, sorted by id; sizes are in bytes."""
    whole = [dump for dump in dumps if dump.record.refused is None and dump.record.core.stored_bytes > 0]
    without = sum(max(1, dump.record.crashes) for dump in dumps) - len(whole)
    size = _bounded(sum(dump.record.core.bytes for dump in whole))
    stored = _bounded(sum(dump.record.core.stored_bytes for dump in whole))
    containers = sorted({dump.container for dump in dumps})
    summary: Object = {
        "dumps": len(whole),
        "refused": _bounded(without),
        "bytes": size,
        "storedBytes": stored,
        "size": quantity(size),
        "downloadSize": quantity(stored),
        "containers": containers,
        "containerNames": _cut(",".join(containers)),
    }
    if dumps:
        last = max(dumps, key=lambda dump: (_last_crash(dump), dump.id))
        summary |= {
            "lastCrash": _rfc3339(_last_crash(last)),
            "reason": _cut(signal_name(last.record.signal)),
            "executable": _cut(last.record.process.executable),
            "newest": [_named(dump) for dump in reversed(dumps[-NEWEST:])],
        }
    return summary


def signal_name(signal: Signal) -> str:
    """Return what a process died of: the signal's name, which the record's writer chose."""
    return signal.name if signal.number and signal.name else UNKNOWN


def quantity(size: int) -> str:
    """Return bytes as a Kubernetes quantity for people: 64Mi."""
    power = min((size.bit_length() - 1) // 10, 4) if size else 0
    amount = size / 1024**power
    decimals = 1 if power and amount < 9.95 else 0
    return f"{amount:.{decimals}f}{('', 'Ki', 'Mi', 'Gi', 'Ti')[power]}"


def _crashed(dump: Dump) -> datetime.datetime:
    """Return when it crashed, by the dump's id: unlike the record's text it has one form only."""
    day, _, rest = dump.id.partition("T")
    try:
        return datetime.datetime(
            *(int(day[:4]), int(day[4:6]), int(day[6:8])),
            *(int(rest[:2]), int(rest[2:4]), int(rest[4:6])),
            tzinfo=datetime.UTC,
        )
    except ValueError:  # six numbers, but no time
        return _EPOCH


def _last_crash(dump: Dump) -> datetime.datetime:
    """Return when the last crash was that it stands for: more than one only in a crash loop's tally."""
    last = datetime.timedelta(microseconds=last_crash(dump)) if dump.is_tally else datetime.timedelta()
    return max(_crashed(dump), _EPOCH + last)


def _named(dump: Dump) -> Object:
    core = dump.record.core
    named: Object = {
        "id": dump.id,
        "container": dump.container,
        "time": _rfc3339(_crashed(dump)),
        "reason": _cut(signal_name(dump.record.signal)),
        "executable": _cut(dump.record.process.executable),
        "node": _cut(dump.record.node),
        "bytes": _bounded(core.bytes),
        "storedBytes": _bounded(core.stored_bytes),
    }
    if core.truncated:
        named["truncated"] = _cut(core.truncated)
    if dump.record.refused is not None:
        named |= {"refused": _cut(dump.record.refused), "crashes": _bounded(dump.record.crashes)}
    return named


def _is_hidden(name: str, mark: Kept | None, dumps: Sequence[Dump]) -> bool:
    return mark is not None and set(ids_of_pods(name, dumps)) <= set(mark.hidden)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _bounded(size: int) -> int:
    return max(0, min(size, _LARGEST))


def _rfc3339(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(len("2026-01-01T00:00:00Z"), "0")
