"""As much of the core API as kubectl asks for."""

from __future__ import annotations

from .conftest import Api, json_of


def test_namespaces_are_those_with_dumps(api: Api) -> None:
    api.dump()
    api.dump(namespace="other")
    found = json_of(api.client.get("/api/v1/namespaces"))
    assert [each["metadata"]["name"] for each in found["items"]] == ["demo", "other"]
    assert json_of(api.client.get("/api/v1/namespaces/demo"))["kind"] == "Namespace"
    missing = json_of(api.client.get("/api/v1/namespaces/none"), 404)
    assert missing["details"] == {"name": "none", "kind": "namespaces"}


def test_there_are_no_events(api: Api) -> None:
    for path in ("/api/v1/events", "/api/v1/namespaces/demo/events?fieldSelector=involvedObject.name%3Dweb"):
        assert json_of(api.client.get(path))["items"] == []
