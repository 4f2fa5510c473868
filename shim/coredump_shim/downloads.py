"""The `dump` subresource over HTTP: downloading an endpoint's dumps and purging them.

Not here: the archive (archive), what a query means (selection, parts), and which process serves it (serving).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.wsgi import wrap_file

from coredump_shim import audit, caller, cut, names, parts, removal, selection
from coredump_shim.archive import Plan, Planner
from coredump_shim.archivefile import ArchiveFile
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.deadline import Deadline
from coredump_shim.parts import Part, RangeError
from coredump_shim.selection import Selection
from coredump_shim.shares import Shares, share
from coredump_shim.status import ApiError, bad_request, not_found, shown, success, unavailable

log = logging.getLogger(__name__)

RULES = (f"{names.OBJECT}/dump", f"{names.OBJECT}/proxy/dump")
"""kube-apiserver cuts an answer of the first after 60 s; `proxy` is long-running and has no deadline."""

ARCHIVE_LENGTH = "Coredump-Archive-Length"
"""Header with the length of the whole archive, also in the answer to a part."""

_FORBIDDEN = {
    errno.EROFS: "this gateway has the store mounted read-only; one that is to purge needs it writable",
    errno.EACCES: "the shim's user may not write to the store; where dumps are to be purged it must",
}
_FORBIDDEN[errno.EPERM] = _FORBIDDEN[errno.EACCES]

DOWNLOADS = 128
"""At one time, of all users: HAProxy's bound as it comes."""

STEP = 64
"""Dumps handled under one deadline: many dumps may take long, but none may stand still."""

LISTED = 100
"""How many of the dumps that were deleted an answer lists."""


def blueprint(
    catalog: Catalog,
    poduid_of: Callable[[str, str], str],
    deadline: Deadline,
    *,
    bygones: Bygones | None = None,
) -> Blueprint:
    """Return the routes; poduid_of(namespace, name) gives an endpoint's pod or raises ApiError 404.

    Behind kube-apiserver, which bygones ask, whoever is likely to be cut is warned.
    """
    routes = Blueprint("downloads", __name__)
    shares = Shares(share(DOWNLOADS), "downloads") if bygones else None

    def get(namespace: str, name: str) -> Response:
        asked = selection.parse(request.args.items(multi=True))
        pod = _Pod(catalog, deadline, bygones, namespace, name, poduid_of(namespace, name))
        part = parts.queried(asked, pod.plan)
        if part is None:
            part = parts.ranged(asked, request.range, request.headers.get("If-Range"), pod.plan)
        response = _answer(part, namespace, name, shares)
        if bygones and request.url_rule is not None and request.url_rule.rule == RULES[0]:
            warning = cut.warning(part, request.path, request.args.items(multi=True))
            response.headers.extend([("Warning", warning)] if warning else [])
        return response

    def delete(namespace: str, name: str) -> Response:
        asked = selection.parse(request.args.items(multi=True))
        for parameter in ("offset", "length", "etag"):
            if getattr(asked, parameter) is not None:
                raise bad_request(parameter, "has no meaning where dumps are deleted")
        pod = _Pod(catalog, deadline, bygones, namespace, name, poduid_of(namespace, name))
        removed = pod.remove(asked, announced=bygones is not None)
        log.info("deleted %d dumps of %s for %s", len(removed), audit.of(namespace, name), caller.name())
        return jsonify(_deleted(name, removed))

    for rule in RULES:
        routes.add_url_rule(rule, view_func=get, methods=["GET"])
        routes.add_url_rule(rule, view_func=delete, methods=["DELETE"])
    routes.register_error_handler(RangeError, RangeError.response)
    return routes


@dataclass(frozen=True)
class _Pod:
    """An endpoint's dumps. Every method raises ApiError: 404 where none is asked for, 503 without a store."""

    catalog: Catalog
    deadline: Deadline
    bygones: Bygones | None
    namespace: str
    name: str
    uid: str

    def dumps(self, asked: Selection) -> Sequence[Dump]:
        uid = asked.poduid or self.uid
        dumps: Sequence[Dump] = self.deadline.call(self.catalog.dumps, self.namespace, uid)
        if uid != self.uid:
            # Other pods' dumps are given only under that pod's name: access was granted for the name.
            dumps = [dump for dump in dumps if dump.record.identity.pod == self.name]
        if self.bygones:
            dumps = self.bygones.without(self.namespace, dumps)
        if not dumps and uid != self.uid:
            raise not_found(f"poduid: no pod {shown(self.name)} of this UID has dumps", self.name)
        return asked.choose(dumps)

    def plan(self, asked: Selection) -> Plan:
        planner = Planner(self.catalog.root)
        for step in _steps(self.dumps(asked)):
            self.deadline.call(planner.add, step)
        plan = planner.plan()
        if not plan.places:
            raise not_found("there are no dumps of this pod any more", self.name)
        return plan

    def remove(self, asked: Selection, *, announced: bool) -> list[Dump]:
        """Remove dumps; announced: have the controller know, so that the endpoint's status does."""
        removed: list[Dump] = []
        try:
            for step in _steps(self.dumps(asked)):
                removed += self.deadline.call(_removed, self.catalog.root, step)
        finally:
            if removed and announced:
                self._announce(removed[-1])
        return removed

    def _announce(self, dump: Dump) -> None:
        try:
            self.deadline.call(removal.announce, self.catalog.root, dump)
        except ApiError as error:  # they are gone all the same; the controller's next pass finds that out
            log.warning("the controller is not told that %s is gone: %s", dump.id, error)


def _removed(root: str, dumps: list[Dump]) -> list[Dump]:
    """Remove dumps. Raises ApiError where nothing may be written."""
    try:
        return removal.remove(root, dumps)
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        said = f"no dumps can be deleted here: {_FORBIDDEN[error.errno]}"
        raise unavailable(said, retry_after=None) from None


def _steps(dumps: Sequence[Dump]) -> Iterator[list[Dump]]:
    rest = iter(dumps)
    while step := list(islice(rest, STEP)):
        yield step


def _answer(part: Part, namespace: str, name: str, shares: Shares | None) -> Response:
    length = part.stop - part.start
    if request.method == "HEAD":
        response = Response(status=part.code)
    else:
        who = caller.name()
        end = shares.take(who) if shares else None
        done = partial(_ended, audit.of(namespace, name), who, part, end)
        archive = ArchiveFile(part.plan, part.start, part.stop, done)
        # Through wsgi.file_wrapper the server sends the file by itself, and no thread waits for the reader.
        body = wrap_file(request.environ, archive)  # type: ignore[arg-type]
        response = Response(body, status=part.code, direct_passthrough=True)
    response.content_type = "application/gzip"  # never Content-Encoding: kubectl would silently unpack it
    response.content_length = length
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-coredump.tar.gz"'
    response.headers["ETag"] = f'"{part.plan.etag}"'
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "no-store"
    response.headers[ARCHIVE_LENGTH] = str(part.plan.length)
    if part.code == 206:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{part.plan.length}"
    return response


def _ended(endpoint: str, who: str, part: Part, end: Callable[[], None] | None, sent: int) -> None:
    """Make room for another download of his, and log this one."""
    if end is not None:
        end()
    length = part.stop - part.start
    result = "complete" if sent == length else "aborted"
    log.info(
        "download of %s (%d dumps) for %s: %d of %d bytes from %d on, %s",
        *(endpoint, len(part.plan.places), who, sent, length, part.start, result),
    )


def _deleted(name: str, removed: Sequence[Dump]) -> dict[str, Any]:
    listed = [{"reason": "Deleted", "message": f"{dump.container}/{dump.id}"} for dump in removed[:LISTED]]
    details = {"group": names.GROUP, "kind": names.RESOURCE, "name": name, "causes": listed}
    return success(details, f"{len(removed)} dump{'' if len(removed) == 1 else 's'} deleted")
