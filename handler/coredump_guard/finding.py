"""A finding of the doctor: what one check found, and what to do about it. Not here: the checks."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAIL = "ok", "warning", "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    check: str
    """What was looked at."""
    state: str
    """ok; warning: a crash would be captured, but; FAIL: it would be lost, or the node is in danger."""
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that costs no crash."""
    return Finding(check, WARNING, found, remedy)


def fail(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that costs a crash."""
    return Finding(check, FAIL, found, remedy)
