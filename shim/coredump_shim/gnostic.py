"""An OpenAPI version 2 document in protobuf, the only form that kubectl before 1.27 reads.

Not here: what the document says (openapi). Encoded is what kubectl looks at: the definitions, and of each
PATCH operation its kind and query parameters, by which kubectl knows whether `--dry-run=server` is safe.

Field numbers: github.com/google/gnostic-models, openapiv2/OpenAPIv2.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from coredump_shim.endpoint import Object


def encode(document: Object) -> bytes:
    """Return a version 2 document as the protobuf message Document."""
    info = document["info"]
    paths = (_patch(path, operations["patch"]) for path, operations in _patched(document["paths"]))
    definitions = (_named(name, _schema(schema)) for name, schema in document["definitions"].items())
    return (
        _text(1, document["swagger"])
        + _field(2, _text(1, info["title"]) + _text(2, info["version"]))
        + _field(8, _repeated(2, paths))
        + _field(9, _repeated(1, definitions))
    )


def _patched(paths: Object) -> Iterable[tuple[str, Object]]:
    return ((path, operations) for path, operations in paths.items() if "patch" in operations)


def _patch(path: str, operation: Object) -> bytes:
    """Return a NamedPathItem: PathItem.patch is an Operation with its queries and extensions."""
    queries = (each["name"] for each in operation["parameters"] if each["in"] == "query")
    # ParametersItem.parameter, Parameter.non_body_parameter, NonBodyParameter.query, QueryParameter.name
    parameters = (_field(1, _field(2, _field(3, _text(2, "query") + _text(4, name)))) for name in queries)
    value = _repeated(8, parameters) + _repeated(13, _extensions(operation))
    return _named(path, _field(8, value))


def _schema(schema: Object) -> bytes:
    encoded = b"".join(
        _text(number, schema[key]) for number, key in ((2, "format"), (4, "description")) if key in schema
    )
    encoded += _repeated(19, (name.encode() for name in schema.get("required", ())))
    if "additionalProperties" in schema:
        encoded += _field(21, _field(1, _schema(schema["additionalProperties"])))
    encoded += _field(22, _text(1, schema["type"]))
    if "items" in schema:
        encoded += _field(23, _field(1, _schema(schema["items"])))
    if "properties" in schema:
        properties = (_named(name, _schema(inner)) for name, inner in schema["properties"].items())
        encoded += _field(25, _repeated(1, properties))
    return encoded + _repeated(31, _extensions(schema))


def _extensions(thing: Object) -> Iterable[bytes]:
    """Yield NamedAny messages, whose value is YAML, and so may be JSON."""
    return (_named(key, _text(2, json.dumps(value))) for key, value in thing.items() if key.startswith("x-"))


def _named(name: str, value: bytes) -> bytes:
    """Return any of the messages that are a name, 1, and a value, 2."""
    return _text(1, name) + _field(2, value)


def _repeated(number: int, messages: Iterable[bytes]) -> bytes:
    return b"".join(_field(number, message) for message in messages)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low = bytearray()
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])
