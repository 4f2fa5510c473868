"""What a caller sends to be passed on: the body by its media type, in the version that kube-apiserver stores.

Not here: reading JSON and YAML (payload).
"""

from __future__ import annotations

from typing import Any

from flask import Request

from coredump_shim import payload, rewrite
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, bad_request

_WHOLE = (payload.JSON, payload.YAML)
_PROTOBUF = "application/vnd.kubernetes.protobuf"


def whole(request: Request) -> Object:
    """Return an object. Raises ApiError 400, 413 or 415."""
    if _media_type(request) not in _WHOLE:
        raise _unsupported(_WHOLE)
    return _object(payload.from_yaml(request.get_data()))


def applied(request: Request) -> Object:
    """Return what is to be applied. Raises ApiError 400 or 413."""
    return _object(payload.from_yaml(request.get_data()))


def patch(request: Request) -> Any:
    """Return a patch that is not applied. Raises ApiError 400, or 415 for other types."""
    if request.mimetype == payload.MERGE_PATCH:
        return _object(payload.from_json(request.get_data()))
    if request.mimetype == payload.JSON_PATCH:
        operations = payload.from_json(request.get_data())
        if not isinstance(operations, list):
            raise bad_request("body", "must be a JSON array of operations")
        return rewrite.operations_to_server(operations)
    raise _unsupported(payload.PATCHES)


def delete_options(request: Request) -> tuple[Any, str] | None:
    """Return a DELETE's body and its type, None without one. Raises ApiError 400 or 415."""
    text = request.get_data()
    if not text:
        return None
    media_type = _media_type(request)
    if media_type == payload.JSON:
        return _object(payload.from_json(text)), payload.JSON
    if media_type not in (payload.YAML, _PROTOBUF):
        raise _unsupported((*_WHOLE, _PROTOBUF))
    return text, media_type


def _media_type(request: Request) -> str:
    """Return what the body is; who does not say sends JSON, as `kubectl create --raw` does."""
    return request.mimetype or payload.JSON


def _object(body: Any) -> Object:
    if not isinstance(body, dict):
        raise bad_request("body", "must be an object")
    return rewrite.to_server(body)


def _unsupported(types: tuple[str, ...]) -> ApiError:
    """415, in kube-apiserver's words."""
    known = ", ".join(types)
    return ApiError(
        415, f"the body of the request was in an unknown format - accepted media types include: {known}"
    )
