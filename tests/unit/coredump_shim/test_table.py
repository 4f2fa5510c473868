"""Tables and metadata alone."""

from __future__ import annotations

import pytest

from coredump_shim import table
from coredump_shim.endpoint import Object


def thing(**status: object) -> Object:
    return {
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "7",
        },
        "spec": {"poduid": "uid"},
        "status": {"dumps": 0, "size": "0", "storedBytes": 0, "containers": [], **status},
    }


def cells(each: Object) -> dict[str, object]:
    row = table.one(each, "Table v1")["rows"][0]
    return dict(zip((column["name"] for column in table.COLUMNS), row["cells"], strict=True))


def test_columns_that_people_see() -> None:
    shown = [column["name"].upper() for column in table.COLUMNS if column["priority"] == 0]
    assert shown == ["POD", "CONTAINERS", "DUMPS", "SIZE", "LAST CRASH", "REASON", "AGE"]


def test_cells() -> None:
    found = cells(
        thing(dumps=2, size="64Mi", storedBytes=3 << 20, containers=["app", "side"], reason="SIGSEGV")
    )
    assert (found["Pod"], found["Containers"], found["Dumps"]) == ("web", "app,side", 2)
    assert (found["Size"], found["Download"], found["Reason"]) == ("64Mi", "3.0Mi", "SIGSEGV")


def test_cells_of_an_endpoint_without_dumps() -> None:
    found = cells(thing())
    assert (found["Containers"], found["Last Crash"], found["Reason"]) == ("<none>", "<none>", "<none>")


def test_terminal_is_safe_from_the_crasher() -> None:
    found = cells(thing(executable="/bin/\x1b[2J\n\u202e" + "x" * 5000, reason="\x07"))
    assert all(char.isprintable() for char in f"{found['Executable']}{found['Reason']}")
    assert len(str(found["Executable"])) <= table.LONGEST_CELL + 1


@pytest.mark.parametrize(
    ("include", "kind"),
    [("", "PartialObjectMetadata"), ("Metadata", "PartialObjectMetadata"), ("None", None)],
)
def test_row_carries_as_much_as_is_asked_for(include: str, kind: str | None) -> None:
    row = table.many([thing()], {}, "Table v1beta1", include)["rows"][0]
    assert row.get("object", {}).get("kind") == kind


def test_row_carries_the_object() -> None:
    assert table.one(thing(), "Table v1", "Object")["rows"][0]["object"] == thing()


def test_metadata_alone() -> None:
    found = table.many([thing()], {"resourceVersion": "9"}, "Metadata v1")
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert found["items"] == [
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": thing()["metadata"]}
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 720, "3h12m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (2 * 86400 + 5 * 3600, "2d5h"),
        (8 * 86400, "8d"),
        (700 * 86400, "700d"),
        (750 * 86400, "2y20d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_duration(seconds: int, text: str) -> None:
    assert table.duration(seconds) == text
