"""The UID by which node and store know a pod.

Not here: finding out which pod is meant (poduids). Of a static pod the node knows a UID, under which the
store files its dumps, that kube-apiserver knows as an annotation only: the UID of its mirror pod is another
(kubernetes/pkg/kubelet/types/pod_update.go).
"""

from __future__ import annotations

from coredump_shim.endpoint import Object

MIRROR = "kubernetes.io/config.mirror"
STATIC = (MIRROR, "kubernetes.io/config.hash")
"""Annotations of a mirror pod, either of which is the UID that the kubelet gave the static pod."""


def uid_of(pod: Object) -> str:
    """Return the UID under which the store files a pod's dumps."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    return str(next(filter(None, map(annotations.get, STATIC)), metadata["uid"]))
