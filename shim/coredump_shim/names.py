"""What things are called: the API's group, versions, kind, resource and paths, and its parts in a cluster.

Not here: what can be asked of it (discovery) and what its objects look like (endpoint, schema).
"""

GROUP = "coredump.fujitsu.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

STORED = "v1"
"""The version of the same objects that kube-apiserver itself serves and stores, as custom resources."""

KIND = "CoredumpEndpoint"
RESOURCE = "coredumpendpoints"
SINGULAR = "coredumpendpoint"
SHORT = "cde"
CATEGORIES = ["coredump"]
"""Not `all`: who deletes all of a namespace's workloads wants to keep what tells of their crashes."""

ROOT = f"/apis/{GROUP}/{VERSION}"
NAMESPACED = f"{ROOT}/namespaces/<namespace>/{RESOURCE}"
"""The collection of one namespace, as a Flask rule."""
OBJECT = f"{NAMESPACED}/<name>"
"""One endpoint, as a Flask rule; `dump` and `proxy/dump` lie below it."""

SYSTEM_NAMESPACE = "coredump-system"
"""Where the Service, the lease and the service accounts are."""
SERVICE = "coredump-shim"
"""The Service that kube-apiserver reaches the gateways by; its certificate's name is
coredump-shim.coredump-system.svc."""
LEASE = "coredump-controller"

CLIENT_CN = "X-Coredump-Client-Cn"
"""Header in which HAProxy says the common name of a client certificate that it has verified against the
request-header CA; it removes the header from whatever it receives."""

OBSERVED = f"{GROUP}/observed"
"""Annotation of an endpoint: what the controller saw of its pod's dumps when it last wrote the status."""
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "coredump-controller"
"""Label, and its value, of the endpoints that the controller made, which it may replace and remove."""
