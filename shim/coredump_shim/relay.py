"""The verbs on endpoints in a cluster: each is kube-apiserver's own, on the version that it stores.

Not here: asking kube-apiserver (upstream), which pod a new endpoint stands for (defaulting), and whether the
caller may do what he asks for (authz): the shim's own credentials do it.
"""

from __future__ import annotations

from flask import Blueprint, Response, g, request

from coredump_guard import store
from coredump_shim import (
    attributes,
    defaulting,
    forwarding,
    names,
    paging,
    payload,
    poduids,
    rewrite,
    sent,
    watch,
)
from coredump_shim.authz import Authorizer
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.endpoint import Object
from coredump_shim.forwarding import Query
from coredump_shim.poduids import PodUids
from coredump_shim.reviews import Reviews
from coredump_shim.status import ApiError, no_endpoint, not_found
from coredump_shim.upstream import Upstream

EVERYWHERE = f"{names.ROOT}/{names.RESOURCE}"
_STORED_EVERYWHERE = f"/apis/{rewrite.STORED}/{names.RESOURCE}"


def blueprint(cluster: Cluster, uids: PodUids, max_watches: int) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("relay", __name__)
    verbs = _Verbs(cluster, uids, max_watches)
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
    def __init__(self, cluster: Cluster, uids: PodUids, max_watches: int) -> None:
        self._cluster = cluster
        self._uids = uids
        self._upstream = Upstream(cluster, max_watches)
        self._authorizer = Authorizer(Reviews(cluster))

    def list(self, namespace: str | None = None) -> Response:
        path = _STORED_EVERYWHERE if namespace is None else _path(namespace)
        if not attributes.is_watch(request.args.to_dict(flat=False)):
            return self._upstream.many("GET", path, _query(forwarding.LIST | {"timeoutSeconds"}))
        asked = paging.whole_number("timeoutSeconds", request.args.get("timeoutSeconds"))
        # Told by waitress where channel_request_lookahead lets it see the end of the connection.
        gone = request.environ.get("waitress.client_disconnected", bool)
        seconds = int(watch.seconds(asked or None))
        return self._upstream.watch(path, _query(forwarding.LIST), seconds, gone)

    def create(self, namespace: str) -> Response:
        path, body = _path(namespace), sent.whole(request)
        metadata = body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return self._made(
            "POST", path, (body, payload.JSON), namespace, name if isinstance(name, str) else ""
        )

    def delete_all(self, namespace: str) -> Response:
        query = _query(forwarding.LIST | forwarding.DELETE)
        return self._upstream.many("DELETE", _path(namespace), query, sent.delete_options(request))

    def get(self, namespace: str, name: str) -> Response:
        return self._upstream.one("GET", _path(namespace, name), _query(forwarding.GET))

    def update(self, namespace: str, name: str) -> Response:
        path, body = _path(namespace, name), sent.whole(request)
        current = self._current(path)
        if current is not None:
            body = defaulting.changed(body, current)
        return self._upstream.one("PUT", path, _query(forwarding.WRITE), (body, payload.JSON))

    def patch(self, namespace: str, name: str) -> Response:
        path = _path(namespace, name)
        if request.mimetype == payload.APPLY:
            return self._apply(path, namespace, name)
        return self._upstream.one(
            "PATCH", path, _query(forwarding.WRITE), (sent.patch(request), request.mimetype)
        )

    def _apply(self, path: str, namespace: str, name: str) -> Response:
        body = sent.applied(request)
        current = self._current(path)
        if current is None:
            # As kube-apiserver has it: who applies what is not there must be allowed to create it.
            collection = request.path.rpartition("/")[0]
            self._authorizer.check(g.caller, attributes.parse("POST", collection, {}))
            return self._made("PATCH", path, (body, payload.APPLY), namespace, name)
        body = defaulting.changed(body, current)
        # Should it be deleted in this moment, there is a conflict then, and no creation.
        body = defaulting.with_uid(body, current["metadata"]["uid"])
        return self._upstream.one("PATCH", path, _query(forwarding.WRITE), (body, payload.APPLY))

    def delete(self, namespace: str, name: str) -> Response:
        query = _query(forwarding.DELETE)
        return self._upstream.one("DELETE", _path(namespace, name), query, sent.delete_options(request))

    def _made(self, method: str, path: str, body: tuple[Object, str], namespace: str, name: str) -> Response:
        """Create an endpoint, unless kube-apiserver or, after it, we have something against it."""
        thing, media_type = body
        query = _query(forwarding.WRITE)
        try:
            completed = defaulting.created(thing, namespace, name, self._uids)
        except ApiError as error:
            if error.code == 422:
                body = defaulting.with_poduid(thing, "unknown"), media_type
                self._upstream.try_out(method, path, query, body)
            raise
        return self._upstream.one(method, path, query, (completed, media_type))

    def _current(self, path: str) -> Object | None:
        try:
            return self._cluster.get(path)
        except ApiError as error:
            if is_gone(error):
                return None
            raise


def _query(known: frozenset[str]) -> Query:
    return forwarding.query(request.args.items(multi=True), known)


def _path(namespace: str, name: str | None = None) -> str:
    """Return where kube-apiserver has it. Raises ApiError 404 for what can be no name."""
    if not store.is_namespace(namespace):
        raise not_found("no namespace can have this name")
    if name is None:
        return poduids.path(namespace)
    if not store.is_pod(name):
        raise no_endpoint(namespace, name)
    return poduids.path(namespace, name)
