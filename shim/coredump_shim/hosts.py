"""Which Host and Origin headers are answered, so that no web page reads cores through a local browser.

Not here: authentication; the stand-alone shim has none, which is why this is needed.

A page whose name is made to resolve to 127.0.0.1 (DNS rebinding) counts for the browser as the same site
as the shim. Its Host header gives it away: the name is the page's, never an address or `localhost`.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from flask import Flask, Response, request

from coredump_shim.config import Config, is_loopback
from coredump_shim.status import ApiError, shown


def register(app: Flask, config: Config) -> None:
    """Refuse, with 403, requests that name another host or come from another site's page."""
    own = {config.host.lower()}
    if config.anywhere:
        own |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def check() -> None:
        # A browser always says which host it means; what says nothing, as HAProxy's checks, is none.
        host = request.headers.get("Host")
        if host is not None and not is_own(hostname(host), own):
            raise ApiError(
                403,
                f"the Host header names {shown(host)}; this shim answers to an address or localhost only",
            )
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
            raise ApiError(403, f"the Origin {shown(origin)} is another site; its pages get nothing here")

    app.before_request(check)
    app.after_request(_not_for_other_sites)


def hostname(header: str) -> str:
    """Return the name or address of a Host header, without port and brackets; "" if it has none."""
    try:
        return urlsplit("//" + header).hostname or ""
    except ValueError:
        return ""


def is_own(host: str, own: set[str]) -> bool:
    """Whether a page cannot have made up this host: an address, a name of the loopback, or one of `own`."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return is_loopback(host) or host in own
    return True


def _not_for_other_sites(response: Response) -> Response:
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
