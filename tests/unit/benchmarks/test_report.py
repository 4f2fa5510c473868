"""What the benchmarks write down."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from benchmarks import report


def test_each_measure_says_when_it_was_run(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    rows = {name: report.alone((name, "case"), "s", 1.0, report.at_most(2)) for name in ("kept", "again")}
    report.write(path, rows.values(), datetime(2026, 1, 31, 12, tzinfo=UTC))
    report.write(path, [rows["again"]], datetime(2026, 2, 1, 14, tzinfo=timezone(timedelta(hours=2))))
    written = json.loads(path.read_text())
    assert written["kept"]["measured"] == "2026-01-31T12:00:00Z"
    assert written["again"]["measured"] == "2026-02-01T12:00:00Z"
    assert written["kept"]["met"] and written["kept"]["ratio"] == 1.0
