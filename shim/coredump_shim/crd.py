"""The custom resource definition: the version of an endpoint that kube-apiserver itself serves and stores.

Not here: what its fields mean (schema). `python -m coredump_shim.crd` prints it, as manifests/api has it.
"""

from __future__ import annotations

import sys

import yaml

from coredump_shim import names, schema
from coredump_shim.endpoint import Object

HEADER = "# Made by `python -m coredump_shim.crd`; the words are schema.py's.\n"
IMMUTABLE = "cannot be changed; delete the endpoint and create it again"
"""What stand-alone says too."""

COLUMNS = [
    ("Containers", ".status.containerNames", "string", "Its containers that have dumps"),
    ("Dumps", ".status.dumps", "integer", "How many cores are stored"),
    ("Size", ".status.size", "string", "The size of the cores, uncompressed"),
    ("Last Crash", ".status.lastCrash", "date", "How long ago it crashed last"),
    ("Reason", ".status.reason", "string", "The signal of the last crash"),
    ("Age", ".metadata.creationTimestamp", "date", "How long ago the endpoint was created"),
]
"""What `kubectl get` prints behind the name, which is the pod's."""
WIDE_COLUMNS = [
    ("Download", ".status.downloadSize", "string", "The size of the cores as they are sent, compressed"),
    ("Executable", ".status.executable", "string", "The program that crashed last"),
    ("Pod UID", ".spec.poduid", "string", "The pod's UID"),
]
"""What it prints as well with `-o wide`."""


def definition() -> Object:
    """Return the CustomResourceDefinition (apiextensions.k8s.io/v1)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.RESOURCE}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.RESOURCE,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT],
                "categories": names.CATEGORIES,
            },
            "versions": [_version()],
        },
    }


def _version() -> Object:
    columns = [(*column, 0) for column in COLUMNS] + [(*column, 1) for column in WIDE_COLUMNS]
    return {
        "name": names.STORED,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema()},
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.poduid"}],
        "additionalPrinterColumns": [_column(*column) for column in columns],
    }


def _column(name: str, path: str, kind: str, description: str, priority: int) -> Object:
    column: Object = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def _schema() -> Object:
    """Return the schema as far as it is ours: kube-apiserver itself sees to the metadata's fields."""
    immutable = {"rule": "self == oldSelf", "message": IMMUTABLE}
    poduid = schema.PODUID | {"x-kubernetes-validations": [immutable]}
    spec = schema.SPEC | {"properties": {"poduid": poduid}, "required": ["poduid"]}
    properties = schema.ENDPOINT["properties"] | {"metadata": {"type": "object"}, "spec": spec}
    return schema.ENDPOINT | {"properties": properties, "required": ["spec"]}


class _Dumper(yaml.SafeDumper):
    """Writes what is mentioned twice twice, and lists as Kubernetes' manifests have them."""

    def ignore_aliases(self, data: object) -> bool:
        """Whether not to write an alias: always."""
        return True


def text() -> str:
    """Return the definition as YAML."""
    return HEADER + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=110)


if __name__ == "__main__":
    sys.stdout.write(text())
