"""The API described in OpenAPI: version 3 for today's kubectl, version 2 for older ones and for explain.

Not here: the schema itself (schema), and version 2 in protobuf (gnostic).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from coredump_guard import __version__
from coredump_shim import accept, forwarding, gnostic, names, payload, schema
from coredump_shim.discovery import Document, cacheable
from coredump_shim.endpoint import Object

MODEL = ".".join([*reversed(names.GROUP.split(".")), names.VERSION, names.KIND])
"""Name of the schema, by the custom of Kubernetes: the group's domain reversed."""

_KIND = {"group": names.GROUP, "version": names.VERSION, "kind": names.KIND}
_GVK = "x-kubernetes-group-version-kind"
_INFO = {"title": "coredump-shim", "version": __version__}
_PLURAL = f"{names.ROOT}/namespaces/{{namespace}}/{names.RESOURCE}"

_PROTOBUF = "application/com.github.proto-openapi.spec.v2"
"""What kubectl before 1.27 asks for, with @v1.0+protobuf added; in an answer its parser refuses the @."""


def version_3(*, joined: bool = False) -> Object:
    """Return the document of our group and version."""
    reference = {"$ref": f"#/components/schemas/{MODEL}"}

    def sends(types: Sequence[str]) -> Object:
        return {"requestBody": {"content": {each: {"schema": reference} for each in types}}} if types else {}

    answer = {"content": {payload.JSON: {"schema": reference}}}
    form = _Form(answer, {"in": "query", "schema": {"type": "string"}}, sends)
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": _paths(form, _JOINED if joined else _STAND_ALONE),
        "components": {"schemas": {MODEL: schema.ENDPOINT | {_GVK: [_KIND]}}},
    }


def version_2(*, joined: bool = False) -> Object:
    """Return the whole API's document."""
    reference = {"$ref": f"#/definitions/{MODEL}"}
    form = _Form(
        {"schema": reference},
        {"in": "query", "type": "string"},
        lambda types: {"consumes": list(types)} if types else {},
    )
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": _paths(form, _JOINED if joined else _STAND_ALONE),
        "definitions": {MODEL: schema.ENDPOINT | {_GVK: [_KIND]}},
    }


@dataclass(frozen=True)
class _Form:
    """How a version of OpenAPI says `an endpoint is the answer`, `text in the query` and `these are sent`."""

    answer: Object
    query: Object
    sends: Callable[[Sequence[str]], Object]


@dataclass(frozen=True)
class _Served:
    """What is understood of a request: query parameters, and media types of its body."""

    get: Sequence[str]
    list: Sequence[str]
    write: Sequence[str]
    delete: Sequence[str]
    wholes: Sequence[str]
    patches: Sequence[str]


_WATCH = {"timeoutSeconds", "watch"}
_STAND_ALONE = _Served(
    get=(),
    list=("labelSelector", "fieldSelector", "limit", "continue", "watch"),
    write=("dryRun", "fieldValidation"),
    delete=("dryRun",),
    wholes=(payload.JSON,),
    patches=(payload.MERGE_PATCH,),
)
_JOINED = _Served(
    get=sorted(forwarding.GET),
    list=sorted(forwarding.LIST | _WATCH),
    write=sorted(forwarding.WRITE),
    delete=sorted(forwarding.DELETE),
    wholes=(payload.JSON, payload.YAML),
    patches=payload.PATCHES,
)


def _paths(form: _Form, served: _Served) -> Object:
    def operation(action: str, queries: Sequence[str], types: Sequence[str] = ()) -> Object:
        return {
            "x-kubernetes-action": action,
            _GVK: _KIND,
            "parameters": [form.query | {"name": name} for name in queries],
            "responses": {"200": {"description": "OK"} | form.answer},
        } | form.sends(types)

    selected = [name for name in served.list if name.endswith("Selector")]
    return {
        _PLURAL: {
            "get": operation("list", served.list),
            "post": operation("post", served.write, served.wholes),
            "delete": operation("deletecollection", [*selected, *served.delete]),
        },
        f"{_PLURAL}/{{name}}": {
            "get": operation("get", served.get),
            "put": operation("put", served.write, served.wholes),
            "patch": operation("patch", served.write, served.patches),
            "delete": operation("delete", served.delete),
        },
    }


def documents(*, joined: bool) -> list[Document]:
    """Return the documents in JSON: the index, ours in version 3, everything in version 2."""
    path = f"/openapi/v3{names.ROOT}"
    third = _document(path, version_3(joined=joined))
    link = f"{path}?hash={hashlib.sha256(third.body).hexdigest()[:32].upper()}"
    index = _document("/openapi/v3", {"paths": {names.ROOT[1:]: {"serverRelativeURL": link}}})
    return [index, third, _document("/openapi/v2", version_2(joined=joined))]


def blueprint(*, joined: bool = False) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("openapi", __name__)
    index, third, text = documents(joined=joined)
    swagger = version_2(joined=joined)
    binary = Document("/openapi/v2", "", f"{_PROTOBUF}.v1.0+protobuf", gnostic.encode(swagger))

    def second() -> Response:
        wanted = next((kind for kind, _ in accept.clauses(request.headers.get("Accept", ""))), "")
        return cacheable(binary if wanted.startswith(_PROTOBUF) else text)

    routes.add_url_rule(index.path, "index", lambda: cacheable(index))
    routes.add_url_rule(third.path, "version_3", lambda: cacheable(third))
    routes.add_url_rule(text.path, "version_2", second)
    return routes


def _document(path: str, content: Object) -> Document:
    return Document(path, "", payload.JSON, json.dumps(content).encode())
