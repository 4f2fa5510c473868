"""The checks of rights: what our credentials may do, whether others' can be reviewed, what users were given.

Not here: the rights of one caller of the API (authz).
"""

from __future__ import annotations

import secrets

from coredump_guard.finding import Finding, fail, ok
from coredump_guard.words import counted
from coredump_shim import names
from coredump_shim.endpoint import Object
from coredump_shim.installation import Installation
from coredump_shim.remedy import APPLY
from coredump_shim.rights import NEEDED, Right, of_rules

AUTHORIZATION = "/apis/authorization.k8s.io/v1"
AUTHENTICATION = "/apis/authentication.k8s.io/v1"
SHIM = f"system:serviceaccount:{names.SYSTEM_NAMESPACE}:{names.SERVICE}"
"""Whom manifests/api makes the shim."""
READING = {"get", "list", "watch"}


def credentials(found: Installation) -> Finding:
    """Check that our own credentials may do all that the shim needs."""
    missing = [right for right in sorted(NEEDED) if not _may(found, right)]
    me = _who(found)
    if missing:
        said = f"{me} may not {'; '.join(map(str, missing[:5]))}"
        rest = f"; and {len(missing) - 5} more" if len(missing) > 5 else ""
        return fail("credentials", said + rest, _remedy(me))
    return ok("credentials", f"{me} has {counted(len(NEEDED), 'right')} that the shim needs")


def _remedy(me: str) -> str:
    if me == SHIM:
        return APPLY
    return f"name the shim's own kubeconfig, {SHIM}'s; if {me} is to be the shim, bind its roles to it"


def _may(found: Installation, right: Right) -> bool:
    body = {"spec": {"resourceAttributes": right.attributes()}}
    review = found.cluster.create(f"{AUTHORIZATION}/selfsubjectaccessreviews", body)
    return bool(review["status"]["allowed"])


def _who(found: Installation) -> str:
    review = found.cluster.create(f"{AUTHENTICATION}/selfsubjectreviews", {})
    return str(review["status"]["userInfo"]["username"])


def token_review(found: Installation) -> Finding:
    """Check that kube-apiserver says whose a bearer token is; of one that nobody has, that it is nobody's."""
    body = {"spec": {"token": secrets.token_hex(16)}}
    review = found.cluster.create(f"{AUTHENTICATION}/tokenreviews", body)
    if review["status"].get("authenticated"):
        said = "a token that was made up is authenticated"
        return fail("token review", said, "mend kube-apiserver's authentication")
    return ok("token review", "kube-apiserver reviews tokens")


def access_review(found: Installation) -> Finding:
    """Check that kube-apiserver says what somebody may; of somebody who was made up, that he may not."""
    somebody = f"coredump-shim-check-{secrets.token_hex(8)}"
    right = Right("get", names.GROUP, f"{names.RESOURCE}/dump", "kube-system")
    body = {"spec": {"user": somebody, "resourceAttributes": right.attributes()}}
    review = found.cluster.create(f"{AUTHORIZATION}/subjectaccessreviews", body)
    if review["status"]["allowed"]:
        said = "anybody may get the dumps of kube-system, also who was made up"
        return fail("access review", said, "authorize by RBAC, and look whom a ClusterRoleBinding names")
    return ok("access review", "kube-apiserver reviews access")


def users_roles(found: Installation) -> Finding:
    """Check that users got endpoints by the role view, and dumps, which hold secrets, not by that one."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    rules = {
        name: found.cluster.get(f"{path}/{name}").get("rules") or [] for name in ("view", "edit", "admin")
    }
    wrong = misgiven(rules)
    if wrong:
        return fail("users roles", "; ".join(wrong), f"{APPLY}; wait until the controller-manager aggregates")
    return ok("users roles", "view has endpoints; edit and admin have dumps, too")


def misgiven(roles: dict[str, list[Object]]) -> list[str]:
    """Return what is wrong with the rules of view, edit and admin."""
    wrong = [f"{name} lacks {names.RESOURCE}" for name in roles if not granted(roles[name], "") >= READING]
    for subresource in ("dump", "proxy"):
        if granted(roles["view"], subresource):
            wrong.append(f"view has {names.RESOURCE}/{subresource}: readers get others' memory")
        lacking = [name for name in ("edit", "admin") if "get" not in granted(roles[name], subresource)]
        wrong += [f"{name} lacks {names.RESOURCE}/{subresource}" for name in lacking]
    return wrong


def granted(rules: list[Object], subresource: str) -> set[str]:
    """Return the verbs that rules grant on every endpoint, or on a subresource; `*` grants any."""
    resource = f"{names.RESOURCE}/{subresource}" if subresource else names.RESOURCE
    verbs: set[str] = set()
    for right in of_rules(rules):
        meant = right.resource in (resource, "*", f"*/{subresource}") and not right.name
        if right.group in (names.GROUP, "*") and meant:
            verbs |= READING if right.verb == "*" else {right.verb}
    return verbs
