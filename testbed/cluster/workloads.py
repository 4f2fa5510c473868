"""What runs on the node: containers, pods and Deployments as objects, for kubectl's -f - and static pods.

Without a scheduler (nodeName), without a network plugin (hostNetwork), without a registry (imagePullPolicy).
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NODE = "node-1"


def container(name: str, image: str, *arguments: str, **fields: object) -> Object:
    """Return a container that runs its image's program with these arguments."""
    return {"name": name, "image": image, "imagePullPolicy": "Never", "args": list(arguments), **fields}


def pod(namespace: str, name: str, *containers: Object, **spec: object) -> Object:
    """Return a pod for the node, whose containers are not started again unless `spec` says so."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(containers, **spec)}


def deployment(namespace: str, name: str, *containers: Object) -> Object:
    """Return a Deployment of one pod, the old one of which goes before a new one comes."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": _spec(containers, restartPolicy="Always")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


def _spec(containers: tuple[Object, ...], **spec: object) -> Object:
    return {
        "nodeName": NODE,
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": list(containers),
        **spec,
    }
