"""The application as a whole: every error is a Status, and a silent store silences nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_shim.app import create_app
from coredump_shim.catalog import Catalog
from coredump_shim.config import Config

from .conftest import Api, json_of, url


@pytest.mark.parametrize(
    "path", ["/", "/none", "/apis/none", url("/web/none"), url("/"), "//", "/%2e%2e", "/a%00"]
)
def test_unknown_path(api: Api, path: str) -> None:
    assert json_of(api.client.get(path), 404)["reason"] == "NotFound"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"])
def test_unknown_method(api: Api, method: str) -> None:
    answer = api.client.open("/version", method=method)
    assert json_of(answer, 405)["reason"] == "MethodNotAllowed"
    assert "GET" in answer.headers["Allow"]


def test_every_path_refuses_another_host(api: Api) -> None:
    for rule in api.app.url_map.iter_rules():
        path = rule.rule.replace("<namespace>", "demo").replace("<name>", "web")
        json_of(api.client.get(path, headers={"Host": "rebound.example"}), 403)


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Return an API whose store blocks whoever reads it; integration/test_hung_store.py has a real one."""
    hang = threading.Event()
    for method in ("dumps", "namespaces"):
        monkeypatch.setattr(Catalog, method, lambda *_: hang.wait())
    app = create_app(Config(str(tmp_path), str(tmp_path / "state"), store_seconds=0.05))
    yield Api(app, tmp_path, app.test_client())
    hang.set()


@pytest.mark.parametrize(
    "path", [url(""), url("/web"), url("/web/dump"), url("?watch=1"), "/api/v1/namespaces"]
)
def test_silent_store_is_unavailable(silent: Api, path: str) -> None:
    found = json_of(silent.client.get(path), 503)
    assert found["reason"] == "ServiceUnavailable"
    assert "store" in found["message"]


def test_silent_store_leaves_discovery_alone(silent: Api) -> None:
    for _ in range(20):
        json_of(silent.client.get(url("")), 503)
    for path in ("/healthz", "/apis", "/openapi/v3", "/version", "/api"):
        assert silent.client.get(path).status_code == 200
