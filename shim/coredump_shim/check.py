"""The command `coredump-shim check`: do certificates, ConfigMap, reviews, store and APIService fit together?

Not here: the checks (apicheck, certificatecheck, rightscheck, controllercheck, storecheck).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from coredump_guard.finding import FAIL, Finding, fail, listed
from coredump_shim import (
    apicheck,
    certificatecheck,
    config,
    controllercheck,
    options,
    remedy,
    rightscheck,
    storecheck,
    tokencheck,
)
from coredump_shim.cluster import Cluster
from coredump_shim.installation import Installation
from coredump_shim.status import ApiError

DESCRIPTION = (
    "Say whether certificates, ConfigMap, reviews, store and APIService fit together, and what is to be "
    "done; exit status 1 if they do not. Run it on a gateway, with the shim's own credentials."
)

Check = Callable[[Installation], Finding]

GROUPS: tuple[tuple[Check, ...], ...] = (
    (
        apicheck.server,
        tokencheck.token,
        rightscheck.credentials,
        rightscheck.token_review,
        rightscheck.access_review,
        rightscheck.users_roles,
        apicheck.crd,
        apicheck.apiservice,
        apicheck.service,
        apicheck.gateways,
        certificatecheck.front_proxy,
        certificatecheck.ca_file,
        certificatecheck.serving_certificate,
        certificatecheck.forged_headers,
        apicheck.discovery,
        controllercheck.lease,
    ),
    (
        storecheck.store,
        storecheck.store_complete,
        storecheck.store_writable,
        storecheck.store_owner,
        storecheck.clocks,
    ),
)
"""The checks. Where the first of a group gets no answer, the others would only wait for the same."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_cluster(parser)
    options.add_store(parser)
    parser.add_argument(
        "--run-dir",
        default=config.RUN_DIR,
        metavar="DIR",
        help="the directory that shim and HAProxy share (default: %(default)s)",
    )
    parser.add_argument(
        "--gateway",
        metavar="ADDRESS:PORT",
        help="look at this gateway only (default: all that the Service leads to)",
    )
    parser.set_defaults(log_level="CRITICAL")  # a finding says it


def run(arguments: argparse.Namespace) -> int:
    """Check, print what was found, and return the exit status. Raises ConfigError."""
    gateway = config.parse_listen(arguments.gateway, "--gateway") if arguments.gateway else None
    found = Installation(Cluster(arguments.kubeconfig), arguments.store, arguments.run_dir, gateway)
    findings = examine(found)
    print(render(findings), end="")
    return int(not fits(findings))


def examine(found: Installation) -> list[Finding]:
    """Return what each check found; one that cannot be made has failed."""
    findings: list[Finding] = []
    for group in GROUPS:
        for finding in _group(group, found):
            findings.append(_after(findings, finding))
    return findings


def fits(findings: list[Finding]) -> bool:
    """Whether all that must be is as it must be."""
    return all(finding.state != FAIL for finding in findings)


def render(findings: list[Finding]) -> str:
    """Return the findings for a person, with the answer last."""
    first = next((finding.check for finding in findings if finding.state == FAIL), None)
    return listed(
        findings, f"it does NOT fit together; begin with {first}" if first else "everything fits together"
    )


def _group(checks: tuple[Check, ...], found: Installation) -> list[Finding]:
    findings = []
    for check in checks:
        finding, answered = _made(check, found)
        findings.append(finding)
        if not answered and len(findings) == 1:
            return [finding, _skipped(checks[1:], finding)]
    return findings


def _made(check: Check, found: Installation) -> tuple[Finding, bool]:
    """Return what a check found, and whether it could be made."""
    try:
        return check(found), True
    except (ApiError, OSError, ValueError, KeyError, TypeError) as error:
        return fail(_name(check), *remedy.told(error, found.cluster)), False


def _after(before: list[Finding], finding: Finding) -> Finding:
    """Return a finding; where one before it has failed of the same cause, with that one to mend.

    What refers to another by itself knows better.
    """
    if finding.remedy.startswith("see "):
        return finding
    for one in before:
        if (one.state, one.found) == (FAIL, finding.found) and one.remedy:
            return fail(finding.check, finding.found, f"mend {one.check} first")
    return finding


def _skipped(checks: tuple[Check, ...], first: Finding) -> Finding:
    return fail(", ".join(map(_name, checks)), "not looked at", f"mend {first.check} first")


def _name(check: Check) -> str:
    return check.__name__.replace("_", " ")
