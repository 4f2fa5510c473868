"""The documents against the code: every field of the record and every setting is there, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from coredump_guard import config, record

CHECKOUT = Path(__file__).resolve().parents[2]
RECORD = (CHECKOUT / "docs" / "record.md").read_text()
README = (CHECKOUT / "README.md").read_text()

KINDS = [
    record.Record,
    record.Identity,
    record.Process,
    record.Thread,
    record.Module,
    record.Signal,
    record.Core,
    record.Capture,
]

IN_WORDS = {
    ("guard", "node"): "the machine's host name",
    ("guard", "interpreter"): "the Python that runs coredump-guard",
}
"""Defaults that differ from machine to machine."""


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows that begin with code: no header, no ruler."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def section(text: str, title: str) -> str:
    """Return what stands between a heading and the next one."""
    return re.split(r"^#+ ", text.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_field_of_the_record_is_described_and_no_other() -> None:
    described = {
        kind.__name__: [row[0].strip("`") for row in rows(section(RECORD, kind.__name__))] for kind in KINDS
    }
    there = {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in KINDS}
    assert described == there


def test_the_described_kinds_are_all_that_a_record_has() -> None:
    defined = {thing for thing in vars(record).values() if dataclasses.is_dataclass(thing)}
    assert defined == set(KINDS)


def test_the_example_is_a_record_as_the_node_writes_it() -> None:
    text = RECORD.split("```json\n", 1)[1].split("```", 1)[0]
    assert record.Record.from_json(text).to_json() == text
    assert json.loads(text)["schema"] == record.SCHEMA


def test_every_setting_is_listed_with_its_true_default_and_no_other() -> None:
    listed = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(section(README, "Configuration"))}
    true = {
        f"[{section}] {key}": "must be given" if default is None else default or "none"
        for (section, key), (default, _) in config.SETTINGS.items()
    }
    true |= {f"[{section}] {key}": words for (section, key), words in IN_WORDS.items()}
    assert listed == true


def test_every_module_that_the_documents_name_is_there() -> None:
    documents = [CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
    named = {name for path in documents for name in re.findall(r"`([\w/]+\.py)`", path.read_text())}
    roots = [
        CHECKOUT / "handler" / "coredump_guard",
        CHECKOUT / "shim" / "coredump_shim",
        CHECKOUT / "tests/unit",
    ]
    roots += [CHECKOUT, CHECKOUT / "handler", CHECKOUT / "shim"]
    assert named
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []
