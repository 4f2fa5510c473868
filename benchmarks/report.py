"""What a measure found, against its goal: the table people read and the JSON machines read.

Not here: measuring anything.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Goal:
    """A bound that a value must keep."""

    bound: float
    at_least: bool

    def margin(self, value: float) -> float:
        """Return how well the value keeps the bound: 1 or more means met, 2 twice as well as asked."""
        over, under = (value, self.bound) if self.at_least else (self.bound, value)
        return over / under if under else float("inf")

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def at_least(bound: float) -> Goal:
    """Set a lower bound."""
    return Goal(bound, at_least=True)


def at_most(bound: float) -> Goal:
    """Set an upper bound."""
    return Goal(bound, at_least=False)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    case: str
    unit: str
    ours: float
    baseline: float | None
    """None where the goal is for our own figure."""
    ratio: float
    """What the goal is about: ours ÷ baseline, or ours itself where there is none."""
    goal: Goal | None
    """None for what is worth knowing without being asked for."""

    @property
    def met(self) -> bool:
        """Whether the goal is met; a row without one always is."""
        return self.goal is None or self.goal.margin(self.ratio) >= 1


Pairs = Sequence[tuple[float, float]]


def compared(name: tuple[str, str], unit: str, pairs: Pairs, goal: Goal | None) -> Row:
    """Make a row of (ours, baseline) pairs: the medians, and the median of the pairs' ratios."""
    return Row(
        *name,
        unit,
        statistics.median(ours for ours, _ in pairs),
        statistics.median(baseline for _, baseline in pairs),
        statistics.median(ours / baseline for ours, baseline in pairs),
        goal,
    )


def alone(name: tuple[str, str], unit: str, value: float, goal: Goal | None) -> Row:
    """Make a row of a figure that stands for itself."""
    return Row(*name, unit, value, None, value, goal)


def interleave(rounds: int, ours: Callable[[], T], baseline: Callable[[], T]) -> list[tuple[T, T]]:
    """Run both in turn, who begins changing each round, so that the machine's moods strike both."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            other = baseline()
            pairs.append((ours(), other))
        else:
            pairs.append((ours(), baseline()))
    return pairs


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out for a terminal."""
    lines = [("measure", "case", "ours", "baseline", "ratio", "goal", "")]
    for row in rows:
        baseline = "" if row.baseline is None else f"{_short(row.baseline)} {row.unit}"
        ratio = "" if row.baseline is None else _short(row.ratio)
        verdict = "" if row.goal is None else "met" if row.met else "MISSED"
        ours = f"{_short(row.ours)} {row.unit}".rstrip()
        lines.append((row.measure, row.case, ours, baseline, ratio, str(row.goal or ""), verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def summary(rows: Iterable[Row]) -> dict[str, dict[str, object]]:
    """Sum up each measure by the row that keeps its goal least well; all rows follow."""
    measures: dict[str, list[Row]] = {}
    for row in rows:
        measures.setdefault(row.measure, []).append(row)
    return {name: _summed(group) for name, group in measures.items()}


def write(path: Path, rows: Iterable[Row], measured: datetime) -> None:
    """Write the summary of rows to path, keeping the measures that are there and were not run this time.

    Each measure says when it was run, since those of one file may be of different runs.
    """
    known = json.loads(path.read_text()) if path.exists() else {}
    time = measured.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    new = {name: {"measured": time, **found} for name, found in summary(rows).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**known, **new}, indent=1) + "\n")


def _summed(rows: list[Row]) -> dict[str, object]:
    judged = [(row.goal.margin(row.ratio), row.ratio, row.goal.bound) for row in rows if row.goal is not None]
    margin, ratio, goal = min(judged)
    return {"ratio": ratio, "goal": goal, "met": margin >= 1, "rows": [asdict(row) for row in rows]}


def _short(value: float) -> str:
    """Return a number with three digits that mean something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
