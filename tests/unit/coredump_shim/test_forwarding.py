"""What of a request goes on."""

from __future__ import annotations

import pytest

from coredump_shim import forwarding
from coredump_shim.status import ApiError

FORM = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.mark.parametrize(
    ("header", "passed"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        (
            f"application/vnd.kubernetes.protobuf;{FORM},application/json;{FORM},application/json",
            f"application/json;{FORM}, application/json",
        ),
        ("application/json, */*", "application/json, application/json"),
        ("application/json;stream=watch;charset=utf-8;q=0.5", "application/json;stream=watch"),
        ("application/yaml, application/json", "application/json"),
    ],
)
def test_only_json_is_accepted_for_a_caller(header: str, passed: str) -> None:
    assert forwarding.accepted(header) == passed


@pytest.mark.parametrize("header", ["application/vnd.kubernetes.protobuf", "text/html", "application/cbor"])
def test_who_accepts_no_json(header: str) -> None:
    with pytest.raises(ApiError) as refused:
        forwarding.accepted(header)
    assert refused.value.code == 406


def test_unknown_parameters_stay_behind() -> None:
    given = [("dryRun", "All"), ("pretty", "true"), ("dryRun", "x"), ("Force", "1"), ("watch", "1")]
    assert forwarding.query(given, forwarding.WRITE) == [("dryRun", "All"), ("dryRun", "x")]


def test_names_of_clients_are_bounded() -> None:
    assert forwarding.agent("") == "unknown"
    assert len(forwarding.agent("x" * 10_000)) == forwarding.LONGEST_AGENT
