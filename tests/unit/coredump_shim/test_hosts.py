"""Which Host and Origin headers are answered."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from coredump_shim import hosts, status
from coredump_shim.config import Config


def asked(headers: dict[str, str], host: str = "127.0.0.1") -> int:
    app = Flask("test")
    status.register(app)
    hosts.register(app, Config("/store", "/state", host=host))
    app.add_url_rule("/", "root", lambda: "core")
    environ = EnvironBuilder(headers=list(headers.items())).get_environ()
    if "Host" not in headers:
        del environ["HTTP_HOST"]
    _, line, answered = run_wsgi_app(app, environ)
    assert answered["Cross-Origin-Resource-Policy"] == "same-origin"
    return int(line.partition(" ")[0])


def test_answers_who_says_no_host_as_no_browser_does() -> None:
    assert asked({}) == 200
    assert asked({"Origin": "http://rebound.example"}) == 403


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "localhost:8080",
        "LOCALHOST",
        "[::1]:8080",
        "192.0.2.7:80",
        "a.localhost",
    ],
)
def test_answers_to_addresses_and_loopback_names(host: str) -> None:
    assert asked({"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "rebound.example",
        "rebound.example:8080",
        "127.0.0.1.example",
        "localhost.example",
        "127.0.0.1@rebound.example",
        "[::1",
        "0x7f000001",
    ],
)
def test_refuses_names_that_a_page_can_have(host: str) -> None:
    assert asked({"Host": host}) == 403


def test_answers_to_the_name_it_listens_on() -> None:
    assert asked({"Host": "gateway.example:80"}, host="gateway.example") == 200
    assert asked({"Host": "rebound.example:80"}, host="gateway.example") == 403


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://127.0.0.1:8080", 200),
        ("http://127.0.0.1:9090", 403),
        ("http://rebound.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_sites_get_nothing(origin: str, code: int) -> None:
    assert asked({"Host": "127.0.0.1:8080", "Origin": origin}) == code
