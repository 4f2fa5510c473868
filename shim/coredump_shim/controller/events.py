"""Events on pods (core/v1): one for each pod, container and reason, which counts on while crashes go on.

Not here: their words (notice), and how often they are written (pace).
"""

from __future__ import annotations

import hashlib
import json
import time

from coredump_shim import names
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.endpoints import is_terminating
from coredump_shim.controller.notice import LONGEST, Notice, rfc3339
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

COMPONENT = "coredump-controller"
COUNTED = f"{names.GROUP}/counted"
"""Annotation of an Event: the dumps that it has counted, so that none counts twice after a restart."""
MAX_COUNTED = 500
"""Dumps in that annotation; no more of one pod are told of at once."""
ATTEMPTS = 5
_MAX_COUNT = (1 << 31) - 1


class Events:
    """The Events of a cluster. Raises ApiError."""

    def __init__(self, cluster: Cluster, identity: str, acting: Acting) -> None:
        self._cluster = cluster
        self._identity = identity
        self._acting = acting

    def now(self) -> float:
        """Return the server's time if it said so, in seconds since the epoch."""
        return self._cluster.clock or time.time()

    def tell(self, namespace: str, name: str, poduid: str, notices: list[Notice]) -> None:
        """Say something of a pod; poduid as the node knows it. What has no namespace any more is not said."""
        if not notices:
            return
        try:
            subject = _subject(namespace, name, poduid)
            for notice in notices:
                if self._acting.may(f"say {notice.reason} of pod {namespace}/{name}: {notice.message}"):
                    self._tell(subject, notice)
        except ApiError as error:
            if not (is_gone(error) or is_terminating(error)):
                raise

    def _tell(self, subject: Object, notice: Notice) -> None:
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._write(subject, notice)
            except ApiError as error:
                if error.code != 409 or not left:
                    raise
        return None

    def _write(self, subject: Object, notice: Notice) -> None:
        namespace, name = subject["namespace"], event_name(subject, notice)
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            before = self._cluster.get(f"{path}/{name}")
        except ApiError as error:
            if not is_gone(error):
                raise
            self._cluster.create(path, self._counted(_new(name, subject, notice), notice))
            return
        after = self._counted(before, notice)
        if after is not before:
            self._cluster.update(f"{path}/{name}", after)

    def _counted(self, event: Object, notice: Notice) -> Object:
        """Return the Event with these crashes, the same object if it has them all."""
        annotations = event["metadata"].get("annotations") or {}
        before = _parsed(annotations.get(COUNTED))
        more = sum(max(0, count - before.get(key, 0)) for key, count in notice.counted.items())
        if not more:
            return event
        kept = {key: before.get(key, 0) for key in before if key not in notice.counted} | notice.counted
        newest = dict(list(kept.items())[-MAX_COUNTED:])
        noted = annotations | {COUNTED: json.dumps(newest, separators=(",", ":"))}
        last = min(notice.last, int(self.now() * 1_000_000))
        return event | {
            "metadata": event["metadata"] | {"annotations": noted},
            "count": min((event.get("count") or 0) + more, _MAX_COUNT),
            "lastTimestamp": max(event.get("lastTimestamp") or "", rfc3339(last)),
            "message": notice.message[:LONGEST],
            "reportingInstance": self._identity[:128],
        }


def event_name(subject: Object, notice: Notice) -> str:
    """Return the name of the one Event of a pod, container and reason."""
    key = "/".join((subject["uid"], notice.about, notice.reason))
    return f"{subject['name'][:220].rstrip('-.')}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _subject(namespace: str, name: str, poduid: str) -> Object:
    """Return the pod as `kubectl describe` looks for its Events.

    Those of a static pod's mirror it looks for, as the kubelet writes them, by the UID that the node knows
    the pod by, and not by the mirror's own (kubectl, describe.go; annotation kubernetes.io/config.mirror).
    """
    return {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": poduid}


def _new(name: str, subject: Object, notice: Notice) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": subject["namespace"]},
        "involvedObject": subject,
        "type": "Warning" if notice.is_warning else "Normal",
        "reason": notice.reason,
        "firstTimestamp": rfc3339(notice.first),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }


def _parsed(text: object) -> dict[str, int]:
    """Return what an Event has counted; people with rights on Events may write anything."""
    try:
        said = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    items = said.items() if isinstance(said, dict) else ()
    return {key: count for key, count in items if isinstance(key, str) and type(count) is int}
