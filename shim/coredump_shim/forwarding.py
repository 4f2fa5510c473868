"""What of a request goes on to kube-apiserver, and what of its answer comes back, beside the body.

Not here: the body (payload, rewrite), and sending it (relay).
"""

from __future__ import annotations

from collections.abc import Iterable

import urllib3

from coredump_shim import accept
from coredump_shim.status import ApiError

Query = list[tuple[str, str]]

GET = frozenset({"resourceVersion", "includeObject"})
LIST = GET | {
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersionMatch",
    "sendInitialEvents",
}
WRITE = frozenset({"dryRun", "fieldManager", "fieldValidation", "force", "includeObject"})
DELETE = frozenset({"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy", "includeObject"})
"""The query parameters of each kind of request (apimachinery, meta/v1/types.go); others are left out, as
kube-apiserver does. `watch` and `timeoutSeconds` are decided here, and `pretty` would only be undone."""

_JSON = {"application/json", "application/*", "*/*"}
_FORMS = ("as", "g", "v", "stream")
"""Parameters of a media type that ask for a form of the answer."""

LONGEST_AGENT = 200


def query(given: Iterable[tuple[str, str]], known: frozenset[str]) -> Query:
    """Return the parameters that go on, in the order given."""
    return [(name, value) for name, value in given if name in known]


def accepted(header: str) -> str:
    """Return the JSON among what a caller accepts. Raises ApiError 406 if there is none."""
    clauses = [
        ";".join(["application/json", *(f"{key}={parameters[key]}" for key in _FORMS if key in parameters)])
        for media_type, parameters in accept.clauses(header or "*/*")
        if media_type in _JSON
    ]
    if not clauses:
        raise ApiError(406, "only JSON is served: the Accept header must list application/json")
    return ", ".join(clauses)


def agent(header: str) -> str:
    """Return the client's name, as kube-apiserver calls whoever says no fieldManager."""
    return header[:LONGEST_AGENT] or "unknown"


def headers_back(answer: urllib3.BaseHTTPResponse) -> list[tuple[str, str]]:
    """Return the headers of kube-apiserver's answer that are the caller's too."""
    return [(name, value) for name in ("Warning", "Retry-After") for value in answer.headers.getlist(name)]
