"""Which requests the front gives away."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from werkzeug.test import Client

from coredump_shim import front
from tests.support.serving import ENDPOINTS


@pytest.mark.parametrize(
    ("path", "dump"),
    [
        (f"{ENDPOINTS}/web/dump", True),
        (f"{ENDPOINTS}/web/proxy/dump", True),
        (f"{ENDPOINTS}/we b/dump", True),
        (f"//{ENDPOINTS}/web/dump", True),
        (f"{ENDPOINTS}/dump", False),
        (f"{ENDPOINTS}/web", False),
        (f"{ENDPOINTS}/web/dump/", False),
        (f"{ENDPOINTS}/web/x/dump", False),
        (f"{ENDPOINTS}/web/dumps", False),
        (f"/x{ENDPOINTS}/web/dump", False),
        ("/healthz", False),
    ],
)
def test_dumps_and_nothing_else(path: str, dump: bool) -> None:
    assert front.is_dump(path) is dump


def test_never_reads_a_dump_itself() -> None:
    app = Flask("test")
    app.add_url_rule("/<path:path>", view_func=lambda path: f"application: {path}")
    client = Client(front.guarded(app))
    refused = client.get(f"{ENDPOINTS}/web/dump")
    assert refused.status_code == 503
    assert json.loads(refused.data)["details"]["retryAfterSeconds"] == int(refused.headers["Retry-After"])
    assert client.get("/healthz").data == b"application: healthz"
