"""What an endpoint says of its pod where its author left it out, and whether what he said can be.

Not here: finding out about pods (poduids).
"""

from __future__ import annotations

from coredump_guard import store
from coredump_shim.endpoint import Object
from coredump_shim.payload import replaced
from coredump_shim.poduids import PodUids

_LEFT_OUT = (None, "")


def created(body: Object, namespace: str, name: str, uids: PodUids) -> Object:
    """Return a new endpoint with its pod's UID. Raises ApiError 422 if there is, or can be, no such pod.

    A body that is wrong in other ways is returned as it is: kube-apiserver says so.
    """
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        return body
    uid = spec.get("poduid")
    if uid in _LEFT_OUT:
        return with_poduid(body, uids.for_new(namespace, name))
    if isinstance(uid, str) and store.is_poduid(uid):
        uids.check(namespace, name, uid)
    return body


def changed(body: Object, current: Object) -> Object:
    """Return what is to take the place of an endpoint, with the same pod's UID if it has none."""
    return with_poduid(body, current["spec"]["poduid"])


def with_poduid(body: Object, uid: str) -> Object:
    """Return the body with this UID, if it has none."""
    spec = body.get("spec") or {}
    if not isinstance(spec, dict) or spec.get("poduid") not in _LEFT_OUT:
        return body
    return replaced(body, "spec", replaced(spec, "poduid", uid))


def with_uid(body: Object, uid: str) -> Object:
    """Return the body for no other object than the one with this UID, unless it names one itself."""
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict) or metadata.get("uid"):
        return body
    return replaced(body, "metadata", replaced(metadata, "uid", uid))
