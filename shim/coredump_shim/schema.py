"""The schema of a CoredumpEndpoint, in words for `kubectl explain` and in types for validation.

Not here: the documents in which it is served (openapi), and the definition of the custom resource (crd).
"""

from __future__ import annotations

from coredump_guard import store
from coredump_shim import names
from coredump_shim.endpoint import LONGEST, NEWEST, Object


def _string(description: str, form: str = "") -> Object:
    return {"type": "string", "description": description} | ({"format": form} if form else {})


def _text(description: str) -> Object:
    return _string(description) | {"maxLength": LONGEST}


def _integer(description: str) -> Object:
    return {"type": "integer", "format": "int64", "description": description}


def _strings(description: str) -> Object:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def _map(description: str) -> Object:
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": description}


def _object(description: str, properties: Object, required: tuple[str, ...] = ()) -> Object:
    schema: Object = {"type": "object", "description": description, "properties": properties}
    return schema | ({"required": list(required)} if required else {})


PODUID = _string(
    "UID of the pod, which the store files its dumps under; of a static pod the hash that the kubelet gives "
    "it. It cannot be changed: delete the endpoint and create it again."
) | {"minLength": 1, "maxLength": 128, "pattern": store.PODUID}

SPEC = _object(
    "Whose dumps it stands for.",
    {
        "poduid": PODUID
        | {
            "description": "UID of the pod. Left out, it is that of the running pod of this name, "
            "else of the last one with dumps. It cannot be changed: delete the endpoint and create it again."
        }
    },
)

DUMP = _object(
    "A stored crash.",
    {
        "id": _text("Name of the dump; it sorts by the time of the crash."),
        "container": _text("The container whose process crashed."),
        "time": _string("When it crashed.", "date-time"),
        "reason": _text("The signal that killed the process, such as SIGSEGV."),
        "executable": _text("The program's path."),
        "node": _text("The node it ran on."),
        "bytes": _integer("Size of the core, uncompressed."),
        "storedBytes": _integer("Size of the core as it is stored and sent; 0 if it was refused."),
        "truncated": _text("Why the core is not whole; absent for a whole one."),
        "refused": _text("Why the core was not kept; absent where it was."),
        "crashes": _integer("How many crashes without a core this stands for, in a crash loop."),
    },
)

STATUS = _object(
    "What is stored of the pod. It is worked out from the dumps; what a client writes here is ignored.",
    {
        "dumps": _integer("How many cores are stored."),
        "refused": _integer("How many crashes are known whose core was not kept."),
        "bytes": _integer("Size of the cores, uncompressed."),
        "storedBytes": _integer("Size of the cores as they are stored and sent."),
        "size": _text("The size of the cores, uncompressed, for people: 64Mi."),
        "downloadSize": _text("The size of the cores as they are stored and sent, for people: 5.1Mi."),
        "containers": _strings("The containers that have dumps."),
        "containerNames": _text("The containers that have dumps, for people: app,sidecar."),
        "lastCrash": _string("When the pod's last crash was.", "date-time"),
        "reason": _text("The signal of the last crash."),
        "executable": _text("The program that crashed last."),
        "newest": {
            "type": "array",
            "items": DUMP,
            "maxItems": NEWEST,
            "description": f"The newest {NEWEST} dumps, the newest first.",
        },
    },
)

METADATA = _object(
    "Standard object's metadata, as far as it is kept.",
    {
        "name": _string("Name of the endpoint: the pod's."),
        "namespace": _string("The pod's namespace."),
        "uid": _string("UID of the endpoint."),
        "resourceVersion": _string("Changes whenever the endpoint does."),
        "creationTimestamp": _string("When the endpoint was created, or the pod first crashed.", "date-time"),
        "labels": _map("Labels, for selectors."),
        "annotations": _map("Annotations."),
    },
)

ENDPOINT = _object(
    "CoredumpEndpoint stands for the cores of one pod. Its subresource `dump` is the cores themselves: "
    f"kubectl get --raw '{names.ROOT}/namespaces/NAMESPACE/{names.RESOURCE}/POD/dump?container=CONTAINER' "
    "> coredump.tar.gz",
    {
        "apiVersion": _string("APIVersion defines the versioned schema of this representation of an object."),
        "kind": _string("Kind is a string value representing the REST resource this object represents."),
        "metadata": METADATA,
        "spec": SPEC,
        "status": STATUS,
    },
)
