"""What the API says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from coredump_shim import discovery, names, objects, relay

from .conftest import Api, json_of

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


def test_legacy(api: Api) -> None:
    groups = json_of(api.client.get("/apis"))
    assert [group["name"] for group in groups["groups"]] == ["coredump.fujitsu.com"]
    assert json_of(api.client.get("/apis/coredump.fujitsu.com"))["preferredVersion"]["version"] == "v1alpha1"
    assert json_of(api.client.get("/api"))["versions"] == ["v1"]
    resources = json_of(api.client.get("/apis/coredump.fujitsu.com/v1alpha1"))["resources"]
    assert [resource["name"] for resource in resources] == [
        "coredumpendpoints",
        "coredumpendpoints/dump",
        "coredumpendpoints/proxy",
    ]
    assert resources[0]["shortNames"] == ["cde"]


@pytest.mark.parametrize(
    ("accept", "version"),
    [(f"{V2},{V2BETA1},application/json", "v2"), (f"{V2BETA1},application/json", "v2beta1"), (V2, "v2")],
)
def test_aggregated(api: Api, accept: str, version: str) -> None:
    answer = api.client.get("/apis", headers={"Accept": accept})
    assert (
        answer.headers["Content-Type"]
        == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    )
    assert answer.headers["Vary"] == "Accept"
    found = json_of(answer)
    assert found["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    [group] = found["items"]
    [resource] = group["versions"][0]["resources"]
    assert resource["resource"] == "coredumpendpoints"
    assert resource["responseKind"]["kind"] == "CoredumpEndpoint"
    assert [sub["subresource"] for sub in resource["subresources"]] == ["dump", "proxy"]
    assert all("responseKind" in sub for sub in resource["subresources"])


def test_aggregated_core(api: Api) -> None:
    [group] = json_of(api.client.get("/api", headers={"Accept": V2}))["items"]
    assert [each["resource"] for each in group["versions"][0]["resources"]] == ["namespaces", "events"]


@pytest.mark.parametrize("accept", ["application/json", V2, V2BETA1])
def test_unchanged_is_304(api: Api, accept: str) -> None:
    tag = api.client.get("/apis", headers={"Accept": accept}).headers["ETag"]
    again = api.client.get("/apis", headers={"Accept": accept, "If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    other = api.client.get("/apis", headers={"Accept": accept, "If-None-Match": '"other"'})
    assert other.status_code == 200


def test_forms_have_tags_of_their_own(api: Api) -> None:
    tags = {
        api.client.get("/apis", headers={"Accept": each}).headers["ETag"] for each in ("*/*", V2, V2BETA1)
    }
    assert len(tags) == 3


def test_verbs_are_those_that_are_served(api: Api) -> None:
    methods = {
        "create": "POST",
        "delete": "DELETE",
        "deletecollection": "DELETE",
        "get": "GET",
        "list": "GET",
        "patch": "PATCH",
        "update": "PUT",
        "watch": "GET",
    }
    served: dict[str, set[str]] = {}
    for rule in api.app.url_map.iter_rules():
        served.setdefault(rule.rule.partition("coredumpendpoints")[2], set()).update(rule.methods or ())
    for resource in discovery.RESOURCES:
        sub = resource["name"].partition("/")[2]
        paths = {"": ["", "/<name>"], "dump": ["/<name>/dump"], "proxy": ["/<name>/proxy/dump"]}[sub]
        offered = set[str]().union(*(served[path] for path in paths)) - {"HEAD"}
        assert offered == {methods[verb] for verb in resource["verbs"]}


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health(api: Api, path: str) -> None:
    assert api.client.get(path).data == b"ok"


def test_version(api: Api) -> None:
    found: dict[str, Any] = json_of(api.client.get("/version"))
    assert found["gitVersion"].startswith(f"v{found['major']}.{found['minor']}.")


def test_a_cluster_keeps_core_v1_to_itself() -> None:
    paths = {document.path for document in discovery.documents(joined=True)}
    assert paths == {"/apis", "/apis/coredump.fujitsu.com", names.ROOT}
    assert {document.path for document in discovery.documents(joined=False)} - paths == {"/api", "/api/v1"}


@pytest.mark.parametrize("joined", [False, True])
def test_documents_are_what_is_served(joined: bool) -> None:
    app = Flask(__name__)
    app.register_blueprint(discovery.blueprint(joined=joined))
    accept = {"": "application/json", "v2": V2, "v2beta1": V2BETA1}
    for document in discovery.documents(joined=joined):
        answer = app.test_client().get(document.path, headers={"Accept": accept[document.form]})
        assert (answer.data, answer.headers["ETag"]) == (document.body, document.etag)
        assert answer.headers["Content-Type"] == document.content_type


def test_verbs_of_a_cluster_are_those_that_are_relayed() -> None:
    """What is said of the objects is the same with a cluster, so the same must be served."""
    objects_served, relayed = (_rules(module) for module in (objects, relay))
    assert relayed == objects_served


def _rules(module: Any) -> set[tuple[str, str]]:
    app = Flask(__name__, static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    parts = (None, None, 1) if module is relay else (None, None)
    app.register_blueprint(module.blueprint(*parts))
    return {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
