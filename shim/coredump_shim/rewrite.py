"""One kind in two versions: what kube-apiserver says of the version it stores, said of ours, and back.

Not here: fetching either (upstream). The versions differ in name alone. Managed fields stay as they are: they
say in which version a field was written, and that is the stored one.
"""

from __future__ import annotations

import json
from typing import Any

from coredump_shim import names
from coredump_shim.endpoint import Object
from coredump_shim.payload import replaced
from coredump_shim.status import ApiError, shown

STORED = f"{names.GROUP}/{names.STORED}"


def to_caller(thing: Object) -> Object:
    """Return an object, a list, a Table or what else an answer may be, as the caller asked for it."""
    found = thing | {"apiVersion": names.API_VERSION} if thing.get("apiVersion") == STORED else dict(thing)
    if isinstance(items := thing.get("items"), list):
        found["items"] = [to_caller(item) for item in items]
    if isinstance(rows := thing.get("rows"), list):
        found["rows"] = [row_to_caller(row) for row in rows]
    return found


def row_to_caller(row: Object) -> Object:
    """Return a row of a Table, which may hold its object."""
    return row | {"object": to_caller(row["object"])} if isinstance(row.get("object"), dict) else row


def event_to_caller(line: bytes) -> bytes:
    """Return one line of a watch. Raises ValueError if it is none."""
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ValueError("it is no watch event")  # noqa: TRY004 - of the text
    return encoded(event | {"object": to_caller(event["object"])}) + b"\n"


def to_server(body: Object) -> Object:
    """Return an object, or a part of one, as it is stored. Raises ApiError 400 for another version."""
    sent = body.get("apiVersion")
    if not sent:
        return body
    if sent != names.API_VERSION:
        raise ApiError(
            400,
            f"the API version in the data ({shown(str(sent))}) does not match the expected API version "
            f"({names.API_VERSION})",
        )
    return replaced(body, "apiVersion", STORED)


def operations_to_server(operations: list[Any]) -> list[Any]:
    """Return a JSON patch (RFC 6902) for the stored object."""
    return [_operation(each) if isinstance(each, dict) else each for each in operations]


def _operation(operation: Object) -> Object:
    value = operation.get("value")
    if operation.get("path") == "/apiVersion" and value == names.API_VERSION:
        return replaced(operation, "value", STORED)
    if operation.get("path") == "" and isinstance(value, dict):
        return replaced(operation, "value", to_server(value))
    return operation


def encoded(thing: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(thing, separators=(",", ":")).encode()
