"""The API described in OpenAPI: version 3 for today's kubectl, version 2 for older ones and for explain.

Not here: the schema itself (schema), and version 2 in protobuf (gnostic).
"""

from __future__ import annotations

import hashlib
import json

from flask import Blueprint, Response, request

from coredump_guard import __version__
from coredump_shim import accept, bodies, gnostic, names, schema
from coredump_shim.discovery import cacheable
from coredump_shim.endpoint import Object

MODEL = ".".join([*reversed(names.GROUP.split(".")), names.VERSION, names.KIND])
"""Name of the schema, by the custom of Kubernetes: the group's domain reversed."""

_KIND = {"group": names.GROUP, "version": names.VERSION, "kind": names.KIND}
_GVK = "x-kubernetes-group-version-kind"
_INFO = {"title": "coredump-shim", "version": __version__}
_PLURAL = f"{names.ROOT}/namespaces/{{namespace}}/{names.RESOURCE}"

_PROTOBUF = "application/com.github.proto-openapi.spec.v2"
"""What kubectl before 1.27 asks for, with @v1.0+protobuf added; in an answer its parser refuses the @."""


def version_3() -> Object:
    """Return the document of our group and version."""
    reference = {"$ref": f"#/components/schemas/{MODEL}"}
    query = {"in": "query", "schema": {"type": "string"}}
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": _paths({"content": {bodies.JSON: {"schema": reference}}}, query),
        "components": {"schemas": {MODEL: schema.ENDPOINT | {_GVK: [_KIND]}}},
    }


def version_2() -> Object:
    """Return the whole API's document."""
    reference = {"$ref": f"#/definitions/{MODEL}"}
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": _paths({"schema": reference}, {"in": "query", "type": "string"}),
        "definitions": {MODEL: schema.ENDPOINT | {_GVK: [_KIND]}},
    }


def _paths(answer: Object, query: Object) -> Object:
    """Return the operations; answer and query are how a version says `an endpoint`, `text in the query`."""

    def operation(action: str, *queries: str) -> Object:
        return {
            "x-kubernetes-action": action,
            _GVK: _KIND,
            "parameters": [query | {"name": name} for name in queries],
            "responses": {"200": {"description": "OK"} | answer},
        }

    changes = ("dryRun", "fieldValidation")
    return {
        _PLURAL: {
            "get": operation("list", "labelSelector", "fieldSelector", "limit", "continue", "watch"),
            "post": operation("post", *changes),
            "delete": operation("deletecollection", "labelSelector", "fieldSelector", "dryRun"),
        },
        f"{_PLURAL}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", *changes),
            "patch": operation("patch", *changes),
            "delete": operation("delete", "dryRun"),
        },
    }


def blueprint() -> Blueprint:
    """Return the routes."""
    routes = Blueprint("openapi", __name__)
    document = json.dumps(version_3()).encode()
    path = f"/openapi/v3{names.ROOT}"
    link = f"{path}?hash={hashlib.sha256(document).hexdigest()[:32].upper()}"
    index = json.dumps({"paths": {names.ROOT[1:]: {"serverRelativeURL": link}}}).encode()
    swagger = version_2()
    forms = {False: json.dumps(swagger).encode(), True: gnostic.encode(swagger)}

    def second() -> Response:
        wanted = next((kind for kind, _ in accept.clauses(request.headers.get("Accept", ""))), "")
        binary = wanted.startswith(_PROTOBUF)
        return cacheable(forms[binary], f"{_PROTOBUF}.v1.0+protobuf" if binary else bodies.JSON)

    routes.add_url_rule("/openapi/v3", "index", lambda: cacheable(index, bodies.JSON))
    routes.add_url_rule(path, "version_3", lambda: cacheable(document, bodies.JSON))
    routes.add_url_rule("/openapi/v2", "version_2", second)
    return routes
