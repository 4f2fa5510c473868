"""Errors as Kubernetes words them."""

from __future__ import annotations

import json

import pytest
from flask import Flask, Response, abort
from werkzeug.test import TestResponse

from coredump_shim import status
from coredump_shim.status import ApiError


def answer_to(error: Exception) -> TestResponse:
    app = Flask("test")
    status.register(app)

    @app.get("/")
    def fail() -> Response:
        raise error

    answer = app.test_client().get("/")
    assert answer.content_type == "application/json"
    return answer


def test_body_has_the_shape_of_kubernetes() -> None:
    answer = answer_to(status.invalid("web", "spec.poduid", "is unknown"))
    assert answer.status_code == 422
    assert answer.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'CoredumpEndpoint.coredump.fujitsu.com "web" is invalid: spec.poduid: is unknown',
        "reason": "Invalid",
        "code": 422,
        "details": {
            "group": "coredump.fujitsu.com",
            "kind": "CoredumpEndpoint",
            "name": "web",
            "causes": [
                {"reason": "FieldValueInvalid", "message": "is unknown", "field": "spec.poduid"},
            ],
        },
    }


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (status.bad_request("since", "is not a time"), 400, "BadRequest"),
        (status.no_endpoint("demo", "web"), 404, "NotFound"),
        (status.conflict("changed", "web"), 409, "Conflict"),
        (status.already_exists("web"), 409, "AlreadyExists"),
        (status.gone("old"), 410, "Expired"),
        (ApiError(412, "other"), 412, "PreconditionFailed"),
        (status.too_many("enough"), 429, "TooManyRequests"),
        (status.unavailable("silent"), 503, "ServiceUnavailable"),
        (ApiError(418, "no reason known"), 418, "Unknown"),
    ],
)
def test_code_and_reason(error: ApiError, code: int, reason: str) -> None:
    answer = answer_to(error)
    assert answer.status_code == code
    assert answer.json is not None
    assert (answer.json["code"], answer.json["reason"]) == (code, reason)


def test_says_when_to_try_again() -> None:
    answer = answer_to(status.unavailable("silent", retry_after=7))
    assert answer.headers["Retry-After"] == "7"
    assert answer.json is not None
    assert answer.json["details"]["retryAfterSeconds"] == 7


def test_bug_is_a_status_that_tells_nothing_of_it() -> None:
    answer = answer_to(RuntimeError("a secret"))
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_errors_of_flask_are_a_status() -> None:
    app = Flask("test")
    status.register(app)
    app.add_url_rule("/teapot", "teapot", lambda: abort(418))
    answers = [
        app.test_client().get("/none"),
        app.test_client().post("/teapot"),
        app.test_client().get("/teapot"),
    ]
    assert [answer.json["code"] for answer in answers if answer.json] == [404, 405, 418]
    assert "GET" in answers[1].headers["Allow"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web", '"web"'),
        ("a\0\n\x1b[31m", r'"a\u0000\n\u001b[31m"'),
        ("ü\udc80", r'"\u00fc\udc80"'),
        ("x" * 10_000, '"' + "x" * 100 + '..."'),
    ],
)
def test_shown_is_harmless(text: str, shown: str) -> None:
    assert status.shown(text) == shown


@pytest.mark.parametrize("error", [ApiError(431, "too long"), status.unavailable("silent", retry_after=7)])
def test_plain_is_the_same_without_flask(error: ApiError) -> None:
    answer = answer_to(error)
    first, headers, body = error.plain()
    assert first.upper() == answer.status
    assert json.loads(body) == answer.json
    assert dict(headers)["Content-Length"] == str(len(body))
    assert dict(headers).get("Retry-After") == answer.headers.get("Retry-After")
