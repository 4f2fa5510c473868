"""Who makes a request: what authentication found out, and authorization and audit use.

Not here: finding it out (authn) and deciding what he may (authz).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import g, request


@dataclass(frozen=True)
class Caller:
    """A user as Kubernetes knows him (authentication.k8s.io/v1, UserInfo)."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def name() -> str:
    """Return who makes the present request, for the log: the user or, stand-alone, the address.

    "localhost": somebody behind HAProxy's socket of whom nothing is known.
    """
    found: Caller | None = g.get("caller")
    return repr(found.user) if found is not None else str(request.remote_addr)
