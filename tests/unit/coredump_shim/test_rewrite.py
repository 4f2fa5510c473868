"""Two versions of one kind: what is renamed, and what must not be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coredump_shim import rewrite
from coredump_shim.status import ApiError

OURS, STORED = "coredump.fujitsu.com/v1alpha1", "coredump.fujitsu.com/v1"


def thing(version: str, **more: Any) -> dict[str, Any]:
    """Return an endpoint whose managed fields and owners speak of the stored version."""
    metadata = {
        "name": "web",
        "annotations": {"said": f'{{"apiVersion":"{STORED}"}}'},
        "managedFields": [{"apiVersion": STORED, "manager": "kubectl"}],
        "ownerReferences": [{"apiVersion": STORED, "kind": "CoredumpEndpoint", "name": "x"}],
    }
    return {"apiVersion": version, "kind": "CoredumpEndpoint", "metadata": metadata} | more


STATUS = {"kind": "Status", "apiVersion": "v1", "message": f"{STORED} is not"}


def table(version: str) -> dict[str, Any]:
    rows = [{"cells": ["web"], "object": thing(version)}, {"cells": ["none"], "object": None}, {"cells": []}]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "rows": rows}


def listed(version: str) -> dict[str, Any]:
    return {"kind": "CoredumpEndpointList", "apiVersion": version, "items": [thing(version)] * 2}


@pytest.mark.parametrize("form", [thing, table, listed, lambda _: STATUS, lambda _: {"items": None}])
def test_to_the_caller(form: Any) -> None:
    stored = form(STORED)
    assert rewrite.to_caller(stored) == form(OURS)
    assert stored == form(STORED)


@pytest.mark.parametrize("form", [thing, table, lambda _: STATUS])
def test_events(form: Any) -> None:
    line = json.dumps({"type": "ADDED", "object": form(STORED)}).encode()
    found = rewrite.event_to_caller(line)
    assert json.loads(found) == {"type": "ADDED", "object": form(OURS)}
    assert (found.count(b"\n"), found[-1:]) == (1, b"\n")


@pytest.mark.parametrize("line", [b"", b"[]", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{', b"\xff"])
def test_what_is_no_event(line: bytes) -> None:
    with pytest.raises(ValueError):
        rewrite.event_to_caller(line)


def test_to_the_server() -> None:
    assert rewrite.to_server(thing(OURS)) == thing(STORED)
    assert rewrite.to_server({"metadata": {}}) == {"metadata": {}}


@pytest.mark.parametrize("version", [STORED, "v1", 7, ["x"]])
def test_another_version_is_refused(version: Any) -> None:
    with pytest.raises(ApiError, match="does not match the expected API version") as refused:
        rewrite.to_server(thing(version))
    assert refused.value.code == 400


def test_a_json_patch_speaks_of_the_stored_version() -> None:
    patch = [
        {"op": "test", "path": "/apiVersion", "value": OURS},
        {"op": "replace", "path": "", "value": thing(OURS)},
        {"op": "add", "path": "/metadata/annotations/a", "value": OURS},
        "nonsense",
    ]
    test, replace, *rest = rewrite.operations_to_server(patch)
    assert (test["value"], replace["value"]) == (STORED, thing(STORED))
    assert rest == patch[2:]
