"""Outcomes as Kubernetes words them: the `Status` body, its reasons, and the exception that becomes one.

Not here: when something is an error; that is said where it happens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from coredump_shim import names

log = logging.getLogger(__name__)

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    416: "RangeNotSatisfiable",
    422: "Invalid",
    429: "TooManyRequests",
    431: "BadRequest",
    500: "InternalError",
    501: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""Reasons by code. All but 412's and 416's are metav1.StatusReason's (apimachinery, meta/v1/types.go)."""

LONGEST_ECHO = 100
"""Characters of a caller's own text that are repeated in a message."""


class ApiError(Exception):
    """A request that fails: HTTP code, reason, a sentence for a person, and causes for a machine."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        causes: Sequence[dict[str, str]] = (),
        retry_after: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = REASONS.get(code, "Unknown") if reason is None else reason
        self.details = dict(details or {})
        self.retry_after = retry_after
        """Seconds after which to try again; without it, kubectl does not."""
        self.metadata = dict(metadata or {})
        """A list's (ListMeta): with 410, the token by which it goes on though it is another by then."""
        if causes:
            self.details["causes"] = list(causes)
        if retry_after is not None:
            self.details["retryAfterSeconds"] = retry_after

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        return body | ({"details": self.details} if self.details else {})

    def response(self) -> Response:
        """Return the HTTP response."""
        response = jsonify(self.status())
        response.status_code = self.code
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response

    def plain(self) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return the same as HTTP's status, headers and body, where there is no Flask."""
        body = json.dumps(self.status()).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        return f"{self.code} {HTTPStatus(self.code).phrase}", headers, body


def shown(text: str) -> str:
    """Return a caller's text as a message may repeat it: quoted, escaped, not too long."""
    return json.dumps(text if len(text) <= LONGEST_ECHO else text[:LONGEST_ECHO] + "...")


def _about(name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"group": names.GROUP, "kind": names.RESOURCE}
    return details | ({"name": name[: LONGEST_ECHO * 3]} if name else {})


def _cause(field: str, sentence: str, reason: str = "FieldValueInvalid") -> dict[str, str]:
    return {"reason": reason, "message": sentence, "field": field}


def bad_request(parameter: str, sentence: str) -> ApiError:
    """400: a query parameter or the body cannot be understood; the sentence says what it should be."""
    return ApiError(400, f"{parameter}: {sentence}", causes=[_cause(parameter, sentence)])


def not_found(sentence: str, name: str = "") -> ApiError:
    """404: what is asked for is not there; `name` is the endpoint's."""
    return ApiError(404, sentence, details=_about(name))


def no_endpoint(namespace: str, name: str) -> ApiError:
    """404: neither a stored dump nor a created endpoint has this name."""
    return not_found(f"{names.RESOURCE} {shown(name)} not found in namespace {shown(namespace)}", name)


def conflict(sentence: str, name: str = "") -> ApiError:
    """409: the object is no longer what the caller thinks; read it again and repeat."""
    return ApiError(409, sentence, details=_about(name))


def already_exists(name: str) -> ApiError:
    """409: an object with this name is there."""
    message = f"{names.RESOURCE}.{names.GROUP} {shown(name)} already exists"
    return ApiError(409, message, reason="AlreadyExists", details=_about(name))


def gone(sentence: str) -> ApiError:
    """410: this resourceVersion or continue token is too old; list again."""
    return ApiError(410, sentence)


def invalid(name: str, field: str, sentence: str) -> ApiError:
    """422: a field of the object, named by its path as in `spec.poduid`, has a value that cannot be."""
    message = f"{names.KIND}.{names.GROUP} {shown(name)} is invalid: {field}: {sentence}"
    details = {"group": names.GROUP, "kind": names.KIND, "name": name[: LONGEST_ECHO * 3]}
    return ApiError(422, message, details=details, causes=[_cause(field, sentence)])


def too_many(sentence: str, retry_after: int = 1) -> ApiError:
    """429: a bound is reached; retry_after in seconds."""
    return ApiError(429, sentence, retry_after=retry_after)


def unavailable(sentence: str, retry_after: int | None = 5) -> ApiError:
    """503: something that the shim needs, such as the store, does not answer; retry_after in seconds.

    None where somebody has to mend it: kubectl would try again ten times without a word.
    """
    return ApiError(503, sentence, retry_after=retry_after)


def success(details: dict[str, Any], message: str = "") -> dict[str, Any]:
    """Return the Status object of what was done as asked; details say to what."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return body | ({"message": message} if message else {}) | {"details": details}


def register(app: Flask) -> None:
    """Make every error of the app, also Flask's and those nobody foresaw, a Status."""
    app.register_error_handler(ApiError, ApiError.response)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_bug)


def _from_http(error: HTTPException) -> Response:
    code = error.code or 500
    response = ApiError(code, _SENTENCES.get(code, error.name)).response()
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


_SENTENCES = {
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    413: "the request's body is too large",
}
"""The words of apimachinery's NewGenericServerResponse, which kubectl's users know."""


def _from_bug(error: Exception) -> Response:
    log.error("a request failed unexpectedly", exc_info=error)
    return ApiError(500, "an internal error occurred; the shim's log says more").response()
