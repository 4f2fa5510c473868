"""What the API is called: its group, version, kind and resource, and the paths that follow from them.

Not here: what can be asked of it (discovery) and what its objects look like (endpoint, schema).
"""

GROUP = "coredump.fujitsu.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

KIND = "CoredumpEndpoint"
RESOURCE = "coredumpendpoints"
SINGULAR = "coredumpendpoint"
SHORT = "cde"

ROOT = f"/apis/{GROUP}/{VERSION}"
NAMESPACED = f"{ROOT}/namespaces/<namespace>/{RESOURCE}"
"""The collection of one namespace, as a Flask rule."""
OBJECT = f"{NAMESPACED}/<name>"
"""One endpoint, as a Flask rule; `dump` and `proxy/dump` lie below it."""
