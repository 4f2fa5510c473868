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
    names,
    options,
    rightscheck,
    storecheck,
)
from coredump_shim.cluster import Cluster, NotAcceptedError
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
    (storecheck.store, storecheck.store_writable, storecheck.store_owner, storecheck.clocks),
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
    return [finding for group in GROUPS for finding in _group(group, found)]


def fits(findings: list[Finding]) -> bool:
    """Whether all that must be is as it must be."""
    return all(finding.state != FAIL for finding in findings)


def render(findings: list[Finding]) -> str:
    """Return the findings for a person, with the answer last."""
    return listed(findings, "everything fits together" if fits(findings) else "it does NOT fit together")


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
    except ApiError as error:
        # Where nothing answers, whoever asks by the API is told no address and no cause; whoever checks is.
        cause = f" ({found.cluster.server}: {error.__cause__})" if error.__cause__ else ""
        return fail(_name(check), error.message + cause, _remedy(error)), False
    except (OSError, ValueError, KeyError, TypeError) as error:
        return fail(_name(check), f"cannot be checked: {error}", "mend that, and run check again"), False


RENEW = (
    "a token may have ended: write a new one into the kubeconfig (kubectl create token ACCOUNT"
    f" -n {names.SYSTEM_NAMESPACE} --duration 8760h), and start again what uses it"
)


def _remedy(error: ApiError) -> str:
    if isinstance(error, NotAcceptedError):
        return RENEW
    if error.code == 403:
        return f"are these the shim's own credentials? {apicheck.APPLY}"
    if error.code == 404:
        return apicheck.APPLY
    return "is kube-apiserver up, and is this its address? see its log"


def _skipped(checks: tuple[Check, ...], first: Finding) -> Finding:
    return fail(", ".join(map(_name, checks)), "not looked at", f"mend {first.check} first")


def _name(check: Check) -> str:
    return check.__name__.replace("_", " ")
