"""A finding of the doctor, or of coredump-shim check: what one check found, and what to do about it.

Not here: the checks.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAIL = "ok", "warning", "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    check: str
    """What was looked at."""
    state: str
    """ok; warning: it works, but; FAIL: a crash is lost, a core is not served, or something is in danger."""
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that costs nothing yet."""
    return Finding(check, WARNING, found, remedy)


def fail(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that costs a crash, or a download."""
    return Finding(check, FAIL, found, remedy)


def listed(findings: list[Finding], answer: str) -> str:
    """Return findings for a person, a line each, with the answer last."""
    lines = [
        f"{finding.state:>8}  {finding.check}: {finding.found}"
        + (f"; remedy: {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    wrong = sum(finding.state != OK for finding in findings)
    return "\n".join([*lines, f"{answer}; {wrong} of {len(findings)} checks want a look", ""])
