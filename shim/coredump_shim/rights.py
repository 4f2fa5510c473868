"""Rights: what the shim needs to be allowed in its cluster, as RBAC's rules say it.

Not here: asking whether it is (rightscheck) and granting it (manifests/api, which a test compares with this).
"""

from __future__ import annotations

from dataclasses import dataclass

from coredump_shim import names
from coredump_shim.endpoint import Object


@dataclass(frozen=True, order=True)
class Right:
    """What one verb of one RBAC rule grants; no namespace and no name stand for all."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        which = f" {self.name}" if self.name else ""
        return f"{self.verb} {resource}{which}" + (f" in {self.namespace}" if self.namespace else "")

    def attributes(self) -> Object:
        """Return it as a review's resourceAttributes."""
        resource, _, subresource = self.resource.partition("/")
        named = {"verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource}
        return named | {"namespace": self.namespace, "name": self.name}


def of_rules(rules: list[Object], namespace: str = "") -> set[Right]:
    """Return what the rules of a Role (in its namespace) or a ClusterRole grant."""
    return {
        Right(verb, group, resource, namespace, name)
        for rule in rules
        for group in rule.get("apiGroups") or []
        for resource in rule.get("resources") or []
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }


def _each(verbs: str, group: str, resource: str, namespace: str = "", name: str = "") -> set[Right]:
    return {Right(verb, group, resource, namespace, name) for verb in verbs.split()}


_RBAC, _SYSTEM = "rbac.authorization.k8s.io", names.SYSTEM_NAMESPACE

NEEDED = frozenset(
    # serving: v1alpha1's objects, and whose dumps an endpoint stands for
    _each("create delete deletecollection get list patch update watch", names.GROUP, names.RESOURCE)
    | _each("get", "", "pods")
    | _each("get", "", "namespaces")
    # authentication and authorization of who asks
    | _each("create", "authentication.k8s.io", "tokenreviews")
    | _each("create", "authorization.k8s.io", "subjectaccessreviews")
    | _each("get", "", "configmaps", "kube-system", "extension-apiserver-authentication")
    # coredump-shim check
    | _each("get", "apiregistration.k8s.io", "apiservices", name=f"{names.VERSION}.{names.GROUP}")
    | _each(
        "get", "apiextensions.k8s.io", "customresourcedefinitions", name=f"{names.RESOURCE}.{names.GROUP}"
    )
    | _each("get", "", "namespaces", name="kube-system")
    | {Right("get", _RBAC, "clusterroles", name=name) for name in ("view", "edit", "admin")}
    | _each("get", "", "services", _SYSTEM, names.SERVICE)
    | _each("get", "", "endpoints", _SYSTEM, names.SERVICE)
    | _each("list", "discovery.k8s.io", "endpointslices", _SYSTEM)
    | _each("get", "coordination.k8s.io", "leases", _SYSTEM, names.LEASE)
)
"""What the shim and its check do."""
