"""Protobuf, read back by protobuf's own decoder with the field numbers of gnostic."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped] # no stubs
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

from coredump_shim import gnostic, openapi

MESSAGES = {
    "Document": {
        "swagger": (1, ""),
        "info": (2, "Info"),
        "paths": (8, "Paths"),
        "definitions": (9, "NamedSchemas"),
    },
    "Info": {"title": (1, ""), "version": (2, "")},
    "Paths": {"path": (2, "*NamedPathItem")},
    "NamedPathItem": {"name": (1, ""), "value": (2, "PathItem")},
    "PathItem": {"patch": (8, "Operation")},
    "Operation": {"parameters": (8, "*ParametersItem"), "vendor_extension": (13, "*NamedAny")},
    "ParametersItem": {"parameter": (1, "Parameter")},
    "Parameter": {"non_body_parameter": (2, "NonBodyParameter")},
    "NonBodyParameter": {"query": (3, "Query")},
    "Query": {"in": (2, ""), "name": (4, "")},
    "NamedSchemas": {"additional_properties": (1, "*NamedSchema")},
    "NamedSchema": {"name": (1, ""), "value": (2, "Schema")},
    "Schema": {
        "format": (2, ""),
        "description": (4, ""),
        "required": (19, "*"),
        "additional_properties": (21, "AdditionalPropertiesItem"),
        "type": (22, "TypeItem"),
        "items": (23, "ItemsItem"),
        "properties": (25, "NamedSchemas"),
        "vendor_extension": (31, "*NamedAny"),
    },
    "AdditionalPropertiesItem": {"schema": (1, "Schema")},
    "TypeItem": {"value": (1, "*")},
    "ItemsItem": {"schema": (1, "*Schema")},
    "NamedAny": {"name": (1, ""), "value": (2, "Any")},
    "Any": {"yaml": (2, "")},
}
"""Of each message its fields: number, and type; "" is a string, * a repeated field."""


def decoder() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="gnostic.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            inner = kind.lstrip("*")
            message.field.add(
                name=field,
                number=number,
                label=kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL,
                type=kinds.TYPE_MESSAGE if inner else kinds.TYPE_STRING,
                type_name=f".t.{inner}" if inner else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Document"))()


def schema_of(message: Any) -> dict[str, Any]:
    """Return a decoded Schema as the document had it."""
    found: dict[str, Any] = {"type": message.type.value[0]}
    for key in ("format", "description"):
        if getattr(message, key):
            found[key] = getattr(message, key)
    if message.required:
        found["required"] = list(message.required)
    if message.HasField("additional_properties"):
        found["additionalProperties"] = schema_of(message.additional_properties.schema)
    if message.HasField("items"):
        found["items"] = schema_of(message.items.schema[0])
    if message.HasField("properties"):
        found["properties"] = {
            each.name: schema_of(each.value) for each in message.properties.additional_properties
        }
    return found | extensions_of(message)


def extensions_of(message: Any) -> dict[str, Any]:
    return {each.name: json.loads(each.value.yaml) for each in message.vendor_extension}


def without_bounds(described: Any) -> Any:
    """Return a schema without what kubectl leaves to the server."""
    if not isinstance(described, dict):
        return described
    bounds = ("minLength", "maxLength", "pattern", "maxItems")
    return {key: without_bounds(value) for key, value in described.items() if key not in bounds}


def test_document_comes_back() -> None:
    document = openapi.version_2()
    read = decoder()
    read.ParseFromString(gnostic.encode(document))
    assert (read.swagger, read.info.title) == ("2.0", "coredump-shim")
    definitions = {each.name: schema_of(each.value) for each in read.definitions.additional_properties}
    assert definitions == without_bounds(document["definitions"])


def test_patch_tells_its_kind_and_that_dry_runs_are_safe() -> None:
    read = decoder()
    read.ParseFromString(gnostic.encode(openapi.version_2()))
    [path] = read.paths.path
    operation = path.value.patch
    assert extensions_of(operation)["x-kubernetes-group-version-kind"]["kind"] == "CoredumpEndpoint"
    queries = [each.parameter.non_body_parameter.query for each in operation.parameters]
    assert {query.name for query in queries} == {"dryRun", "fieldValidation"}
    assert {getattr(query, "in") for query in queries} == {"query"}
