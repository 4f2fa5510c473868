"""The verbs on endpoints, over HTTP."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from coredump_shim import names
from coredump_shim.app import create_app
from coredump_shim.config import Config

from .conftest import Api, body, json_of, url

UID = "11111111-2222-3333-4444-555555555555"
OLD = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def test_get_derived(api: Api) -> None:
    api.dump()
    found = json_of(api.get("/web"))
    assert (found["kind"], found["apiVersion"]) == ("CoredumpEndpoint", "coredump.fujitsu.com/v1alpha1")
    assert found["spec"] == {"poduid": UID}
    assert found["metadata"].keys() == {"name", "namespace", "uid", "creationTimestamp", "resourceVersion"}
    assert json_of(api.get("/web")) == found


def test_get_none(api: Api) -> None:
    found = json_of(api.get("/web"), 404)
    assert (found["kind"], found["reason"], found["details"]["name"]) == ("Status", "NotFound", "web")


@pytest.mark.parametrize("name", ["a" * 10_000, "a%00b", "%2e%2e", "..", "%2e", "A", "a%0ab", "%ff"])
def test_get_what_cannot_be(api: Api, name: str) -> None:
    api.dump()
    for path in (url(f"/{name}"), f"{names.ROOT}/namespaces/{name}/{names.RESOURCE}/web"):
        assert json_of(api.client.get(path), 404)["reason"] == "NotFound"


def test_list(api: Api) -> None:
    api.dump()
    api.dump(namespace="other", pod="db-0", poduid="db")
    here = json_of(api.get())
    assert (here["kind"], [each["metadata"]["name"] for each in here["items"]]) == (
        "CoredumpEndpointList",
        ["web"],
    )
    everywhere = json_of(api.client.get(f"{names.ROOT}/{names.RESOURCE}"))
    assert [each["metadata"]["name"] for each in everywhere["items"]] == ["web", "db-0"]
    assert json_of(api.client.get(f"{names.ROOT}/namespaces/none/{names.RESOURCE}"))["items"] == []


def test_list_chosen(api: Api) -> None:
    for pod in ("a", "b", "c"):
        api.dump(pod=pod, poduid=pod)
    json_of(api.patch({"metadata": {"labels": {"x": "y"}}}, "/b"))
    for query in ("?labelSelector=x%3Dy", "?fieldSelector=metadata.name%3Db"):
        assert [each["metadata"]["name"] for each in json_of(api.get(query))["items"]] == ["b"]


def test_list_in_pages(api: Api) -> None:
    for pod in ("a", "b", "c"):
        api.dump(pod=pod, poduid=pod)
    first = json_of(api.get("?limit=2"))
    assert [each["metadata"]["name"] for each in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 1
    api.dump(pod="d", poduid="d")
    second = json_of(api.get(f"?limit=2&continue={first['metadata']['continue']}"))
    assert [each["metadata"]["name"] for each in second["items"]] == ["c", "d"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


def test_table(api: Api) -> None:
    api.dump()
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    for path in ("", "/web"):
        found = json_of(api.get(path, headers=accept))
        assert (found["kind"], found["rows"][0]["cells"][0]) == ("Table", "web")


def test_create_makes_a_derived_one_explicit(api: Api) -> None:
    api.dump()
    derived = json_of(api.get("/web"))
    made = json_of(api.create(spec={"poduid": UID}, labels={"a": "b"}), 201)
    assert made["metadata"]["uid"] != derived["metadata"]["uid"]
    assert int(made["metadata"]["resourceVersion"]) > int(derived["metadata"]["resourceVersion"])
    assert made["metadata"]["labels"] == {"a": "b"}
    assert json_of(api.get("/web")) == made
    assert json_of(api.create(spec={"poduid": UID}), 409)["reason"] == "AlreadyExists"


def test_create_without_poduid_takes_the_newest_pod(api: Api) -> None:
    api.dump(poduid="old", when=OLD)
    api.dump(poduid="new")
    assert json_of(api.create(), 201)["spec"] == {"poduid": "new"}


def test_create_for_an_older_pod(api: Api) -> None:
    api.dump(poduid="old", when=OLD)
    api.dump(poduid="new")
    json_of(api.create("before", {"poduid": "old"}), 201)
    assert json_of(api.get("/web"))["spec"] == {"poduid": "new"}
    assert json_of(api.get("/before"))["status"]["lastCrash"] == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        (body(spec={"poduid": "unknown"}), 422, "spec.poduid"),
        (body(spec={"poduid": "../../x"}), 422, "spec.poduid"),
        (body(spec={"poduid": 5}), 422, "spec.poduid"),
        (body(spec=[]), 422, "spec"),
        (body("new"), 422, "spec.poduid"),
        (body(""), 422, "metadata.name"),
        (body("../x"), 422, "metadata.name"),
        (body("a" * 10_000), 422, "metadata.name"),
        (body("a\0"), 422, "metadata.name"),
        (body(labels={"a": "b c"}), 422, "metadata.labels"),
        (body(labels={"a": 1}), 422, "metadata.labels"),
        (body(annotations={"\n": "x"}), 422, "metadata.annotations"),
        (body(annotations={"a": "x" * 300_000}), 422, "metadata.annotations"),
        (body() | {"metadata": {"name": "web", "namespace": "other"}}, 400, "metadata.namespace"),
        (body() | {"kind": "Pod"}, 400, "apiVersion, kind"),
        (body() | {"apiVersion": "coredump.fujitsu.com/v9"}, 400, "apiVersion, kind"),
        (body() | {"metadata": 5}, 422, "metadata"),
        ({}, 400, "apiVersion, kind"),
        ([], 400, "body"),
    ],
)
def test_create_refused_by_field(api: Api, sent: Any, code: int, field: str) -> None:
    api.dump()
    found = json_of(api.client.post(url(""), json=sent), code)
    assert found["details"]["causes"][0]["field"] == field
    assert field in found["message"]


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"a": NaN}', 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"", 400),
        ("application/json", b"1" * 5000, 400),
        ("application/json", b" " * (2 << 20), 413),
        ("application/vnd.kubernetes.protobuf", b"k8s\0", 415),
        ("application/yaml", b"a: b", 415),
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
    ],
)
def test_create_refused_by_body(api: Api, content_type: str, data: bytes, code: int) -> None:
    json_of(api.client.post(url(""), data=data, content_type=content_type), code)


def test_dry_run_persists_nothing(api: Api) -> None:
    api.dump()
    before = json_of(api.get("/web"))
    made = json_of(api.create(query="?dryRun=All"), 201)
    assert made["metadata"]["name"] == "web"
    merge = "application/merge-patch+json"
    patch = {"metadata": {"labels": {"a": "b"}}}
    patched = api.client.patch(url("/web?dryRun=All"), json=patch, content_type=merge)
    assert json_of(patched)["metadata"]["labels"] == {"a": "b"}
    json_of(api.delete("/web?dryRun=All"))
    json_of(api.delete("/web", json={"dryRun": ["All"]}))
    json_of(api.delete("?dryRun=All"))
    assert json_of(api.get("/web")) == before
    assert json_of(api.create(query="?dryRun=Some"), 400)["details"]["causes"][0]["field"] == "dryRun"


def test_unknown_fields(api: Api) -> None:
    api.dump()
    spec = {"podUid": 'a"b'}
    strict = json_of(api.create(spec=spec, query="?fieldValidation=Strict"), 400)
    assert 'strict decoding error: unknown field "spec.podUid"' in strict["message"]
    assert "Warning" not in api.create(spec=spec, query="?fieldValidation=Ignore&dryRun=All").headers
    warned = api.create(spec=spec)
    assert warned.status_code == 201
    assert warned.headers["Warning"] == r'299 - "unknown field \"spec.podUid\""'
    assert api.create("b", query="?fieldValidation=Perhaps").status_code == 400


def test_field_name_cannot_add_a_header(api: Api) -> None:
    api.dump()
    made = api.client.post(url(""), json=body() | {'x"\r\nSet-Cookie: a=b\r\n': 1})
    assert made.status_code == 201
    assert "Set-Cookie" not in made.headers


def test_patch_labels_and_annotations(api: Api) -> None:
    api.dump()
    derived = json_of(api.get("/web"))
    patched = json_of(api.patch({"metadata": {"labels": {"a": "b", "c": "d"}, "annotations": {"e": "f"}}}))
    assert patched["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert patched["metadata"]["uid"] == derived["metadata"]["uid"]
    patched = json_of(api.patch({"metadata": {"labels": {"a": None}}}))
    assert patched["metadata"]["labels"] == {"c": "d"}
    assert json_of(api.get("/web")) == patched


def test_label_can_be_taken_off_again(api: Api) -> None:
    api.dump()
    derived = json_of(api.get("/web"))
    json_of(api.patch({"metadata": {"labels": {"a": "b"}}}))
    json_of(api.patch({"metadata": {"labels": None}}))
    found = json_of(api.get("/web"))
    assert "labels" not in found["metadata"]
    assert found["metadata"]["uid"] == derived["metadata"]["uid"]


def test_patch_that_changes_nothing_keeps_the_version(api: Api) -> None:
    api.dump()
    before = json_of(api.get("/web"))
    assert json_of(api.patch({"status": {"dumps": 99}})) == before
    assert json_of(api.patch({"spec": {"poduid": UID}})) == before


@pytest.mark.parametrize("field", ["resourceVersion", "uid"])
def test_stale_change_is_a_conflict(api: Api, field: str) -> None:
    api.dump()
    assert json_of(api.patch({"metadata": {field: "1"}}), 409)["reason"] == "Conflict"
    stale = json_of(api.get("/web"))
    stale["metadata"][field] = "1"
    json_of(api.client.put(url("/web"), json=stale), 409)


def test_update(api: Api) -> None:
    api.dump()
    thing = json_of(api.get("/web"))
    thing["metadata"]["annotations"] = {"a": "b"}
    updated = json_of(api.client.put(url("/web"), json=thing))
    assert updated["metadata"]["annotations"] == {"a": "b"}
    json_of(api.client.put(url("/web"), json=thing), 409)
    assert (
        json_of(api.client.put(url("/other"), json=thing), 400)["details"]["causes"][0]["field"]
        == "metadata.name"
    )
    json_of(api.client.put(url("/none"), json=body("none")), 404)


def test_poduid_of_a_created_one_is_fixed(api: Api) -> None:
    api.dump(poduid="old", when=OLD)
    api.dump(poduid="new")
    moved = json_of(api.patch({"spec": {"poduid": "old"}}))
    assert moved["spec"] == {"poduid": "old"}, "a derived one can become one for another pod"
    refused = json_of(api.patch({"spec": {"poduid": "new"}}), 422)
    assert refused["details"]["causes"][0]["field"] == "spec.poduid"


@pytest.mark.parametrize(
    "kind", ["strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml", "json"]
)
def test_other_patches_are_refused(api: Api, kind: str) -> None:
    api.dump()
    answer = api.client.patch(url("/web"), data=b"{}", content_type=f"application/{kind}")
    assert "merge-patch+json" in json_of(answer, 415)["message"]


def test_patch_too_deep(api: Api) -> None:
    api.dump()
    for depth in (300, 900, 980, 100_000):
        data = b'{"x":' * depth + b"1" + b"}" * depth
        answer = api.client.patch(url("/web"), data=data, content_type="application/merge-patch+json")
        assert answer.status_code in (200, 400)


def test_delete_hides_until_another_crash(api: Api) -> None:
    dump = api.dump()
    uid = json_of(api.get("/web"))["metadata"]["uid"]
    gone = json_of(api.delete())
    assert (gone["status"], gone["details"]["uid"]) == ("Success", uid)
    json_of(api.get("/web"), 404)
    json_of(api.delete(), 404)
    assert dump.exists()
    api.dump()
    assert json_of(api.get("/web"))["status"]["dumps"] == 2


def test_create_after_delete(api: Api) -> None:
    api.dump()
    first = json_of(api.create(), 201)
    json_of(api.delete())
    second = json_of(api.create(), 201)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


@pytest.mark.parametrize("precondition", ["uid", "resourceVersion"])
def test_delete_only_what_is_meant(api: Api, precondition: str) -> None:
    api.dump()
    metadata = json_of(api.get("/web"))["metadata"]
    json_of(api.delete(json={"preconditions": {precondition: "other"}}), 409)
    json_of(api.delete(json={"preconditions": {precondition: metadata[precondition]}}))


def test_delete_all_that_are_chosen(api: Api) -> None:
    for pod in ("a", "b"):
        api.dump(pod=pod, poduid=pod)
    json_of(api.delete("?fieldSelector=metadata.name%3Da"))
    assert [each["metadata"]["name"] for each in json_of(api.get())["items"]] == ["b"]


def test_what_was_done_survives_a_restart(api: Api) -> None:

    api.dump()
    api.dump(pod="gone", poduid="gone")
    made = json_of(api.create(annotations={"a": "b"}), 201)
    json_of(api.delete("/gone"))
    again = create_app(Config(str(api.store), str(api.store.parent / "state"))).test_client()
    items = json_of(again.get(url("")))["items"]
    assert [each["metadata"]["name"] for each in items] == ["web"]
    assert items[0]["metadata"]["uid"] == made["metadata"]["uid"]
    assert int(items[0]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_state_that_cannot_be_written_is_unavailable(api: Api) -> None:
    api.dump()
    (api.store.parent / "state").write_text("not a directory")
    assert json_of(api.get("/web"))["status"]["dumps"] == 1
    assert "--state" in json_of(api.create(), 503)["message"]


def test_body_is_one_status_and_nothing_else(api: Api) -> None:
    answer = api.client.get(url("/none"))
    json.loads(answer.data)
    assert answer.content_type == "application/json"
