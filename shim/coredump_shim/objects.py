"""The verbs on CoredumpEndpoints: create, get, list, watch, update, patch, delete.

Not here: what the verbs do (endpoints, watch), what bodies mean (bodies), how answers look (table).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from coredump_shim import accept, bodies, filters, mergepatch, names, paging, table, watch
from coredump_shim.change import Wanted
from coredump_shim.endpoint import Object
from coredump_shim.endpoints import Endpoints
from coredump_shim.status import ApiError, bad_request, success

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
EVERYWHERE = f"{names.ROOT}/{names.RESOURCE}"


def blueprint(endpoints: Endpoints, watches: watch.Watches) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("objects", __name__)
    verbs = _Verbs(endpoints, watches)
    routes.get(EVERYWHERE, endpoint="list_all")(verbs.list)
    routes.get(names.NAMESPACED)(verbs.list)
    routes.post(names.NAMESPACED)(verbs.create)
    routes.delete(names.NAMESPACED)(verbs.delete_all)
    routes.get(names.OBJECT)(verbs.get)
    routes.put(names.OBJECT)(verbs.update)
    routes.patch(names.OBJECT)(verbs.patch)
    routes.delete(names.OBJECT)(verbs.delete)
    return routes


class _Verbs:
    def __init__(self, endpoints: Endpoints, watches: watch.Watches) -> None:
        self._endpoints = endpoints
        self._watches = watches

    def list(self, namespace: str | None = None) -> Response:
        wanted = filters.both(request.args.get("labelSelector"), request.args.get("fieldSelector"))
        if request.args.get("watch") in ("1", "true"):
            return self._watch(namespace, wanted)
        form = _form()
        version, objects = self._endpoints.current(namespace)
        page, metadata = paging.page(
            [thing for thing in objects if wanted(thing)],
            version,
            request.args.get("limit"),
            request.args.get("continue"),
            self._endpoints.history,
        )
        return jsonify(table.many(page, metadata, form, request.args.get("includeObject", "")))

    def _watch(self, namespace: str | None, wanted: filters.Filter) -> Response:
        form, include = _form(), request.args.get("includeObject", "")
        initial = request.args.get("sendInitialEvents") == "true"
        if initial and request.args.get("resourceVersionMatch") != "NotOlderThan":
            # As kube-apiserver's validation of ListOptions has it.
            raise ApiError(422, "resourceVersionMatch: must be NotOlderThan where sendInitialEvents is true")
        version = paging.whole_number("resourceVersion", request.args.get("resourceVersion"))
        bookmarks = request.args.get("allowWatchBookmarks") in ("1", "true")
        terms = watch.Terms(
            namespace,
            wanted,
            lambda thing: table.one(thing, form, include),
            version=None if initial or not version else version,
            bookmarks=bookmarks,
            initial_end=initial and bookmarks,
            seconds=watch.seconds(paging.whole_number("timeoutSeconds", request.args.get("timeoutSeconds"))),
        )
        # Told by waitress where channel_request_lookahead lets it see the end of the connection.
        return self._watches.response(terms, request.environ.get("waitress.client_disconnected", bool))

    def create(self, namespace: str) -> Response:
        body = bodies.read(request)
        warnings = _checked_fields(body)
        wanted = bodies.wanted(body, namespace)
        made = self._endpoints.create(namespace, wanted, dry_run=bodies.is_dry_run(request))
        response = _object(made, warnings)
        response.status_code = 201
        return response

    def get(self, namespace: str, name: str) -> Response:
        form = _form()
        found = self._endpoints.get(namespace, name)
        return jsonify(table.one(found, form, request.args.get("includeObject", "")))

    def update(self, namespace: str, name: str) -> Response:
        body = bodies.read(request)
        wanted = bodies.wanted(body, namespace, name)
        warnings = _checked_fields(body)
        dry_run = bodies.is_dry_run(request)
        return _object(self._endpoints.replace(namespace, name, lambda _: wanted, dry_run=dry_run), warnings)

    def patch(self, namespace: str, name: str) -> Response:
        patch = bodies.read(request, mergepatch.MEDIA_TYPE)
        warnings = _checked_fields(patch)

        def merged(current: Object) -> Wanted:
            return bodies.wanted(mergepatch.apply(current, patch), namespace, name)

        dry_run = bodies.is_dry_run(request)
        return _object(self._endpoints.replace(namespace, name, merged, dry_run=dry_run), warnings)

    def delete(self, namespace: str, name: str) -> Response:
        options = bodies.delete_options(request)
        gone = self._endpoints.delete(
            namespace, name, options.check, dry_run=options.dry_run or bodies.is_dry_run(request)
        )
        details = {"name": name, "group": names.GROUP, "kind": names.RESOURCE, "uid": gone["metadata"]["uid"]}
        return jsonify(success(details))

    def delete_all(self, namespace: str) -> Response:
        wanted = filters.both(request.args.get("labelSelector"), request.args.get("fieldSelector"))
        options = bodies.delete_options(request)
        dry_run = options.dry_run or bodies.is_dry_run(request)
        _, objects = self._endpoints.current(namespace)
        for thing in filter(wanted, objects):
            self._endpoints.delete(namespace, thing["metadata"]["name"], options.check, dry_run=dry_run)
        return jsonify(success({"group": names.GROUP, "kind": names.RESOURCE}))


def _form() -> str:
    return accept.form(request, accept.META, table.OFFERED)


def _object(thing: Object, warnings: list[str]) -> Response:
    response = jsonify(table.one(thing, _form(), request.args.get("includeObject", "")))
    for warning in warnings:
        response.headers.add("Warning", f'299 - "unknown field {_quoted(warning)}"')
    return response


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _checked_fields(body: dict[str, Any]) -> list[str]:
    """Return what to warn of, as `fieldValidation` says. Raises ApiError 400 where it says Strict."""
    mode = request.args.get("fieldValidation") or "Warn"
    if mode not in ("Strict", "Warn", "Ignore"):
        raise bad_request("fieldValidation", "must be Strict, Warn or Ignore")
    unknown = [] if mode == "Ignore" else bodies.unknown_fields(body)
    if unknown and mode == "Strict":
        raise bad_request(
            "body", "strict decoding error: " + ", ".join(f"unknown field {f}" for f in unknown)
        )
    return unknown
