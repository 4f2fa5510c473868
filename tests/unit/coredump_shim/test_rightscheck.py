"""What users were given, by the rules of view, edit and admin."""

from __future__ import annotations

from coredump_shim import names, rightscheck
from coredump_shim.endpoint import Object


def rule(
    *resources: str, group: str = names.GROUP, verbs: tuple[str, ...] = ("get", "list", "watch")
) -> Object:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


ENDPOINTS = rule(names.RESOURCE)
DUMPS = rule(f"{names.RESOURCE}/dump", f"{names.RESOURCE}/proxy", verbs=("get", "delete"))
PODS = rule("pods", "pods/log", group="")
RIGHT = {"view": [PODS, ENDPOINTS], "edit": [ENDPOINTS, DUMPS], "admin": [ENDPOINTS, DUMPS]}


def test_what_is_shipped_is_right() -> None:
    assert rightscheck.misgiven(RIGHT) == []


def test_what_was_not_aggregated_is_said() -> None:
    assert rightscheck.misgiven(RIGHT | {"view": [PODS]}) == ["view lacks coredumpendpoints"]
    assert rightscheck.misgiven(RIGHT | {"edit": [ENDPOINTS]}) == [
        "edit lacks coredumpendpoints/dump",
        "edit lacks coredumpendpoints/proxy",
    ]


def test_dumps_for_readers_are_said_however_they_were_given() -> None:
    for given in (
        rule(f"{names.RESOURCE}/dump", verbs=("get",)),
        rule("*", verbs=("get",)),
        rule("*/dump", group="*", verbs=("*",)),
    ):
        wrong = rightscheck.misgiven(RIGHT | {"view": [ENDPOINTS, given]})
        assert "view has coredumpendpoints/dump: readers get others' memory" in wrong


def test_a_rule_for_one_name_gives_nothing_general() -> None:
    assert rightscheck.granted([ENDPOINTS | {"resourceNames": ["web"]}], "") == set()
