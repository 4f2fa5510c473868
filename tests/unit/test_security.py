"""docs/security.md against the tests: every test that it names is there, and every lesson has a line."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TEXT = (TESTS.parent / "docs" / "security.md").read_text()
NAMED = re.findall(r"`((?:unit|integration|cluster)/[\w/]+\.py)::(\w+)`", TEXT)


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (TESTS / path).is_file() or f"def {name}(" not in (TESTS / path).read_text()
    ]
    assert len(NAMED) > 45
    assert missing == []


def test_every_lesson_that_a_test_is_named_after_has_a_line() -> None:
    sources = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    lessons = {f"CVE-{year}-{number}" for year, number in re.findall(r"def test_cve_(\d+)_(\d+)", sources)}
    assert lessons
    assert sorted(lesson for lesson in lessons if lesson not in TEXT) == []
