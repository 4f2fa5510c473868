"""What the shim needs is what the manifests give it, no more and no less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from coredump_shim import rights
from coredump_shim.rights import Right

MANIFESTS = Path(__file__).parents[3] / "manifests/api"
SHIM = {"kind": "ServiceAccount", "name": "coredump-shim", "namespace": "coredump-system"}

KUBERNETES = {
    ("ClusterRole", "system:auth-delegator"): [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ],
    ("Role", "extension-apiserver-authentication-reader"): [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["extension-apiserver-authentication"],
            "verbs": ["get"],  # and list and watch, which the shim does not use
        }
    ],
}
"""Roles that every cluster has (kubernetes, plugin/pkg/auth/authorizer/rbac/bootstrappolicy)."""


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / file).read_text()))


def test_the_manifests_give_the_shim_what_it_needs() -> None:
    roles = KUBERNETES | {
        (each["kind"], each["metadata"]["name"]): each["rules"]
        for each in documents("clusterrole.yaml") + documents("role.yaml")
    }
    given: set[Right] = set()
    for binding in documents("clusterrolebinding.yaml") + documents("rolebinding.yaml"):
        if SHIM in binding["subjects"]:
            role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
            given |= rights.of_rules(role, binding["metadata"].get("namespace", ""))
    assert given == rights.NEEDED


def test_a_right_reads_as_kubectl_has_it() -> None:
    right = Right("get", "coredump.fujitsu.com", "coredumpendpoints/dump", "demo", "web")
    assert str(right) == "get coredumpendpoints/dump.coredump.fujitsu.com web in demo"
    assert str(Right("list", "", "pods")) == "list pods"
    assert right.attributes() == {
        "verb": "get",
        "group": "coredump.fujitsu.com",
        "resource": "coredumpendpoints",
        "subresource": "dump",
        "namespace": "demo",
        "name": "web",
    }
