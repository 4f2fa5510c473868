"""What `coredump-shim check` says of an error that kept it from looking: the cause, and what to do.

Not here: the checks.
"""

from __future__ import annotations

import datetime
import os
import pwd
import re
import shlex

import urllib3.exceptions

from coredump_shim import bearer, names
from coredump_shim.cluster import Cluster, NotAcceptedError
from coredump_shim.status import ApiError

APPLY = "apply your overlay of manifests/api again: kubectl apply -k OVERLAY"
"""What mends whatever of it is missing or was changed."""
CA = r"kubectl get configmap kube-root-ca.crt -n kube-system -o 'jsonpath={.data.ca\.crt}'"

Told = tuple[str, str]
"""What was found, and the remedy."""


class StoreError(OSError):
    """The store cannot be looked at."""

    def __init__(self, root: str, error: OSError) -> None:
        super().__init__(f"{root}: {error}")
        self.root, self.silent = root, isinstance(error, TimeoutError)


def told(error: Exception, cluster: Cluster) -> Told:
    """Return what to say of an error."""
    if isinstance(error, NotAcceptedError):
        return _not_accepted(cluster), renew(cluster)
    if isinstance(error, ApiError):
        return _of_api(error, cluster)
    if isinstance(error, StoreError):
        where = shlex.quote(error.root)
        if error.silent:
            return str(error), f"is its file server up? findmnt -T {where} says which"
        return str(
            error
        ), f"is the store mounted there? findmnt -T {where}; may {user()} read it? ls -ld {where}"
    return f"cannot be checked: {error}", "mend that, and run check again"


def _of_api(error: ApiError, cluster: Cluster) -> Told:
    if error.__cause__ is not None:
        return _silent(error.__cause__, cluster)
    if error.code == 403:
        return error.message, f"see credentials; {APPLY}"
    if error.code == 404:
        return error.message, APPLY
    return error.message, "see kube-apiserver's log"


def _silent(cause: BaseException, cluster: Cluster) -> Told:
    """Say why there was no answer at all."""
    server, said = cluster.server, reason(cause)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return (
            f"{server}: its name is not known: {said}",
            f"mend this host's DNS, or {_set(cluster, 'server')}",
        )
    if isinstance(cause, urllib3.exceptions.SSLError):
        found = f"{server} is not the kube-apiserver that the kubeconfig means: {said}"
        if "mismatch" in said:
            return found, f"name it as its certificate does: {_set(cluster, 'server')}"
        return found, f"is it another cluster's? Else {_set(cluster, 'certificate-authority')}"
    asked = f"is kube-apiserver up there? curl -k {shlex.quote(server)}/livez"
    return f"{server} does not answer: {said}", f"{asked}; if it is elsewhere: {_set(cluster, 'server')}"


def reason(cause: BaseException) -> str:
    """Return the core of urllib3's words, without objects of Python's and numbers of lines."""
    inner = next((one for one in cause.args[1:] if isinstance(one, OSError)), None)
    if inner is not None:
        return inner.strerror or str(inner)
    said = re.sub(r" ?\((_ssl\.c:\d+|[a-z]+ timeout=[\d.]+)\)", "", str(cause))
    said = re.split(r"\[(?:Errno|SSL)[^\]]*\] ", said)[-1].rstrip(")")
    return re.sub(r"^\w+\(.*?\): ", "", said).removeprefix("certificate verify failed: ")


def _set(cluster: Cluster, field: str) -> str:
    """Return the command that changes a field of the kubeconfig's cluster."""
    chosen = cluster.kubeconfig
    if chosen is None:
        return "see the pod's KUBERNETES_SERVICE_HOST and service account"
    command = (
        f"kubectl config set-cluster {shlex.quote(chosen.cluster)} --kubeconfig {shlex.quote(chosen.path)}"
    )
    if field == "server":
        return f"{command} --server https://ADDRESS:6443"
    return f"{command} --embed-certs --certificate-authority <({CA})"


def _not_accepted(cluster: Cluster) -> str:
    what = "token" if cluster.token else "certificate"
    claims = bearer.claims(cluster.token)
    if claims and claims.expires and claims.expires < (cluster.clock or 0):
        return f"kube-apiserver does not accept our token: it ended {minute(claims.expires)}"
    why = "it is not of this cluster, has ended, or its account is gone"
    return f"kube-apiserver does not accept our {what}: {why}"


def renew(cluster: Cluster) -> str:
    """Return how our credentials are renewed: commands where a kubeconfig has a token."""
    chosen, claims = cluster.kubeconfig, bearer.claims(cluster.token)
    if chosen is None:
        return "start the pod again"
    if not cluster.token:
        return f"write a new client certificate into {chosen.path}, and restart what uses it"
    namespace, name = (claims and claims.account()) or (names.SYSTEM_NAMESPACE, names.SERVICE)
    new = f"kubectl create token {shlex.quote(name)} -n {shlex.quote(namespace)} --duration 8760h"
    into = (
        f"kubectl config set-credentials {shlex.quote(chosen.user)} --kubeconfig {shlex.quote(chosen.path)}"
    )
    return f'{into} --token "$({new})", and restart what uses it'


def minute(seconds: float) -> str:
    """Return a time for a person, who may have to act on the same day."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def user() -> str:
    """Return whom we run as, for a person."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
