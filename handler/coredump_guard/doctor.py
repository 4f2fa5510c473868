"""The doctor: would a crash be captured now? Asks each check and says what is to be done.

Not here: the checks (kernelcheck, doormancheck, placescheck, runtimecheck).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from coredump_guard import doormancheck, kernelcheck, placescheck, runtimecheck
from coredump_guard.config import Config
from coredump_guard.finding import FAIL, Finding, fail, listed

CHECKS: tuple[Callable[[Config], Finding], ...] = (
    kernelcheck.core_pattern,
    kernelcheck.core_pipe_limit,
    kernelcheck.suid_dumpable,
    kernelcheck.core_modes,
    kernelcheck.cgroups,
    kernelcheck.security_modules,
    kernelcheck.sysctl_files,
    doormancheck.guard,
    doormancheck.same_settings,
    doormancheck.interpreter,
    doormancheck.doorman,
    doormancheck.imports,
    doormancheck.links,
    doormancheck.libraries,
    placescheck.spool,
    placescheck.room,
    placescheck.waiting,
    placescheck.reachable,
    placescheck.clock,
    runtimecheck.runtime,
)


def examine(config: Config) -> list[Finding]:
    """Return what each check found; one that cannot be made has failed."""
    return [_made(check, config) for check in CHECKS]


def _made(check: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return check(config)
    except (OSError, ValueError) as error:
        name = check.__name__.replace("_", " ")
        return fail(name, f"cannot be checked: {error}", "mend that, and run doctor again")


def captured(findings: list[Finding]) -> bool:
    """Whether a crash would be captured."""
    return all(finding.state != FAIL for finding in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings for machines."""
    return {"captured": captured(findings), "findings": [asdict(finding) for finding in findings]}


def render(findings: list[Finding]) -> str:
    """Return the findings for a person, with the answer last."""
    return listed(findings, "a crash would be captured" if captured(findings) else "a crash WOULD BE LOST")
