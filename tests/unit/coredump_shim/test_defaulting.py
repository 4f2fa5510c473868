"""Which bodies get a UID, and which are left to kube-apiserver to judge.

Not here: which UID new ones get, for which pods are needed (tests/cluster/test_objects.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from coredump_shim import defaulting

CURRENT = {"metadata": {"uid": "u"}, "spec": {"poduid": "current"}}


@pytest.mark.parametrize("spec", [None, {}, {"poduid": None}, {"poduid": ""}])
def test_a_uid_that_is_left_out_is_the_present_one(spec: Any) -> None:
    assert defaulting.changed({"spec": spec}, CURRENT)["spec"] == {"poduid": "current"}
    assert defaulting.changed({}, CURRENT) == {"spec": {"poduid": "current"}}


@pytest.mark.parametrize("spec", [{"poduid": "x"}, {"poduid": 7}, "text", [1]])
def test_what_is_said_stays(spec: Any) -> None:
    assert defaulting.changed({"spec": spec}, CURRENT) == {"spec": spec}


def test_the_object_that_is_meant() -> None:
    assert defaulting.with_uid({}, "u") == {"metadata": {"uid": "u"}}
    for metadata in ({"uid": "other"}, "text"):
        assert defaulting.with_uid({"metadata": metadata}, "u") == {"metadata": metadata}
