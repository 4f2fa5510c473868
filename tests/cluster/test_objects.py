"""CoredumpEndpoints by kubectl: each verb through v1alpha1, which is the shim's, on objects that are v1's."""

from __future__ import annotations

import base64
import datetime
import json
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import urllib3

from coredump_shim import names
from coredump_shim.cluster import Cluster
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.product import Product
from testbed.waiting import wait_for
from tests.support.dumps import write_dump
from tests.support.endpoints import KIND, OTHER_UID, STORED, UID, Endpoints, alone

PROTOBUF = "application/vnd.kubernetes.protobuf"
METADATA = "as=PartialObjectMetadata{0};g=meta.k8s.io;v=v1"
APPLY = "application/apply-patch+yaml"

COLUMNS = ["CONTAINERS", "DUMPS", "SIZE", "LAST CRASH", "REASON", "AGE"]

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def _alone(product: Product) -> Iterator[None]:
    with alone(product):
        yield


@pytest.fixture
def endpoints(plane: ControlPlane, product: Product, namespace: str, store: Path) -> Endpoints:
    """Return a namespace without endpoints, of which the store has a dump, so that UID can be named."""
    found = Endpoints(plane, Cluster(str(plane.kubeconfig("admin"))), namespace, store)
    product.gateway.wait_for_shim()
    found.dump(pod="other")
    return found


# Creating.


def test_check_17_create_gives_an_object_its_identity(endpoints: Endpoints) -> None:
    uid = endpoints.pod()
    assert "created" in endpoints.create(poduid=None)
    found = endpoints.get()
    assert found["apiVersion"] == names.API_VERSION
    assert all(found["metadata"][key] for key in ("uid", "creationTimestamp", "resourceVersion"))
    assert found["spec"] == {"poduid": uid}
    stored = endpoints.get(kind=STORED)
    assert stored["apiVersion"] == f"{names.GROUP}/{names.STORED}"
    assert found | {"apiVersion": ""} == stored | {"apiVersion": ""}


def test_check_18_duplicate_is_refused(endpoints: Endpoints) -> None:
    endpoints.create()
    assert "(AlreadyExists)" in endpoints.create(code=1)
    # Also where nobody would know the pod any more.
    assert "(AlreadyExists)" in endpoints.create(poduid=None, code=1)


def test_check_19_missing_namespace_404_terminating_403(endpoints: Endpoints, plane: ControlPlane) -> None:
    for poduid in (UID, None):
        refused = plane.kubectl(
            "create", "-n", "nowhere", "-f", "-", stdin=endpoints.manifest(poduid=poduid), code=1
        )
        assert 'namespaces "nowhere" not found' in refused
    endpoints.kubectl("create", "-f", "-", stdin=json.dumps(HELD_UP))
    plane.kubectl("delete", "namespace", endpoints.namespace, "--wait=false")
    try:
        for poduid in (UID, None):
            refused = wait_for("the namespace is known to end", partial(_terminating, endpoints, poduid))
            assert "(Forbidden)" in refused
    finally:
        endpoints.kubectl(
            "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )


HELD_UP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "held", "finalizers": ["test.example/held"]},
}


def _terminating(endpoints: Endpoints, poduid: str | None) -> str:
    done = endpoints.plane.run(
        *("create", "-n", endpoints.namespace, "-f", "-"), stdin=endpoints.manifest("late", poduid)
    )
    said = done.stderr.decode()
    return said if "because it is being terminated" in said else ""


def test_create_without_poduid_takes_the_newest_stored_pod(endpoints: Endpoints) -> None:
    now = datetime.datetime.now(datetime.UTC)
    endpoints.dump(UID, pod="web", when=now - datetime.timedelta(hours=1))
    endpoints.dump(OTHER_UID, pod="web", when=now)
    endpoints.create(poduid=None)
    assert endpoints.get()["spec"]["poduid"] == OTHER_UID


def test_create_of_a_static_pods_takes_its_uid_on_the_node(endpoints: Endpoints) -> None:
    digest = "0123456789abcdef0123456789abcdef"
    endpoints.pod(
        "static", annotations={"kubernetes.io/config.mirror": digest, "kubernetes.io/config.hash": digest}
    )
    endpoints.create("static", poduid=None)
    assert endpoints.get("static")["spec"]["poduid"] == digest
    endpoints.kubectl("delete", KIND, "static")
    endpoints.create("static", poduid=digest)


@pytest.mark.parametrize("command", [("create",), ("apply",), ("apply", "--server-side")])
def test_a_pod_that_nobody_knows_is_refused_with_a_remedy(
    endpoints: Endpoints, command: tuple[str, ...]
) -> None:
    refused = endpoints.kubectl(*command, "-f", "-", stdin=endpoints.manifest(poduid=None), code=1)
    assert "spec.poduid: is needed here: no pod of this name" in refused
    refused = endpoints.kubectl(*command, "-f", "-", stdin=endpoints.manifest(poduid=OTHER_UID), code=1)
    assert f'spec.poduid: no pod of this name has the UID "{OTHER_UID}"' in refused
    refused = endpoints.kubectl(*command, "-f", "-", stdin=endpoints.manifest(poduid="a/../b"), code=1)
    assert "spec.poduid in body should match" in refused
    assert endpoints.listed() == []


def test_another_namespaces_pod_is_not_known(endpoints: Endpoints) -> None:
    write_dump(endpoints.store, namespace="elsewhere", poduid=OTHER_UID)
    assert "spec.poduid" in endpoints.create(poduid=OTHER_UID, code=1)


# Changing.


def test_check_20_stale_put_is_refused(endpoints: Endpoints) -> None:
    endpoints.create()
    before = endpoints.get()
    endpoints.kubectl("label", KIND, "web", "a=b")
    refused = endpoints.kubectl("replace", "-f", "-", stdin=json.dumps(before), code=1)
    assert "(Conflict)" in refused
    endpoints.kubectl("replace", "-f", "-", stdin=json.dumps(endpoints.get()))


def test_replace_keeps_a_poduid_that_is_left_out(endpoints: Endpoints) -> None:
    endpoints.create()
    endpoints.kubectl("replace", "-f", "-", stdin=endpoints.manifest(poduid=None, labels={"a": "b"}))
    assert endpoints.get()["spec"] == {"poduid": UID}
    assert "(NotFound)" in endpoints.kubectl("replace", "-f", "-", stdin=endpoints.manifest("none"), code=1)


def test_check_21_dry_runs_persist_nothing(endpoints: Endpoints) -> None:
    endpoints.kubectl("create", "--dry-run=server", "-f", "-", stdin=endpoints.manifest("dry"))
    endpoints.kubectl(
        "apply", "--dry-run=server", "--server-side", "-f", "-", stdin=endpoints.manifest("dry")
    )
    assert endpoints.listed() == []
    endpoints.create()
    before = endpoints.get()
    endpoints.kubectl("label", "--dry-run=server", KIND, "web", "a=b")
    endpoints.kubectl(
        "apply", "--dry-run=server", "--server-side", "-f", "-", stdin=endpoints.manifest(labels={"a": "b"})
    )
    endpoints.kubectl("delete", "--dry-run=server", KIND, "web")
    endpoints.kubectl("delete", "--dry-run=server", KIND, "--all")
    assert endpoints.get() == before


def test_check_22_patches(endpoints: Endpoints) -> None:
    endpoints.create()
    merge = {"apiVersion": names.API_VERSION, "metadata": {"labels": {"merge": "1"}}}
    endpoints.kubectl("patch", KIND, "web", "--type=merge", "-p", json.dumps(merge))
    operations = [
        {"op": "test", "path": "/apiVersion", "value": names.API_VERSION},
        {"op": "add", "path": "/metadata/labels/json", "value": "2"},
    ]
    endpoints.kubectl("patch", KIND, "web", "--type=json", "-p", json.dumps(operations))
    assert endpoints.get()["metadata"]["labels"] == {"merge": "1", "json": "2"}
    refused = endpoints.kubectl("patch", KIND, "web", "--type=strategic", "-p", "{}", code=1)
    assert (
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml" in refused
    )
    code, status, _ = endpoints.request(
        "PATCH", "web", b"{}", Content_Type="application/strategic-merge-patch+json"
    )
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")  # the garbage collector tries on


def test_poduid_cannot_be_changed(endpoints: Endpoints) -> None:
    endpoints.create()
    endpoints.dump(OTHER_UID)
    for kind in (KIND, STORED):
        patch = json.dumps({"spec": {"poduid": OTHER_UID}})
        refused = endpoints.kubectl("patch", kind, "web", "--type=merge", "-p", patch, code=1)
        assert "spec.poduid: Invalid value" in refused
        assert "cannot be changed; delete the endpoint and create it again" in refused


@pytest.mark.parametrize("poduid", [UID, None])
def test_check_23_apply_twice_changes_nothing(endpoints: Endpoints, poduid: str | None) -> None:
    if poduid is None:
        endpoints.pod()
    manifest = endpoints.manifest(poduid=poduid)
    assert "created" in endpoints.kubectl("apply", "-f", "-", stdin=manifest)
    before = endpoints.version()
    assert "unchanged" in endpoints.kubectl("apply", "-f", "-", stdin=manifest)
    assert endpoints.version() == before
    labelled = endpoints.manifest(poduid=poduid, labels={"a": "b"})
    assert "configured" in endpoints.kubectl("apply", "-f", "-", stdin=labelled)


@pytest.mark.parametrize("poduid", [UID, None])
def test_server_side_apply_twice_changes_nothing(endpoints: Endpoints, poduid: str | None) -> None:
    uid = endpoints.pod() if poduid is None else poduid
    manifest = endpoints.manifest(poduid=poduid)
    apply = ("apply", "--server-side", "-f", "-")
    endpoints.kubectl(*apply, stdin=manifest)
    before = endpoints.version()
    endpoints.kubectl(*apply, stdin=manifest)
    assert endpoints.version() == before
    if poduid is None:
        # Its pod is gone, and it still stands for it.
        endpoints.kubectl("delete", "pod", "web", "--grace-period=0", "--force")
        endpoints.kubectl(*apply, stdin=endpoints.manifest(poduid=None, labels={"a": "b"}))
    assert endpoints.get()["spec"]["poduid"] == uid


def test_apply_in_yaml_by_hand(endpoints: Endpoints) -> None:
    kind = f"apiVersion: {names.API_VERSION}\nkind: {names.KIND}\n"
    body = f"{kind}metadata:\n  name: web\nspec:\n  poduid: {UID}\n"
    code, made, _ = endpoints.request("PATCH", "web", body.encode(), "?fieldManager=me", Content_Type=APPLY)
    assert (code, made["apiVersion"]) == (201, names.API_VERSION)
    [entry] = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")


def test_applying_what_is_not_there_needs_the_right_to_create(
    endpoints: Endpoints, plane: ControlPlane
) -> None:
    role = ("--verb=get,patch", f"--resource={names.RESOURCE}.{names.GROUP}")
    endpoints.kubectl("create", "role", "patcher", *role)
    endpoints.kubectl("create", "rolebinding", "patcher", "--role=patcher", "--user=patricia")
    apply = ("apply", "--server-side", "-f", "-")
    refused = endpoints.kubectl(*apply, stdin=endpoints.manifest(), user="patricia", code=1)
    assert "cannot create resource" in refused
    assert endpoints.listed() == []
    endpoints.create()
    endpoints.kubectl(*apply, "--force-conflicts", stdin=endpoints.manifest(), user="patricia")


def test_check_24_annotate_label_edit_describe(
    endpoints: Endpoints, plane: ControlPlane, tmp_path: Path
) -> None:
    endpoints.create()
    endpoints.kubectl("annotate", KIND, "web", "note=1")
    endpoints.kubectl("label", KIND, "web", "team=a")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nexec sed -i "s/team: a/team: edited/" "$1"\n')
    editor.chmod(0o755)
    done = subprocess.run(
        plane.command("edit", KIND, "web", "-n", endpoints.namespace),
        env=plane.environment | {"EDITOR": str(editor)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert endpoints.get()["metadata"]["labels"] == {"team": "edited"}
    described = endpoints.kubectl("describe", KIND, "web")
    assert re.search(r"API Version: +coredump.fujitsu.com/v1alpha1", described)
    assert re.search(rf"Poduid: +{UID}", described)
    assert "note: 1" in described


def test_what_validation_says(endpoints: Endpoints) -> None:
    thing = json.loads(endpoints.manifest())
    thing["spec"]["colour"] = "red"
    strict = endpoints.kubectl("create", "--validate=strict", "-f", "-", stdin=json.dumps(thing), code=1)
    assert 'strict decoding error: unknown field "spec.colour"' in strict
    body = json.dumps(thing).encode()
    code, _, warnings = endpoints.request(
        "POST", "", body, "?fieldValidation=Warn", Content_Type="application/json"
    )
    assert (code, warnings) == (201, ['299 - "unknown field \\"spec.colour\\""'])
    twice = endpoints.manifest("twice").replace('"spec": {', f'"spec": {{"poduid": "{OTHER_UID}", ').encode()
    code, status, _ = endpoints.request(
        "POST", "", twice, "?fieldValidation=Strict", Content_Type="application/json"
    )
    assert (code, "duplicate field" in status["message"]) == (400, True)
    code, made, warnings = endpoints.request("POST", "", twice, "", Content_Type="application/json")
    assert (code, made["spec"]["poduid"], len(warnings)) == (201, UID, 1)
    status_sent = json.loads(endpoints.manifest("status")) | {"status": {"dumps": 7}}
    endpoints.kubectl("create", "-f", "-", stdin=json.dumps(status_sent))
    assert "status" not in endpoints.get("status")


@pytest.mark.parametrize(
    ("method", "name", "kind", "body", "code"),
    [
        ("POST", "", PROTOBUF, b"k8s\0", 415),
        ("PUT", "web", "text/plain", b"{}", 415),
        ("POST", "", "application/json", b"{", 400),
        ("POST", "", "application/json", b"[]", 400),
        (
            "POST",
            "",
            "application/json",
            b'{"apiVersion":"coredump.fujitsu.com/v1","kind":"CoredumpEndpoint"}',
            400,
        ),
        (
            "POST",
            "",
            "application/json",
            b'{"apiVersion":"coredump.fujitsu.com/v1alpha1","kind":"Pod","metadata":{"name":"x"}}',
            422,
        ),
        ("POST", "", "application/json", b'{"spec":"x","metadata":3}', 400),
        ("PATCH", "web", "application/json-patch+json", b"{}", 400),
        ("PATCH", "web", APPLY, b"a: &a [1]\nb: *a\n", 400),
        ("DELETE", "web", "text/plain", b"{}", 415),
    ],
)
def test_bodies_that_cannot_be(
    endpoints: Endpoints, method: str, name: str, kind: str, body: bytes, code: int
) -> None:
    found, status, _ = endpoints.request(method, name, body, Content_Type=kind)
    assert (found, status["kind"]) == (code, "Status"), status
    assert endpoints.listed() == []


# Reading.


def test_check_25_get_sort_by_and_watch(endpoints: Endpoints, plane: ControlPlane) -> None:
    for name in ("b", "a"):
        endpoints.create(name)
    table = endpoints.kubectl("get", KIND).splitlines()
    assert re.split(" {2,}", table[0].strip()) == ["NAME", *COLUMNS]
    assert [line.split()[0] for line in table] == ["NAME", "a", "b"]
    endpoints.kubectl("label", KIND, "a", "rank=2")
    endpoints.kubectl("label", KIND, "b", "rank=1")
    assert endpoints.listed("--sort-by=.metadata.labels.rank") == ["b", "a"]
    assert f"apiVersion: {names.API_VERSION}" in endpoints.kubectl("get", KIND, "a", "-o", "yaml")
    with endpoints.watching("get", KIND, "-w", "-o", "name") as lines:
        assert {next(lines).rpartition("/")[2] for _ in range(2)} == {"a", "b"}
        endpoints.create("c")
        assert next(lines).endswith("/c")


def test_check_26_limit_and_continue(endpoints: Endpoints) -> None:
    for name in "abcde":
        endpoints.create(name)
    assert endpoints.listed("--chunk-size=2") == list("abcde")
    _, first, _ = endpoints.request("GET", query="?limit=2")
    assert first["kind"] == "CoredumpEndpointList"
    assert first["apiVersion"] == names.API_VERSION
    assert {item["apiVersion"] for item in first["items"]} == {names.API_VERSION}
    assert first["metadata"]["remainingItemCount"] == 3
    endpoints.create("f")
    _, rest, _ = endpoints.request("GET", query=f"?limit=9&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == list("cde")
    code, status, _ = endpoints.request("GET", query="?continue=nonsense")
    assert (code, status["reason"]) == (400, "BadRequest")


def test_a_list_that_expires_in_its_middle(endpoints: Endpoints, plane: ControlPlane) -> None:
    """kube-apiserver's 410 comes with a token for whoever wants the rest all the same (ListMeta)."""
    for name in "abc":
        endpoints.create(name)
    _, first, _ = endpoints.request("GET", query="?limit=1")
    token = json.loads(base64.urlsafe_b64decode(first["metadata"]["continue"] + "=="))
    compact(plane)
    late = base64.urlsafe_b64encode(json.dumps(token | {"rv": 2}).encode()).decode().rstrip("=")
    code, status, _ = endpoints.request("GET", query=f"?limit=1&continue={late}")
    assert (code, status["reason"], status["kind"]) == (410, "Expired", "Status")
    _, rest, _ = endpoints.request("GET", query=f"?continue={status['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["b", "c"]


def compact(plane: ControlPlane) -> None:
    """Have etcd forget all but what is, as kube-apiserver has it do every five minutes."""
    etcd = f"http://{plane.address}:2379/v3/kv"
    seen = urllib3.request("POST", f"{etcd}/range", json={"key": "AA=="}, timeout=10).json()
    done = urllib3.request(
        "POST", f"{etcd}/compaction", json={"revision": seen["header"]["revision"]}, timeout=10
    )
    assert done.status == 200, done.data


def test_check_27_wait_for_delete(endpoints: Endpoints, plane: ControlPlane, tmp_path: Path) -> None:
    endpoints.create()
    words = ("wait", "--for=delete", KIND, "--all", "--timeout=30s", "-n", endpoints.namespace, "-v=6")
    log = tmp_path / "log"
    with (
        log.open("w") as told,
        subprocess.Popen(plane.command(*words), env=plane.environment, stdout=told, stderr=told) as waiting,
    ):
        wait_for("it watches", lambda: "watch=true" in log.read_text())
        endpoints.kubectl("delete", KIND, "web")
    assert (waiting.returncode, "condition met" in log.read_text()) == (0, True)


def test_all_namespaces_and_selectors(endpoints: Endpoints, plane: ControlPlane) -> None:
    endpoints.dump(OTHER_UID)
    endpoints.create("a")
    endpoints.create("b", OTHER_UID)
    endpoints.kubectl("label", KIND, "b", "team=b")
    everywhere = plane.kubectl("get", KIND, "-A", "-o", "jsonpath={.items[*].metadata.namespace}").split()
    assert everywhere.count(endpoints.namespace) == 2
    assert endpoints.listed("-l", "team in (b,c)") == ["b"]
    assert endpoints.listed("-l", "!team") == ["a"]
    assert endpoints.listed("--field-selector=metadata.name=a") == ["a"]
    assert endpoints.listed(f"--field-selector=spec.poduid={OTHER_UID}") == ["b"]
    assert "field label not supported" in endpoints.kubectl("get", KIND, "--field-selector=spec.x=y", code=1)


def test_columns(endpoints: Endpoints) -> None:
    endpoints.create()
    summary = {"containerNames": "app,side", "dumps": 2, "size": "64Mi", "downloadSize": "5.1Mi"}
    last = {"reason": "SIGSEGV", "executable": "/usr/bin/web", "lastCrash": "2026-01-31T12:00:00Z"}
    patch = json.dumps({"status": summary | last})
    endpoints.kubectl("patch", STORED, "web", "--subresource=status", "--type=merge", "-p", patch)
    for kind in (KIND, names.SHORT, "coredump"):
        [titles, *rows] = (re.split(" {2,}", line.strip()) for line in _wide(endpoints, kind))
        assert titles == ["NAME", *COLUMNS, "DOWNLOAD", "EXECUTABLE", "POD UID"]
        [[name, containers, dumps, size, _, reason, _, *wide]] = rows
        assert [name, containers, dumps, size, reason] == ["web", "app,side", "2", "64Mi", "SIGSEGV"]
        assert wide == ["5.1Mi", "/usr/bin/web", UID]


def _wide(endpoints: Endpoints, kind: str) -> list[str]:
    return endpoints.kubectl("get", kind, "-o", "wide").splitlines()


@pytest.mark.parametrize("version", [names.VERSION, names.STORED])
def test_explain(plane: ControlPlane, product: Product, version: str) -> None:
    explain = ("explain", f"--api-version={names.GROUP}/{version}")
    tree = plane.kubectl(*explain, names.RESOURCE, "--recursive")
    assert re.search(r"spec\t<Object>.*\n    poduid\t<string>", tree)
    assert "truncated\t<string>" in tree
    assert "UID of the pod" in plane.kubectl(*explain, f"{names.RESOURCE}.spec.poduid")


def test_answers_in_the_form_that_metadata_clients_ask_for(endpoints: Endpoints) -> None:
    endpoints.create()
    for name, suffix in (("web", ""), ("", "List")):
        form = METADATA.format(suffix)
        accept = f"{PROTOBUF};{form},application/json;{form},application/json"
        code, found, _ = endpoints.request("GET", name, Accept=accept)
        assert (code, found["kind"]) == (200, f"PartialObjectMetadata{suffix}")
    [item] = found["items"]
    assert (item["metadata"]["name"], "spec" in item) == ("web", False)
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    _, found, _ = endpoints.request("GET", query="?includeObject=Object", Accept=table)
    assert found["rows"][0]["object"]["apiVersion"] == names.API_VERSION
    code, status, _ = endpoints.request("GET", Accept=PROTOBUF)
    assert (code, status["reason"]) == (406, "NotAcceptable")


def test_what_is_not_there(endpoints: Endpoints) -> None:
    refused = endpoints.kubectl("get", KIND, "none", code=1)
    assert 'coredumpendpoints.coredump.fujitsu.com "none" not found' in refused
    for method in ("GET", "DELETE"):
        code, status, _ = endpoints.request(method, "none")
        assert (code, status["reason"], status["details"]["group"]) == (404, "NotFound", names.GROUP)
    assert endpoints.request("GET", "web/status")[0] == 404
    assert endpoints.request("POST", "web")[0] == 405


# Deleting.


def test_delete_with_preconditions_and_options(endpoints: Endpoints) -> None:
    endpoints.create()
    options = {"apiVersion": names.API_VERSION, "kind": "DeleteOptions", "preconditions": {"uid": UID}}
    json_type = "application/json"
    code, status, _ = endpoints.request("DELETE", "web", json.dumps(options).encode(), Content_Type=json_type)
    assert (code, status["reason"]) == (409, "Conflict")
    code, _, _ = endpoints.request(
        "DELETE", "web", _in_protobuf("v1", "DeleteOptions"), Content_Type=PROTOBUF
    )
    assert (code, endpoints.listed()) == (200, [])


def _in_protobuf(version: str, kind: str) -> bytes:
    """Return an object without any field set (apimachinery, runtime.Unknown)."""
    meta = b"".join(bytes([tag, len(text)]) + text.encode() for tag, text in ((10, version), (18, kind)))
    return b"k8s\0" + bytes([10, len(meta)]) + meta + bytes([18, 0])


def test_delete_collections(endpoints: Endpoints) -> None:
    for name in "abcd":
        endpoints.create(name)
    endpoints.kubectl("label", KIND, "a", "b", "team=x")
    code, deleted, _ = endpoints.request("DELETE", query="?labelSelector=team%3Dx")
    assert code == 200
    assert [item["apiVersion"] for item in deleted["items"]] == [names.API_VERSION] * 2
    assert endpoints.listed() == ["c", "d"]
    endpoints.kubectl("delete", KIND, "--all")
    assert endpoints.listed() == []


def test_garbage_collection_follows_the_owner(endpoints: Endpoints) -> None:
    uid = endpoints.pod("owner")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": uid}
    endpoints.kubectl("create", "-f", "-", stdin=endpoints.manifest(ownerReferences=[owner]))
    endpoints.kubectl("delete", "pod", "owner", "--grace-period=0", "--force")
    wait_for("the endpoint goes with its owner", lambda: not endpoints.listed(), 60)


def test_who_wrote_what_is_told_by_the_clients_name(endpoints: Endpoints) -> None:
    body = endpoints.manifest().encode()
    headers = {"Content_Type": "application/json", "User_Agent": "my-tool/1.0"}
    _, made, _ = endpoints.request("POST", "", body, **headers)
    assert [each["manager"] for each in made["metadata"]["managedFields"]] == ["my-tool"]
    assert {each["apiVersion"] for each in made["metadata"]["managedFields"]} == {"coredump.fujitsu.com/v1"}
