"""Lists in pages: `limit` and `continue`, and the numbers of a query.

Not here: which objects are listed (filters).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from coredump_shim.endpoint import Object
from coredump_shim.history import History
from coredump_shim.status import bad_request, shown


def page(
    objects: Sequence[Object], version: int, limit: str | None, token: str | None, history: History
) -> tuple[list[Object], Object]:
    """Return a page of the objects, sorted by namespace and name, and its list's metadata.

    Every page bears the first one's version, so that a watch from there misses nothing.
    Raises ApiError 400, and 410 for a token too old for that.
    """
    if token:
        version, after = _parse_token(token)
        history.check(version)
        objects = [thing for thing in objects if _key(thing) > after]
    size = whole_number("limit", limit) or len(objects)
    metadata: Object = {"resourceVersion": str(version)}
    if len(objects) > size:
        metadata["continue"] = _token(version, objects[size - 1])
        metadata["remainingItemCount"] = len(objects) - size
    return list(objects[:size]), metadata


def whole_number(parameter: str, text: str | None) -> int | None:
    """Return a query's number, None for none. Raises ApiError 400 naming the parameter."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise bad_request(parameter, f"{shown(text)} is not a whole number")
    return int(text)


def _key(thing: Object) -> list[str]:
    return [thing["metadata"]["namespace"], thing["metadata"]["name"]]


def _token(version: int, last: Object) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *_key(last)]).encode()).decode()


def _parse_token(token: str) -> tuple[int, list[str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, RecursionError):
        raise _bad_token() from None
    if type(version) is not int or not isinstance(namespace, str) or not isinstance(name, str):
        raise _bad_token()
    return version, [namespace, name]


def _bad_token() -> Exception:
    return bad_request("continue", "is not a token that a list gave")
