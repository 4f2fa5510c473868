"""The application as a whole: every error is a Status, and a silent store silences nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from coredump_shim import attributes, discovery, names, rawheaders
from coredump_shim.app import TRUST, create_app
from coredump_shim.attributes import Resource
from coredump_shim.catalog import Catalog
from coredump_shim.config import Config, Joined

from .conftest import Api, json_of, url
from .test_cluster import kubeconfig


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


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Flask]:
    """Return the application of a cluster whose kube-apiserver does not answer."""
    config = str(kubeconfig(tmp_path, "http://127.0.0.1:1"))
    app = create_app(Config(str(tmp_path), joined=Joined(config, str(tmp_path))))
    yield app
    app.extensions[TRUST].end()


def paths(app: Flask) -> list[tuple[str, str]]:
    """Return a method and a path for each route."""
    return [
        (method, rule.rule.replace("<namespace>", "demo").replace("<name>", "web"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]


def test_in_a_cluster_nothing_but_health_is_for_everybody(joined: Flask) -> None:
    client = joined.test_client()
    assert len(paths(joined)) > 25
    for method, path in paths(joined):
        answer = client.open(
            path, method=method, headers={"X-Remote-Group": "system:masters", "X-Remote-User": "a"}
        )
        assert answer.status_code == (200 if path in discovery.HEALTH else 401), (method, path)


def test_in_a_cluster_nothing_is_served_without_a_word_of_kube_apiserver(joined: Flask) -> None:
    client = joined.test_client()
    for header in (("authorization", b"Bearer x"), (names.CLIENT_CN.lower(), b"front-proxy-client")):
        raw = {rawheaders.KEY: (header, ("x-remote-user", b"a"), ("x-remote-group", b"system:masters"))}
        for method, path in paths(joined):
            if path not in discovery.HEALTH:
                assert client.open(path, method=method, environ_overrides=raw).status_code in (401, 500)


def test_in_a_cluster_what_is_reviewed_is_what_is_served(joined: Flask) -> None:
    routes = joined.url_map.bind("host")
    for method, path in paths(joined):
        rule, served = routes.match(path, method, return_rule=True)
        wanted = attributes.parse(method, path, {})
        if not isinstance(wanted, Resource):
            assert served == {}
            continue
        assert (wanted.namespace, wanted.name) == (served.get("namespace", ""), served.get("name", ""))
        below = rule.rule.partition("<name>/")[2]
        assert wanted.subresource == below.partition("/")[0]
