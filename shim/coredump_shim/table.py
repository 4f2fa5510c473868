"""The forms of an answer: the objects themselves, a Table for people, or the metadata alone.

Not here: which form is wanted (accept), and what an endpoint says (endpoint).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from coredump_shim import accept, names
from coredump_shim.endpoint import Object, quantity

OFFERED = {
    ("Table", "v1"): "Table v1",
    ("Table", "v1beta1"): "Table v1beta1",
    ("PartialObjectMetadata", "v1"): "Metadata v1",
    ("PartialObjectMetadata", "v1beta1"): "Metadata v1beta1",
    ("PartialObjectMetadataList", "v1"): "Metadata v1",
    ("PartialObjectMetadataList", "v1beta1"): "Metadata v1beta1",
}

LONGEST_CELL = 100


def _column(name: str, description: str, kind: str = "string", priority: int = 0) -> Object:
    form = "name" if name == "Pod" else ""
    return {
        "name": name,
        "type": kind,
        "format": form,
        "description": description,
        "priority": priority,
    }


COLUMNS = [
    _column("Pod", "Name of the pod that crashed"),
    _column("Containers", "Its containers that have dumps"),
    _column("Dumps", "How many cores are stored", "integer"),
    _column("Size", "The size of the cores, uncompressed"),
    _column("Last Crash", "How long ago it crashed last"),
    _column("Reason", "The signal of the last crash"),
    _column("Age", "How long ago it crashed first"),
    _column("Download", "The size of the cores as they are sent, compressed", priority=1),
    _column("Executable", "The program that crashed last", priority=1),
    _column("Pod UID", "The pod's UID", priority=1),
]
"""kubectl prints the names in capitals; those of priority 1 with `-o wide` only."""


def one(thing: Object, form: str, include: str = "") -> Object:
    """Return one object in this form; `include` is a Table's includeObject."""
    kind, _, version = form.partition(" ")
    if kind == "Table":
        return _table(
            [thing], version, include, {"resourceVersion": thing["metadata"].get("resourceVersion", "")}
        )
    return _metadata(thing, version) if kind == "Metadata" else thing


def many(things: Sequence[Object], metadata: Object, form: str, include: str = "") -> Object:
    """Return a list of objects in this form; metadata is the list's: resourceVersion, continue."""
    kind, _, version = form.partition(" ")
    if kind == "Table":
        return _table(things, version, include, metadata)
    if kind == "Metadata":
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"{accept.META}/{version}",
            "metadata": metadata,
            "items": [_metadata(thing, version) for thing in things],
        }
    return {
        "kind": f"{names.KIND}List",
        "apiVersion": names.API_VERSION,
        "metadata": metadata,
        "items": list(things),
    }


def _table(things: Sequence[Object], version: str, include: str, metadata: Object) -> Object:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "kind": "Table",
        "apiVersion": f"{accept.META}/{version}",
        "metadata": metadata,
        "columnDefinitions": COLUMNS,
        "rows": [_row(thing, version, include, now) for thing in things],
    }


def _row(thing: Object, version: str, include: str, now: datetime.datetime) -> Object:
    row: Object = {"cells": _cells(thing, now)}
    if include == "Object":
        row["object"] = thing
    elif include != "None":
        row["object"] = _metadata(thing, version)
    return row


def _cells(thing: Object, now: datetime.datetime) -> list[Any]:
    metadata, status = thing["metadata"], thing["status"]
    return [
        metadata["name"],
        _printable(",".join(status["containers"])),
        status["dumps"],
        status["size"],
        _ago(status.get("lastCrash"), now),
        _printable(status.get("reason", "")),
        _ago(metadata["creationTimestamp"], now),
        quantity(status["storedBytes"]),
        _printable(status.get("executable", "")),
        _printable(thing["spec"]["poduid"]),
    ]


def _metadata(thing: Object, version: str) -> Object:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"{accept.META}/{version}",
        "metadata": thing["metadata"],
    }


def _printable(text: str) -> str:
    """Return what a terminal can show: older kubectl prints a crasher's escape sequences as they are."""
    cut = text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut) or "<none>"


def _ago(time: str | None, now: datetime.datetime) -> str:
    if time is None:
        return "<none>"
    return duration(int((now - datetime.datetime.fromisoformat(time)).total_seconds()))


def duration(seconds: int) -> str:
    """Return a time span as kubectl writes ages (apimachinery's HumanDuration): 42s, 7m, 3h12m, 2d5h."""
    for limit, unit, name, lesser, lesser_name in _SPANS:
        if seconds < limit:
            rest = seconds % unit // lesser if lesser else 0
            return f"{max(seconds, 0) // unit}{name}" + (f"{rest}{lesser_name}" if rest > 0 else "")
    return f"{seconds // _YEAR}y"


_HOUR, _DAY, _YEAR = 3600, 86400, 365 * 86400
_SPANS = [
    (120, 1, "s", 0, ""),
    (600, 60, "m", 1, "s"),
    (3 * _HOUR, 60, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", 60, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
]
"""Below a limit in seconds: the unit, its letter, and the smaller unit that is told as well."""
