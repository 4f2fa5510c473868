"""A body that goes on to kube-apiserver: read, so that it can be changed, without losing what it says twice.

Not here: what is changed in it (rewrite, defaulting).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

import yaml

from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, bad_request

JSON = "application/json"
YAML = "application/yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY)
"""What kube-apiserver can do to a custom resource, but for CBOR. kubectl sends merge patches where it
finds no strategic ones here."""

MAX_YAML = 64 << 10
"""Bytes of a body in YAML: reading it takes a hundred times as long as JSON."""


class Pairs(dict[str, Any]):
    """An object of which each member is kept, also those of the same name; the last of them counts.

    Whether that is an error is for kube-apiserver to say, as fieldValidation has it.
    """

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = list(pairs)
        super().__init__(self._pairs)

    def items(self) -> Any:
        """Return all of them; what json.dumps writes."""
        return self._pairs


def replaced(thing: Object, key: str, value: Any) -> Object:
    """Return an object with another value for a member, which it may not have had."""
    pairs = [(name, value if name == key else old) for name, old in thing.items()]
    return Pairs(pairs if key in thing else [*pairs, (key, value)])


def from_json(text: bytes) -> Any:
    """Return what JSON says. Raises ApiError 400."""
    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise bad_request("body", f"is not JSON: {error}") from None


def from_yaml(text: bytes) -> Any:
    """Return what YAML, or JSON, says. Raises ApiError 400, or 413 for YAML that would take too long."""
    if text.lstrip()[:1] in (b"{", b"["):
        return from_json(text)
    if len(text) > MAX_YAML:
        raise ApiError(413, f"a body in YAML must be shorter than {MAX_YAML} bytes; send it as JSON")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise bad_request("body", f"is not YAML: {' '.join(str(error).split())}") from None


class _Loader(yaml.SafeLoader):
    """Reads what JSON can say: no aliases, which multiply, and times as the text that they are."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases are not read here")
        return super().compose_node(parent, index)

    def pairs(self, node: yaml.MappingNode) -> Pairs:
        """Return a mapping. Raises ValueError where a key is no text."""
        pairs = [
            (self.construct_object(key), self.construct_object(value, deep=True)) for key, value in node.value
        ]
        for key, _ in pairs:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} must be text; quote it")  # noqa: TRY004 - of the text
        return Pairs(pairs)

    def whole(self, node: yaml.ScalarNode) -> int:
        """Return a whole number. Raises ValueError for one that no field can hold."""
        number = int(self.construct_yaml_int(node))
        if abs(number) >= 1 << 64:
            raise ValueError("a number is too large")
        return number

    def fraction(self, node: yaml.ScalarNode) -> float:
        """Return a number with a fraction. Raises ValueError for what JSON has no word for."""
        return _finite(str(self.construct_yaml_float(node)))

    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "seq", "str")
    } | {
        "tag:yaml.org,2002:map": pairs,
        "tag:yaml.org,2002:int": whole,
        "tag:yaml.org,2002:float": fraction,
    }


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
