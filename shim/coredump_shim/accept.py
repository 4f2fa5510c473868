"""In which form an answer is wanted: the Accept header as Kubernetes' clients write it.

Not here: what the forms look like (table, discovery, openapi).
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request

from coredump_shim.status import ApiError

META = "meta.k8s.io"

_JSON = {"application/json", "application/*", "*/*", "text/plain"}


def clauses(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the media types in the order given, which is what Kubernetes goes by, with their parameters."""
    for clause in header.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield media_type.lower(), {key.strip(): value.strip() for key, _, value in pairs}


def form(request: Request, group: str, offered: dict[tuple[str, str], str]) -> str:
    """Return which of the offered forms is wanted first; "" for the plain object.

    `offered` maps `as` and `v`, the parameters that ask for a form of this group, to its name.
    Raises ApiError 406 if nothing that is JSON is wanted.
    """
    header = request.headers.get("Accept") or "*/*"
    for media_type, parameters in clauses(header):
        if media_type not in _JSON:
            continue
        if "as" not in parameters:
            return ""
        wanted = (parameters["as"], parameters.get("v", ""))
        if parameters.get("g") == group and wanted in offered:
            return offered[wanted]
    raise ApiError(406, "only JSON is served: the Accept header must list application/json")
