"""`python -m benchmarks [measure…]`: run them, print the table, write build/bench.json.

The exit status says whether the measures ran, not whether the goals are met: the table says that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    arrival,
    capture,
    cluster,
    collect,
    damping,
    download,
    event,
    health,
    identify,
    idle,
    report,
    storm,
)

MEASURES: dict[str, Callable[[Path], list[report.Row]]] = {
    "capture_rate": capture.measure,
    "release_rate": capture.measure,
    "storm": storm.measure,
    "idle": idle.measure,
    "arrival": arrival.measure,
    "damping": damping.measure,
    "identify": identify.measure,
    "download": download.measure,
    "first_byte": download.measure,
    "health": health.measure,
    "collect": collect.measure,
    "cluster": cluster.measure,
    "event": event.measure,
}
RESULT = Path("build/bench.json")
SCRATCH = "/var/tmp"  # noqa: S108 # a real file system, and gigabytes of it; /tmp may be memory
PREFIX = "coredump-guard-bench-"


def main() -> None:
    """Run what the command line names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="measure", help=", ".join(MEASURES))
    names = parser.parse_args().measures or list(MEASURES)
    for name in names:
        if name not in MEASURES:
            parser.error(f"measure {name!r} is not one of {', '.join(MEASURES)}")
    rows: list[report.Row] = []
    begun = datetime.now(UTC)
    for run in dict.fromkeys(MEASURES[name] for name in names):
        rows += [row for row in _run(run) if row.measure in names]
        report.write(RESULT, rows, begun)
    print(report.table(rows))


def _run(run: Callable[[Path], list[report.Row]]) -> list[report.Row]:
    begun = time.monotonic()
    print(f"{run.__module__} …", end=" ", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix=PREFIX) as scratch:
        rows = run(Path(scratch))
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


main()
