"""What a caller may: a SubjectAccessReview for every request but health. No answer: nothing is allowed.

Not here: who the caller is (authn), and what the request is (attributes).
"""

from __future__ import annotations

import json
from typing import Any

from flask import Flask, g, request

from coredump_shim import attributes, discovery
from coredump_shim.attributes import Attributes, Resource
from coredump_shim.caller import Caller
from coredump_shim.remembered import Remembered
from coredump_shim.reviews import MOST, SECONDS, Reviews
from coredump_shim.status import ApiError

MASTERS = "system:masters"
"""The group that may everything, without being reviewed."""


def register(app: Flask, reviews: Reviews) -> None:
    """Have each request reviewed before it is served; authn's caller must be known by then."""
    authorizer = Authorizer(reviews)

    def authorize() -> None:
        if request.path in discovery.HEALTH:
            return
        if not attributes.is_plain(request.environ.get("REQUEST_URI", ""), request.environ["PATH_INFO"]):
            raise ApiError(404, "the server could not find the requested resource")
        query = request.args.to_dict(flat=False)
        authorizer.check(g.caller, attributes.parse(request.method, request.path, query))

    app.before_request(authorize)


class Authorizer:
    """Reviews, each remembered for as long as Kubernetes' own extension API servers do."""

    def __init__(self, reviews: Reviews) -> None:
        self._reviews = reviews
        self._answers: Remembered[tuple[bool, str]] = Remembered(SECONDS, MOST, reviews.turn)

    def check(self, caller: Caller, wanted: Attributes) -> None:
        """Raise ApiError 403 unless the caller may; 500 if nobody says so."""
        if MASTERS in caller.groups:
            return
        spec = question(caller, wanted)
        key = json.dumps(spec, sort_keys=True)
        allowed, reason = self._answers.get(key, lambda: self._review(spec))
        if not allowed:
            raise forbidden(caller, wanted, reason)

    def _review(self, spec: dict[str, Any]) -> tuple[bool, str]:
        status = self._reviews.ask("authorization.k8s.io", "SubjectAccessReview", spec)
        return status.get("allowed") is True and not status.get("denied"), str(status.get("reason") or "")


def question(caller: Caller, wanted: Attributes) -> dict[str, Any]:
    """Return a SubjectAccessReview's spec."""
    who = {
        "user": caller.user,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": {key: list(values) for key, values in caller.extra.items()},
    }
    return who | wanted.asked()


def forbidden(caller: Caller, wanted: Attributes, reason: str = "") -> ApiError:
    """403, in the words of kube-apiserver (handlers/responsewriters/errors.go)."""
    why = f": {reason}" if reason else ""
    user = _quoted(caller.user)
    if not isinstance(wanted, Resource):
        return ApiError(
            403, f"forbidden: User {user} cannot {wanted.verb} path {_quoted(wanted.path)}{why}", details={}
        )
    kind = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    what = _quoted(f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource)
    where = f"in the namespace {_quoted(wanted.namespace)}" if wanted.namespace else "at the cluster scope"
    return ApiError(
        403,
        f"{kind}{f' {_quoted(wanted.name)}' if wanted.name else ''} is forbidden: User {user} cannot "
        f"{wanted.verb} resource {what} in API group {_quoted(wanted.group)} {where}{why}",
        details={"group": wanted.group, "kind": wanted.resource}
        | ({"name": wanted.name} if wanted.name else {}),
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
