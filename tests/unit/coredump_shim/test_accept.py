"""The Accept header as Kubernetes' clients write it."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from coredump_shim import accept, table
from coredump_shim.status import ApiError

KUBECTL = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,"
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io,"
    "application/json"
)
METADATA_CLIENT = (
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,"
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)


def form(header: str | None) -> str:
    headers = [] if header is None else [("Accept", header)]
    return accept.form(Request(EnvironBuilder(headers=headers).get_environ()), accept.META, table.OFFERED)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ""),
        ("", ""),
        ("*/*", ""),
        ("application/json, */*", ""),
        ("text/html,application/xhtml+xml,*/*;q=0.8", ""),
        (KUBECTL, "Table v1"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Table v1beta1"),
        (METADATA_CLIENT, "Metadata v1"),
        ("application/json;as=Unheard;g=meta.k8s.io;v=v1,application/json", ""),
        ("application/json;as=Table;g=other;v=v1,application/json", ""),
        ("application/vnd.kubernetes.protobuf,application/json", ""),
    ],
)
def test_form(header: str | None, expected: str) -> None:
    assert form(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Unheard;g=meta.k8s.io;v=v1",
        "text/html",
        ";",
    ],
)
def test_nothing_that_is_served(header: str) -> None:
    with pytest.raises(ApiError, match="Accept") as caught:
        form(header)
    assert caught.value.code == 406
