"""The checks of certificates: whom the gateways take for kube-apiserver, and whom it takes for a gateway.

Not here: reading them (certificates).
"""

from __future__ import annotations

import datetime
import os
import shlex

from coredump_guard.finding import Finding, fail, ok, warning
from coredump_shim import certificates, names, rundir
from coredump_shim.apicheck import words
from coredump_shim.installation import HOST, PATIENCE, Address, Installation

SOON = 30 * 86400.0
"""Seconds before its end from which on a certificate is spoken of."""

TAKEN = "is that HAProxy, and does it speak TLS? Its connections may all be taken: see its log, restart it"
FORGED = {"X-Remote-User": "system:admin", "X-Remote-Group": "system:masters"}
FLAGS = "start kube-apiserver with --requestheader-client-ca-file and its fellows (aggregation layer)"


def front_proxy(found: Installation) -> Finding:
    """Check that the cluster says by which CA kube-apiserver shows itself, and that it is valid."""
    check = "front proxy"
    try:
        front = found.front
        valid = max(certificates.authorities(front.ca), key=lambda one: one.expires)
    except ValueError as error:
        return fail(check, f"ConfigMap extension-apiserver-authentication: {error}", FLAGS)
    if not front.user_headers:
        return fail(check, "the ConfigMap has no requestheader-username-headers", FLAGS)
    return _lasting(
        check, f"{valid.subject} is", valid.expires, found.now, "renew the cluster's front-proxy CA"
    )


def ca_file(found: Installation) -> Finding:
    """Check that HAProxy's copy of that CA is the live one."""
    check, path = "ca file", rundir.path(found.run_dir, rundir.REQUESTHEADER_CA)
    remedy = f"{_start(found)}; it keeps this file so, in the --run-dir that it is given"
    if not os.path.isdir(found.run_dir):
        said = f"there is no directory {found.run_dir}, which shim and HAProxy of a gateway share"
        return warning(check, said, "on a gateway name it by --run-dir; elsewhere there is none to look at")
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            same = certificates.are_same(file.read(), found.front.ca)
    except OSError as error:
        return fail(check, f"{path}: {error.strerror}", remedy)
    except ValueError as error:
        return fail(check, f"{path} or the ConfigMap's {error}", remedy)
    if not same:
        said = f"{path} is not what the ConfigMap has: kube-apiserver is taken for a stranger"
        return fail(check, said, remedy)
    return ok(check, f"{path} is what the ConfigMap has")


def serving_certificate(found: Installation) -> Finding:
    """Check that every gateway's certificate is what kube-apiserver insists on."""
    check = "serving certificate"
    if not found.ca_bundle:
        return fail(check, "the APIService has no caBundle", "put the CA of the gateways' certificate there")
    findings = [_shown(check, address, found) for address in found.gateways]
    return _worst(findings) or fail(check, "there is no gateway to ask", "see service above")


def _shown(check: str, address: Address, found: Installation) -> Finding:
    where = "{}:{}".format(*address)
    try:
        server = certificates.server(address, HOST, found.ca_bundle, PATIENCE)
    except certificates.UNVERIFIED as error:
        remedy = f"a certificate for the DNS name {HOST}, valid, of the CA in the APIService's caBundle"
        return fail(check, f"{where}: {error.verify_message}", f"give HAProxy {remedy}")
    except ValueError as error:
        return fail(check, f"the APIService's caBundle {error}", "put the CA's certificate there, as PEM")
    except OSError as error:
        return fail(
            check,
            f"{where}: {words(error)}",
            TAKEN,
        )
    if server.protocol == certificates.HTTP2:
        return fail(check, f"{where} speaks HTTP/2, which hides that a download was cut", "alpn http/1.1")
    remedy = "renew it, and reload HAProxy"
    return _lasting(check, f"{where}: {HOST}, of the caBundle's CA,", server.expires, found.now, remedy)


def forged_headers(found: Installation) -> Finding:
    """Check that who has no certificate of kube-apiserver cannot say who he is."""
    check = "forged headers"
    findings = [_tried(check, address, found) for address in found.gateways]
    return _worst(findings) or fail(check, "there is no gateway to ask", "see service above")


def _tried(check: str, address: Address, found: Installation) -> Finding:
    where = "{}:{}".format(*address)
    try:
        code = certificates.answer(address, HOST, f"{names.ROOT}/{names.RESOURCE}", FORGED, PATIENCE)
    except OSError as error:
        return fail(
            check, f"{where}: {words(error)}", f"the shim may hang: end it, see its log; {_start(found)}"
        )
    if code == 401:
        return ok(check, f"{where} answers X-Remote-User without a certificate with 401")
    if code == 503:
        return fail(check, f"{where} answers 503: no shim behind it", _start(found))
    remedy = "STOP HAProxy there: whoever reaches it may be whom he likes; write its haproxy.cfg anew"
    return fail(check, f"{where} answers X-Remote-User without a certificate with {code}, not 401", remedy)


def _start(found: Installation) -> str:
    """Return how the shim is started, with what check was told."""
    chosen = found.cluster.kubeconfig
    cluster = f"--kubeconfig {shlex.quote(chosen.path)}" if chosen else "--in-cluster"
    where = f"--store {shlex.quote(found.store)} --run-dir {shlex.quote(found.run_dir)}"
    return f"start it there: coredump-shim serve {cluster} {where}; if it runs, see its log"


def _lasting(check: str, what: str, expires: float, now: float, remedy: str) -> Finding:
    until = datetime.datetime.fromtimestamp(expires, datetime.UTC).strftime("%Y-%m-%d")
    if expires <= now:
        return fail(check, f"{what} not valid since {until}", remedy)
    if expires - now < SOON:
        return warning(check, f"{what} valid until {until} only", remedy)
    return ok(check, f"{what} valid until {until}")


def _worst(findings: list[Finding]) -> Finding | None:
    """Return the worst of what was found of several gateways; None of none."""
    order = ("FAIL", "warning", "ok")
    return min(findings, key=lambda finding: order.index(finding.state), default=None)
