"""The custom resource definition: that what is applied is what the schema says."""

from __future__ import annotations

from pathlib import Path

import yaml

from coredump_shim import crd, table
from coredump_shim.endpoint import Object

MANIFEST = Path(__file__).parents[3] / "manifests/api/customresourcedefinition.yaml"


def test_the_manifest_is_as_it_is_printed() -> None:
    assert MANIFEST.read_text() == crd.text()
    assert yaml.safe_load(MANIFEST.read_text()) == crd.definition()


def test_columns_are_those_of_a_shim_without_a_cluster() -> None:
    [version] = crd.definition()["spec"]["versions"]
    columns = [(each["name"], each.get("priority", 0)) for each in version["additionalPrinterColumns"]]
    assert [("Pod", 0), *columns] == [(each["name"], each["priority"]) for each in table.COLUMNS]


def test_columns_show_fields_that_there_are_and_are_no_lists() -> None:
    [version] = crd.definition()["spec"]["versions"]
    kinds = {"integer": {"integer"}, "string": {"string"}, "date": {"string"}}
    for column in version["additionalPrinterColumns"]:
        if column["name"] != "Age":
            assert _field(column["jsonPath"])["type"] in kinds[column["type"]]
            assert (_field(column["jsonPath"]).get("format") == "date-time") == (column["type"] == "date")
    assert [_field(each["jsonPath"])["type"] for each in version["selectableFields"]] == ["string"]


def _field(path: str) -> Object:
    [version] = crd.definition()["spec"]["versions"]
    found: Object = version["schema"]["openAPIV3Schema"]
    for name in path.removeprefix(".").split("."):
        found = found["properties"][name]
    return found
