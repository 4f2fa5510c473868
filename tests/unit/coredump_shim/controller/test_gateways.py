"""What is changed of a slice or an Endpoints object, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from coredump_shim.controller import gateways

ONE, TWO = ("198.18.0.1", 6443), ("198.18.0.2", 6443)
SLICE: dict[str, Any] = {
    "metadata": {"name": "coredump-shim-1", "resourceVersion": "7"},
    "ports": [{"name": "https", "port": 6443}],
    "endpoints": [
        {"addresses": [ONE[0]], "nodeName": "a", "conditions": {"ready": True, "serving": True}},
        {"addresses": [TWO[0]]},
    ],
}
ENDPOINTS: dict[str, Any] = {
    "metadata": {"name": "coredump-shim"},
    "subsets": [{"addresses": [{"ip": ONE[0], "nodeName": "a"}, {"ip": TWO[0]}], "ports": [{"port": 6443}]}],
}


def test_a_dead_gateway_is_not_ready_and_nothing_else_changes() -> None:
    made = gateways.changed_slice(SLICE, {ONE: False, TWO: True})
    expected = copy.deepcopy(SLICE)
    expected["endpoints"][0]["conditions"]["ready"] = False
    assert made == expected
    assert gateways.changed_slice(made, {ONE: True, TWO: True}) == SLICE


def test_without_a_condition_a_gateway_is_ready() -> None:
    assert gateways.changed_slice(SLICE, {ONE: True, TWO: True}) == SLICE
    made = gateways.changed_slice(SLICE, {ONE: True, TWO: False})
    assert made["endpoints"][1]["conditions"] == {"ready": False}


def test_endpoints_name_it_in_the_other_list() -> None:
    made = gateways.changed_endpoints(ENDPOINTS, {ONE: False, TWO: True})
    assert made["subsets"] == [
        {
            "addresses": [{"ip": TWO[0]}],
            "notReadyAddresses": [{"ip": ONE[0], "nodeName": "a"}],
            "ports": [{"port": 6443}],
        }
    ]
    back = gateways.changed_endpoints(made, {ONE: True, TWO: True})
    assert sorted(map(str, back["subsets"][0]["addresses"])) == sorted(
        map(str, ENDPOINTS["subsets"][0]["addresses"])
    )
    assert "notReadyAddresses" not in back["subsets"][0]


@pytest.mark.parametrize("seen", [{ONE: False, TWO: False}, {}, {("198.18.0.9", 1): True}])
def test_the_last_one_stays(seen: dict[gateways.Gateway, bool]) -> None:
    assert gateways.changed_slice(SLICE, seen) == SLICE
    assert gateways.changed_endpoints(ENDPOINTS, seen) == ENDPOINTS
    marked = gateways.changed_slice(SLICE, {ONE: False, TWO: True})
    assert gateways.changed_slice(marked, seen) == marked


@pytest.mark.parametrize(
    "empty", [{}, {"ports": None, "endpoints": None}, {"ports": [{"port": 1}], "endpoints": [{}]}]
)
def test_an_empty_slice_has_no_gateways(empty: dict[str, Any]) -> None:
    assert gateways.of_slice(empty) == []


@pytest.mark.parametrize("empty", [{}, {"subsets": None}, {"subsets": [{"addresses": [{"ip": "::1"}]}]}])
def test_empty_endpoints_have_none(empty: dict[str, Any]) -> None:
    assert gateways.of_endpoints(empty) == []
    assert gateways.changed_endpoints(empty, {ONE: True}) == empty
