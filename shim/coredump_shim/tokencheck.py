"""The check of our own token: it lasts. Not here: whether kube-apiserver accepts it (apicheck.server)."""

from __future__ import annotations

from coredump_guard.finding import Finding, ok, warning
from coredump_shim import bearer, remedy
from coredump_shim.installation import Installation

SOON = 30 * 86400.0
"""Seconds before its end from which on a token is spoken of."""


def token(found: Installation) -> Finding:
    """Check that the token of the kubeconfig does not end soon: what uses it would then be refused."""
    cluster = found.cluster
    if cluster.kubeconfig is None:
        return ok("token", "the pod's, which the kubelet renews")
    if not cluster.token:
        return ok("token", "there is none, but a client certificate")
    claims = bearer.claims(cluster.token)
    if claims is None or claims.expires is None:
        return ok("token", "it does not say that it ends")
    until = remedy.minute(claims.expires)
    if claims.expires - found.now < SOON:
        return warning("token", f"it ends {until}", remedy.renew(cluster))
    return ok("token", f"it is good until {until}")
