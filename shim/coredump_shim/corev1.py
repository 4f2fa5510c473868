"""As much of the core API, v1, as kubectl asks for on its way: namespaces, and no events.

Not here: anything of ours. Only the stand-alone shim has this; in a cluster, the cluster has it.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from coredump_shim.endpoint import Object
from coredump_shim.endpoints import Endpoints
from coredump_shim.status import ApiError, shown

RESOURCES = [
    {
        "name": "namespaces",
        "singularName": "namespace",
        "namespaced": False,
        "kind": "Namespace",
        "verbs": ["get", "list"],
        "shortNames": ["ns"],
    },
    {
        "name": "events",
        "singularName": "event",
        "namespaced": True,
        "kind": "Event",
        "verbs": ["list"],
        "shortNames": ["ev"],
    },
]


def blueprint(endpoints: Endpoints) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("corev1", __name__, url_prefix="/api/v1")

    @routes.get("/namespaces")
    def list_namespaces() -> Response:
        return jsonify(_list("NamespaceList", [_namespace(name) for name in endpoints.namespaces()]))

    @routes.get("/namespaces/<name>")
    def get_namespace(name: str) -> Response:
        if name not in endpoints.namespaces():
            details = {"name": name[:253], "kind": "namespaces"}
            raise ApiError(404, f"namespaces {shown(name)} not found", details=details)
        return jsonify({"kind": "Namespace", "apiVersion": "v1", **_namespace(name)})

    @routes.get("/events")
    @routes.get("/namespaces/<_namespace_name>/events", endpoint="list_namespace_events")
    def list_events(_namespace_name: str = "") -> Response:
        return jsonify(_list("EventList", []))

    return routes


def _list(kind: str, items: list[Object]) -> Object:
    return {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}


def _namespace(name: str) -> Object:
    return {"metadata": {"name": name}, "spec": {}, "status": {"phase": "Active"}}
