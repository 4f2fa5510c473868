"""Who makes a request: by the front proxy's word, else by a bearer token; whoever is nobody gets 401.

Not here: reading the front proxy's headers (frontproxy), and what the caller may (authz).

HAProxy verifies certificates, and says the name of a verified one in names.CLIENT_CN, a header that it
removes from whatever it receives.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from flask import Flask, g, request

from coredump_shim import discovery, frontproxy, names, rawheaders
from coredump_shim.caller import Caller
from coredump_shim.endpoint import Object
from coredump_shim.rawheaders import Headers
from coredump_shim.remembered import Remembered
from coredump_shim.reviews import MOST, SECONDS, Reviews
from coredump_shim.status import ApiError
from coredump_shim.trust import Trust

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"


def register(app: Flask, trust: Trust, reviews: Reviews) -> None:
    """Find out who makes each request, but for health, before it is served."""
    authenticator = Authenticator(trust, reviews)

    def authenticate() -> None:
        if request.path not in discovery.HEALTH:
            g.caller = authenticator.caller(rawheaders.of(request.environ))

    app.before_request(authenticate)


class Authenticator:
    """The ways in which a caller can say who he is."""

    def __init__(self, trust: Trust, reviews: Reviews) -> None:
        self._trust = trust
        self._reviews = reviews
        self._tokens: Remembered[Caller | None] = Remembered(SECONDS, MOST, reviews.turn)

    def caller(self, headers: Headers) -> Caller:
        """Return who asks. Raises ApiError: 401, 403 for impersonation, 400 for headers that cannot be."""
        if any(name.startswith("impersonate-") for name, _ in headers):
            raise ApiError(403, "impersonation is kube-apiserver's to grant: send such requests through it")
        found = self._by_front_proxy(headers) or self._by_token(headers)
        if found is None:
            raise unauthorized()
        return _with_implied_group(found)

    def _by_front_proxy(self, headers: Headers) -> Caller | None:
        names_given = rawheaders.values(headers, names.CLIENT_CN)
        if not names_given:
            return None
        front = None
        if len(names_given) == 1:
            front = self._trust.allows(frontproxy.text(names.CLIENT_CN, names_given[0]))
        if front is None:
            raise unauthorized()
        return frontproxy.caller(headers, front)

    def _by_token(self, headers: Headers) -> Caller | None:
        token = bearer(headers)
        if not token:
            return None
        key = hashlib.sha256(token.encode()).digest()
        return self._tokens.get(key, lambda: self._reviewed(token))

    def _reviewed(self, token: str) -> Caller | None:
        status = self._reviews.ask("authentication.k8s.io", "TokenReview", {"token": token})
        return _user(status.get("user") or {}) if status.get("authenticated") is True else None


def bearer(headers: Headers) -> str:
    """Return the bearer token; "" without one. Raises ApiError 401 for several Authorization headers."""
    given = rawheaders.values(headers, "Authorization")
    if len(given) > 1:
        raise unauthorized()
    words = given[0].decode("latin-1").split() if given else []
    return words[1] if len(words) == 2 and words[0].lower() == "bearer" else ""


def unauthorized() -> ApiError:
    """401: nobody is known to ask; says no more, as kube-apiserver."""
    return ApiError(401, "Unauthorized")


def _user(user: Object) -> Caller | None:
    """Return a TokenReview's user (authentication.k8s.io/v1, UserInfo)."""
    name = user.get("username")
    if not name:
        return None
    extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
    return Caller(name, user.get("uid") or "", tuple(user.get("groups") or ()), extra)


def _with_implied_group(caller: Caller) -> Caller:
    """Add the group that every extension API server adds (apiserver, authentication/group).

    kube-apiserver itself comes as system:aggregator without any group to read what we publish.
    """
    groups = caller.groups
    if caller.user == ANONYMOUS or AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return caller
    return replace(caller, groups=(*groups, AUTHENTICATED))
