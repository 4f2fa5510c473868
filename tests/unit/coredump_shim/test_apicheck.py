"""What is wrong with an APIService; the checks themselves are in tests/cluster/test_check.py."""

from __future__ import annotations

import pytest

from coredump_shim import apicheck, names
from coredump_shim.endpoint import Object

OURS = {"namespace": names.SYSTEM_NAMESPACE, "name": names.SERVICE}


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"service": OURS}, ""),
        ({"service": OURS, "insecureSkipTLSVerify": False}, ""),
        ({"service": OURS, "insecureSkipTLSVerify": True}, "does not verify"),
        ({"service": {"namespace": "other", "name": names.SERVICE}}, "leads to service other/coredump-shim"),
        ({}, "served by kube-apiserver itself"),
        ({"service": None}, "served by kube-apiserver itself"),
    ],
)
def test_where_an_apiservice_leads_to(spec: Object, wrong: str) -> None:
    found = apicheck.misdirected({"spec": spec})
    assert found.startswith(wrong) if wrong == "" else wrong in found
    assert bool(found) == bool(wrong)


def test_a_condition_is_found_by_its_kind() -> None:
    thing = {"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}]}}
    assert apicheck.condition(thing, "B") == {"type": "B", "status": "True"}
    assert apicheck.condition(thing, "C") == apicheck.condition({}, "A") == {}
