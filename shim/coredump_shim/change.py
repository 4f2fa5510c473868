"""What becomes of an endpoint that is created or changed: decided from what a namespace holds, and pure.

Not here: reading and writing what it holds (endpoints), and what a body says (bodies).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from coredump_shim import endpoint
from coredump_shim.catalog import Dump
from coredump_shim.endpoint import Object
from coredump_shim.kept import Kept
from coredump_shim.status import already_exists, conflict, invalid


@dataclass(frozen=True)
class Wanted:
    """What a caller wants an endpoint to be; empty strings stand for what he leaves open."""

    name: str
    poduid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    uid: str = ""
    version: str = ""


@dataclass(frozen=True)
class Namespace:
    """One reading of a namespace."""

    name: str
    dumps: list[Dump]
    kept: dict[str, Kept]

    def entry(self, name: str) -> Kept | None:
        """Return the endpoint that was created by this name, None for a derived one or none."""
        entry = self.kept.get(name)
        return entry if entry is not None and not entry.deleted else None


def created(seen: Namespace, wanted: Wanted) -> Kept:
    """Return what to keep of a new endpoint. Raises ApiError 409 or 422."""
    if seen.entry(wanted.name) is not None:
        raise already_exists(wanted.name)
    return Kept(
        uid=str(uuid.uuid4()),
        created=endpoint.now(),
        poduid=_poduid(seen, wanted),
        labels=wanted.labels,
        annotations=wanted.annotations,
    )


def replaced(seen: Namespace, current: Object, wanted: Wanted) -> Kept:
    """Return what to keep of an endpoint that is changed. Raises ApiError 409 or 422."""
    metadata = current["metadata"]
    if wanted.version not in ("", metadata["resourceVersion"]) or wanted.uid not in ("", metadata["uid"]):
        raise conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
            wanted.name,
        )
    poduid, uid = current["spec"]["poduid"], metadata["uid"]
    if wanted.poduid not in ("", poduid):
        if seen.entry(wanted.name) is not None:
            sentence = "cannot be changed; delete the endpoint and create it again"
            raise invalid(wanted.name, "spec.poduid", sentence)
        poduid, uid = _poduid(seen, wanted), str(uuid.uuid4())
    return Kept(
        uid=uid,
        created=metadata["creationTimestamp"],
        poduid=poduid,
        labels=wanted.labels,
        annotations=wanted.annotations,
    )


def is_derived(seen: Namespace, name: str, entry: Kept) -> bool:
    """Whether this only says what is derived anyway, so that nothing needs to be kept."""
    latest = endpoint.latest_pods(seen.dumps)
    if entry.deleted or seen.entry(name) is not None or name not in latest:
        return False
    pod = endpoint.by_pod(seen.dumps)[latest[name]]
    return entry == endpoint.derived(seen.name, name, pod, seen.kept.get(name))


def _poduid(seen: Namespace, wanted: Wanted) -> str:
    if not wanted.poduid:
        latest = endpoint.latest_pods(seen.dumps).get(wanted.name)
        if latest is None:
            sentence = (
                "is needed here: the store has no dump of a pod with this name, "
                "and a shim without a cluster knows no other pods"
            )
            raise invalid(wanted.name, "spec.poduid", sentence)
        return latest
    if not any(dump.poduid == wanted.poduid for dump in seen.dumps):
        sentence = f"the store has no dump of a pod with UID {wanted.poduid[:128]!r} in this namespace"
        raise invalid(wanted.name, "spec.poduid", sentence)
    return wanted.poduid
