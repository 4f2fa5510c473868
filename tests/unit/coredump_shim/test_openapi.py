"""The documents, and that the schema says of an endpoint what an endpoint has."""

from __future__ import annotations

from typing import Any

from coredump_shim import openapi, payload, schema
from coredump_shim.endpoint import Object

from .conftest import Api, json_of

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def test_version_3_is_found_by_its_index(api: Api) -> None:
    paths = json_of(api.client.get("/openapi/v3"))["paths"]
    link = paths["apis/coredump.fujitsu.com/v1alpha1"]["serverRelativeURL"]
    document = json_of(api.client.get(link))
    assert document == openapi.version_3()
    kinds = document["components"]["schemas"][openapi.MODEL]["x-kubernetes-group-version-kind"]
    assert kinds == [{"group": "coredump.fujitsu.com", "version": "v1alpha1", "kind": "CoredumpEndpoint"}]


def test_paths_are_those_that_are_served(api: Api) -> None:
    served: dict[str, set[str]] = {}
    for rule in api.app.url_map.iter_rules():
        path = rule.rule.replace("<", "{").replace(">", "}")
        served.setdefault(path, set()).update(method.lower() for method in rule.methods or ())
    for path, operations in openapi.version_3()["paths"].items():
        assert set(operations) == served[path] - {"head"}


def test_version_2(api: Api) -> None:
    answer = api.client.get("/openapi/v2")
    assert json_of(answer) == openapi.version_2()
    again = api.client.get("/openapi/v2", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_version_2_in_protobuf_for_who_asks(api: Api) -> None:
    answer = api.client.get("/openapi/v2", headers={"Accept": PROTOBUF})
    assert answer.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert answer.data.startswith(b"\x0a\x032.0")


def test_schema_has_each_field_of_an_endpoint(api: Api) -> None:
    api.dump(truncated="deadline", refused="because")
    json_of(api.patch({"metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}}}))
    check(json_of(api.get("/web")), schema.ENDPOINT, "")


def check(thing: Any, described: Object, where: str) -> None:
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int}
    assert isinstance(thing, kinds[described["type"]]), where
    if "properties" in described:
        assert thing.keys() == described["properties"].keys(), where
        for key, value in thing.items():
            check(value, described["properties"][key], f"{where}.{key}")
    for item in thing if isinstance(thing, list) else ():
        check(item, described["items"], f"{where}[]")


def test_a_cluster_takes_each_kind_of_patch_that_kube_apiserver_does() -> None:
    third, second = openapi.version_3(joined=True), openapi.version_2(joined=True)
    [patch] = [each["patch"] for each in third["paths"].values() if "patch" in each]
    assert set(patch["requestBody"]["content"]) == set(payload.PATCHES)
    [patch] = [each["patch"] for each in second["paths"].values() if "patch" in each]
    assert set(patch["consumes"]) == set(payload.PATCHES)
    assert {each["name"] for each in patch["parameters"]} >= {"fieldValidation", "dryRun", "fieldManager"}
    [alone] = [each["patch"] for each in openapi.version_3()["paths"].values() if "patch" in each]
    assert list(alone["requestBody"]["content"]) == [payload.MERGE_PATCH]
