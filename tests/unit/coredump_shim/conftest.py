"""A stand-alone API without a server, on a store of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from coredump_shim import names
from coredump_shim.app import create_app
from coredump_shim.config import Config
from tests.support.dumps import write_dump


@dataclasses.dataclass
class Api:
    """The application, its store, and short ways to ask it."""

    app: Flask
    store: Path
    client: FlaskClient

    def dump(self, **what: Any) -> Path:
        return write_dump(self.store, **what)

    def get(self, path: str = "", **options: Any) -> TestResponse:
        return self.client.get(url(path), **options)

    def create(self, name: str = "web", spec: Any = None, query: str = "", **metadata: Any) -> TestResponse:
        return self.client.post(url(query), json=body(name, spec, **metadata))

    def patch(self, patch: Any, path: str = "/web") -> TestResponse:
        return self.client.patch(url(path), json=patch, content_type="application/merge-patch+json")

    def delete(self, path: str = "/web", **options: Any) -> TestResponse:
        return self.client.delete(url(path), **options)


def url(path: str) -> str:
    """Return a path of the namespace demo; "" is the collection."""
    return f"{names.ROOT}/namespaces/demo/{names.RESOURCE}{path}"


def body(name: str = "web", spec: Any = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": "demo", **metadata},
        "spec": {} if spec is None else spec,
    }


def json_of(answer: TestResponse, code: int = 200) -> dict[str, Any]:
    """Return the answer's JSON, of this code."""
    assert answer.status_code == code, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


@pytest.fixture
def api(tmp_path: Path) -> Api:
    store = tmp_path / "store"
    store.mkdir()
    app = create_app(Config(str(store), str(tmp_path / "state"), max_watches=2))
    return Api(app, store, app.test_client())
