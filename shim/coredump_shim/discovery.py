"""What the API says of itself: version, health, and discovery in its three forms.

Not here: the schema of its objects (schema).

The forms: one document a path (legacy), and everything in one, as apidiscovery.k8s.io v2 and v2beta1, at
/api and /apis for callers whose Accept header asks for it. All are constants: none waits for the store.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request

from coredump_guard import __version__
from coredump_shim import accept, corev1, names, objects
from coredump_shim.endpoint import Object

JSON = "application/json"
APIDISCOVERY = "apidiscovery.k8s.io"
OFFERED = {("APIGroupDiscoveryList", "v2"): "v2", ("APIGroupDiscoveryList", "v2beta1"): "v2beta1"}

KUBERNETES = "1.32"
"""The Kubernetes release whose behaviour this follows; kubectl compares it to its own."""

RESOURCES: list[Object] = [
    {
        "name": names.RESOURCE,
        "singularName": names.SINGULAR,
        "namespaced": True,
        "kind": names.KIND,
        "verbs": objects.VERBS,
        "shortNames": [names.SHORT],
        "categories": names.CATEGORIES,
    },
    {
        "name": f"{names.RESOURCE}/dump",
        "singularName": "",
        "namespaced": True,
        "kind": names.KIND,
        "verbs": ["delete", "get"],
    },
    {
        "name": f"{names.RESOURCE}/proxy",
        "singularName": "",
        "namespaced": True,
        "kind": names.KIND,
        "verbs": ["delete", "get"],
    },
]

_GROUP_VERSION = {"groupVersion": names.API_VERSION, "version": names.VERSION}
_GROUP = {"name": names.GROUP, "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}

DOCUMENTS: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": corev1.RESOURCES},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]},
    f"/apis/{names.GROUP}": {"kind": "APIGroup", "apiVersion": "v1", **_GROUP},
    names.ROOT: {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": names.API_VERSION,
        "resources": RESOURCES,
    },
}
"""Legacy discovery, by path."""

HEALTH = ("/healthz", "/livez", "/readyz")


def aggregated(group: str, version: str, resources: list[Object], form: str) -> Object:
    """Return an APIGroupDiscoveryList of one group; form is v2 or v2beta1, which differ in name only."""
    found = [_aggregated(resource, group, version) for resource in resources if "/" not in resource["name"]]
    for resource in found:
        resource["subresources"] = [
            {
                "subresource": sub["name"].partition("/")[2],
                "responseKind": resource["responseKind"],
                "verbs": sub["verbs"],
            }
            for sub in resources
            if sub["name"].startswith(resource["resource"] + "/")
        ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{APIDISCOVERY}/{form}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [{"version": version, "resources": found, "freshness": "Current"}],
            }
        ],
    }


@dataclass(frozen=True)
class Document:
    """An answer that never changes."""

    path: str
    form: str
    """v2 or v2beta1, for callers whose Accept header asks for this form of aggregated discovery; else ""."""
    content_type: str
    body: bytes

    @property
    def etag(self) -> str:
        """The header's value."""
        return f'"{hashlib.sha256(self.body).hexdigest()}"'


def documents(*, joined: bool) -> list[Document]:
    """Return everything that discovery says; a shim that is joined to a cluster leaves core v1 to it."""
    served = {path: document for path, document in DOCUMENTS.items() if not (joined and _is_core(path))}
    legacy = [Document(path, "", JSON, json.dumps(document).encode()) for path, document in served.items()]
    return legacy + [
        Document(path, form, _media_type(form), json.dumps(aggregated(*_AGGREGATED[path], form)).encode())
        for path in _AGGREGATED
        for form in OFFERED.values()
        if path in served
    ]


def blueprint(*, joined: bool = False) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("discovery", __name__)
    found: dict[str, dict[str, Document]] = {}
    for document in documents(joined=joined):
        found.setdefault(document.path, {})[document.form] = document
    for path, forms in found.items():
        routes.add_url_rule(path, path.replace(".", "_"), lambda forms=forms: _negotiated(forms))
    for path in HEALTH:
        routes.add_url_rule(path, path, lambda: Response("ok", mimetype="text/plain"))
    routes.add_url_rule("/version", "version", lambda: jsonify(_version()))
    return routes


_AGGREGATED = {
    "/api": ("", "v1", corev1.RESOURCES),
    "/apis": (names.GROUP, names.VERSION, RESOURCES),
}


def _is_core(path: str) -> bool:
    return path.split("/")[1] == "api"


def _negotiated(forms: dict[str, Document]) -> Response:
    offered = {key: form for key, form in OFFERED.items() if form in forms}
    return cacheable(forms[accept.form(request, APIDISCOVERY, offered)])


def _media_type(form: str) -> str:
    return f"{JSON};g={APIDISCOVERY};v={form};as=APIGroupDiscoveryList"


def cacheable(document: Document) -> Response:
    """Return a document with its ETag, or 304 for a caller who has it."""
    response = Response(document.body, content_type=document.content_type)
    response.headers["ETag"] = document.etag
    response.headers["Vary"] = "Accept"
    response.make_conditional(request)
    return response


def _aggregated(resource: Object, group: str, version: str) -> Object:
    found: dict[str, Any] = {
        "resource": resource["name"],
        "responseKind": {"group": group, "version": version, "kind": resource["kind"]},
        "scope": "Namespaced" if resource["namespaced"] else "Cluster",
        "singularResource": resource["singularName"],
        "verbs": resource["verbs"],
    }
    return found | {key: resource[key] for key in ("shortNames", "categories") if key in resource}


def _version() -> Object:
    major, minor = KUBERNETES.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{KUBERNETES}.0+coredump-shim-{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": "linux/amd64",
    }
