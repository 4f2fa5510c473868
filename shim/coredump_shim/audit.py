"""The log's lines about dumps: who got, deleted or was refused what.

Not here: the log itself, and other requests (app).
"""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from coredump_shim import caller, front

log = logging.getLogger(__name__)

LONGEST = 1000
"""Characters of a request that are repeated."""


def register(app: Flask) -> None:
    """Log each request for a dump that is refused, and why."""
    app.after_request(_refused)


def of(namespace: str, name: str) -> str:
    """Return of what dumps are asked for at present: the endpoint, and what chooses among its dumps."""
    query = request.query_string.decode("latin-1")
    return f"{namespace}/{name}" + (f" {'?' + query[:LONGEST]!r}" if query else "")


def _refused(response: Response) -> Response:
    if response.status_code >= 400 and front.is_dump(request.path):
        path = request.full_path.rstrip("?")
        said = response.get_json(silent=True) or {}
        log.info(
            "refused %s %r for %s: %d %r",
            *(request.method, path[:LONGEST], caller.name(), response.status_code, said.get("message", "")),
        )
    return response
