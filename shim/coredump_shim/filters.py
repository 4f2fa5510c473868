"""Which objects a caller asks for: label and field selectors.

Not here: which dumps of an endpoint (selection).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from coredump_shim.endpoint import Object
from coredump_shim.status import bad_request, shown

Filter = Callable[[Object], bool]

_KEY = r"(?P<key>[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?)"
_VALUE = r"[A-Za-z0-9]?[-A-Za-z0-9_.]*"
_EQUALS = re.compile(rf"{_KEY}\s*(?P<operator>==|=|!=)\s*(?P<value>{_VALUE})\Z")
_SET = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)\Z")
_EXISTS = re.compile(rf"(?P<operator>!?)\s*{_KEY}\Z")
_COMMA = re.compile(r",(?![^()]*\))")

_FIELDS = ("metadata.name", "metadata.namespace")


def both(labels: str | None, fields: str | None) -> Filter:
    """Return what tells the objects that `labelSelector` and `fieldSelector` mean. Raises ApiError 400."""
    filters = [*map(_label_filter, _parts(labels)), *map(_field_filter, _parts(fields))]
    return lambda thing: all(wanted(thing) for wanted in filters)


def _parts(selector: str | None) -> Iterable[str]:
    return [part.strip() for part in _COMMA.split(selector)] if selector else []


def _label_filter(part: str) -> Filter:
    if match := _EQUALS.match(part):
        negated, values = match["operator"] == "!=", {match["value"]}
    elif match := _SET.match(part):
        negated, values = match["operator"] == "notin", set(re.split(r"\s*,\s*", match["values"].strip()))
    elif match := _EXISTS.match(part):
        return partial(_has_label, match["key"], match["operator"] == "!")
    else:
        sentence = f"{shown(part)} is not one of a=b, a!=b, a in (b,c), a notin (b), a, !a"
        raise bad_request("labelSelector", sentence)
    return partial(_label_is, match["key"], values, negated)


def _has_label(key: str, negated: bool, thing: Object) -> bool:
    return (key in thing["metadata"].get("labels", {})) is not negated


def _label_is(key: str, values: set[str], negated: bool, thing: Object) -> bool:
    return (thing["metadata"].get("labels", {}).get(key) in values) is not negated


def _field_filter(part: str) -> Filter:
    match = re.match(r"(?P<field>[^=!]+)(?P<operator>==|=|!=)(?P<value>.*)\Z", part, re.DOTALL)
    if match is None or match["field"] not in _FIELDS:
        raise bad_request("fieldSelector", f"{shown(part)} is not known; {' and '.join(_FIELDS)} are")
    key = match["field"].removeprefix("metadata.")
    value, negated = match["value"], match["operator"] == "!="
    return lambda thing: (thing["metadata"][key] == value) is not negated
