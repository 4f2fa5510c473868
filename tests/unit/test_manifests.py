"""The manifests: what can be said of them without a cluster. Rights of the shim: test_rights."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from coredump_shim import names

MANIFESTS = Path(__file__).parents[2] / "manifests"
FILES = sorted(set((MANIFESTS / "api").glob("*.yaml")) - {MANIFESTS / "api/kustomization.yaml"})
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-{}"
Object = dict[str, Any]


def read(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(kind: str) -> list[Object]:
    return [found for found in chain.from_iterable(map(read, FILES)) if found["kind"] == kind]


def one(kind: str) -> Object:
    (found,) = of_kind(kind)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_kind_in_each_file_that_is_named_after_it(path: Path) -> None:
    assert {found["kind"].lower() for found in read(path)} == {path.stem}


@pytest.mark.parametrize("directory", ["api", "example"])
def test_kustomization_names_every_file(directory: str) -> None:
    there = {path.name for path in (MANIFESTS / directory).glob("*.yaml")} - {"kustomization.yaml"}
    (kustomization,) = read(MANIFESTS / directory / "kustomization.yaml")
    named = (
        kustomization["resources"] if directory == "api" else [p["path"] for p in kustomization["patches"]]
    )
    assert sorted(named) == sorted(there)


def test_names_are_those_of_the_programs() -> None:
    service = {"namespace": names.SYSTEM_NAMESPACE, "name": names.SERVICE}
    assert one("Namespace")["metadata"]["name"] == names.SYSTEM_NAMESPACE
    for kind in ("Service", "EndpointSlice", "Endpoints"):
        metadata = one(kind)["metadata"]
        assert {key: metadata[key] for key in service} == service
    assert one("EndpointSlice")["metadata"]["labels"]["kubernetes.io/service-name"] == names.SERVICE
    assert one("APIService")["metadata"]["name"] == f"{names.VERSION}.{names.GROUP}"
    assert one("APIService")["spec"]["service"] == service | {
        "port": one("Service")["spec"]["ports"][0]["port"]
    }
    assert one("APIService")["spec"]["group"] == names.GROUP
    assert one("APIService")["spec"]["version"] == names.VERSION
    accounts = {found["metadata"]["name"] for found in of_kind("ServiceAccount")}
    assert accounts == {names.SERVICE, names.MANAGER}


def test_ports_have_one_name_by_which_they_are_found() -> None:
    ports = [
        *one("Service")["spec"]["ports"],
        *one("EndpointSlice")["ports"],
        *one("Endpoints")["subsets"][0]["ports"],
    ]
    assert {port["name"] for port in ports} == {"https"}
    assert "selector" not in one("Service")["spec"]


def test_the_stored_version_is_preferred_and_the_certificate_is_verified() -> None:
    spec = one("APIService")["spec"]
    assert (
        spec["versionPriority"] < 100
    )  # what a CRD's version has (kubernetes, crdregistration_controller.go)
    assert "insecureSkipTLSVerify" not in spec
    assert "caBundle" in spec


def test_nothing_is_granted_by_a_wildcard_and_no_role_grants_more_than_it_needs_in_all_namespaces() -> None:
    for role in of_kind("ClusterRole") + of_kind("Role"):
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], role["metadata"]["name"]
            assert not {"secrets", "pods/exec", "configmaps"} & set(rule["resources"])
            assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])


def granted(to: str) -> set[tuple[str, str]]:
    """Return resource and verb of what the user-facing role, view or edit or admin, gets from ours."""
    return {
        (resource, verb)
        for role in of_kind("ClusterRole")
        if AGGREGATE.format(to) in role["metadata"].get("labels", {})
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_who_may_view_sees_endpoints_and_gets_no_dump() -> None:
    assert granted("view") == {(names.RESOURCE, verb) for verb in ("get", "list", "watch")}


def test_the_controller_changes_only_what_is_named_in_the_system_namespace() -> None:
    (role,) = (role for role in of_kind("Role") if role["metadata"]["name"] == names.MANAGER)
    unnamed = [rule for rule in role["rules"] if not rule.get("resourceNames")]
    assert [(rule["resources"], rule["verbs"]) for rule in unnamed] == [(["leases"], ["create"])]


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_who_may_edit_gets_and_purges_dumps(role: str) -> None:
    dumps = {(f"{names.RESOURCE}/{sub}", verb) for sub in ("dump", "proxy") for verb in ("get", "delete")}
    changes = {(names.RESOURCE, verb) for verb in ("create", "update", "patch", "delete", "deletecollection")}
    assert granted(role) == dumps | changes


def test_no_other_role_grants_dumps() -> None:
    roles = [
        role["metadata"]["name"]
        for role in of_kind("ClusterRole") + of_kind("Role")
        if any("/dump" in each or "/proxy" in each for rule in role["rules"] for each in rule["resources"])
    ]
    assert roles == ["coredump-editor"]


def test_every_binding_names_a_role_that_is_there_and_an_account() -> None:
    roles = {(role["kind"], role["metadata"]["name"]) for role in of_kind("ClusterRole") + of_kind("Role")}
    everywhere = {
        ("ClusterRole", "system:auth-delegator"),
        ("Role", "extension-apiserver-authentication-reader"),
    }
    accounts = {
        (found["metadata"]["namespace"], found["metadata"]["name"]) for found in of_kind("ServiceAccount")
    }
    for binding in of_kind("ClusterRoleBinding") + of_kind("RoleBinding"):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles | everywhere
        assert {(subject["namespace"], subject["name"]) for subject in binding["subjects"]} <= accounts


def test_what_an_overlay_must_fill_in_is_nothing_that_kube_apiserver_takes() -> None:
    """Applied alone, it makes no APIService: one without a gateway holds up every namespace's deletion."""
    (address,) = one("EndpointSlice")["endpoints"][0]["addresses"]
    for value in (address, one("APIService")["spec"]["caBundle"]):
        assert " " in value
