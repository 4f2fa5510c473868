"""What a service account's token says to whoever holds it: whose it is, and until when.

Not here: whether that is true. Only kube-apiserver verifies tokens; this serves to tell of their end in time.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claims:
    """What a JWT (RFC 7519) claims."""

    subject: str
    """Who is meant, system:serviceaccount:NAMESPACE:NAME say; "" if it does not tell."""
    expires: float | None
    """When it ends, in seconds since the epoch; None if never, as the token of a Secret."""

    def account(self) -> tuple[str, str] | None:
        """Return the service account's namespace and name; None if it is none's."""
        parts = self.subject.split(":")
        return (parts[2], parts[3]) if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4 else None


def claims(token: str) -> Claims | None:
    """Return what a token claims; None if it is no JWT."""
    try:
        _, payload, _ = token.split(".")
        found: Any = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expires = found.get("exp")
        return Claims(str(found.get("sub") or ""), None if expires is None else float(expires))
    except (ValueError, TypeError, AttributeError):
        return None
