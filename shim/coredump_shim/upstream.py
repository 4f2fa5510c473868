"""Requests that go on to kube-apiserver, with the shim's own credentials, and its answers, as the caller's.

Not here: which requests (relay), what of them goes on (forwarding), and what is changed (rewrite, listing).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from flask import Response, request

from coredump_shim import caller, forwarding, listing, payload, relaywatch, rewrite
from coredump_shim.cluster import Cluster, error_of
from coredump_shim.config import RELAYED
from coredump_shim.forwarding import Query
from coredump_shim.relaywatch import Janitor, LostError, Watched
from coredump_shim.shares import share
from coredump_shim.status import ApiError, unavailable
from coredump_shim.stream import Streams

log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds by which kube-apiserver may be late to end a watch."""
CHUNK = 1 << 16

Body = tuple[Any, str]
"""What is sent, as JSON has it or in bytes, and its media type."""
_LOST = (urllib3.exceptions.HTTPError, OSError, ValueError)


class Upstream:
    """kube-apiserver, asked for a caller.

    Every method raises ApiError: what kube-apiserver refuses with, 503 if it does not answer, 429 if too much
    is under way.
    """

    def __init__(self, cluster: Cluster, max_watches: int) -> None:
        self._cluster = cluster
        self._watches = Streams(max_watches, each=share(max_watches))
        self._requests = Streams(RELAYED, "requests to kube-apiserver")
        self._janitor = Janitor()

    def one(self, method: str, path: str, query: Query, body: Body | None = None) -> Response:
        """Answer with an object."""
        with self._requests.place():
            answer = self._open(method, path, query, body)
            try:
                thing = rewrite.to_caller(payload.from_json(answer.read()))
            except _LOST as error:
                log.warning("kube-apiserver's answer to %s %s is lost: %s", method, path, error)
                said = "kube-apiserver is lost; look whether it did as it was asked"
                # kubectl would ask for the same change again by itself.
                raise unavailable(said, retry_after=5 if method == "GET" else None) from None
            finally:
                answer.close()
        response = Response(rewrite.encoded(thing) + b"\n", answer.status, mimetype=payload.JSON)
        response.headers.extend(forwarding.headers_back(answer))
        return response

    def many(self, method: str, path: str, query: Query, body: Body | None = None) -> Response:
        """Answer with a list, item by item as it comes."""
        return self._requests.response(lambda: _items(self._open(method, path, query, body)))

    def watch(self, path: str, query: Query, seconds: int, gone: Callable[[], bool]) -> Response:
        """Answer with a watch that lasts so long, or until its reader has gone."""
        query = [*query, ("watch", "true"), ("timeoutSeconds", str(seconds))]

        def begin() -> Iterator[bytes]:
            answer = self._open("GET", path, query, None)
            _wait_longer(answer, seconds + GRACE)
            return relaywatch.events(Watched(answer, gone), self._janitor)

        return self._watches.response(begin)

    def try_out(self, method: str, path: str, query: Query, body: Body) -> None:
        """See whether kube-apiserver would do this."""
        query = [(name, value) for name, value in query if name != "dryRun"] + [("dryRun", "All")]
        with self._requests.place():
            self._open(method, path, query, body).close()

    def _open(self, method: str, path: str, query: Query, body: Body | None) -> urllib3.BaseHTTPResponse:
        """Return a good answer, of which the body is still to be read."""
        headers = {
            "Accept": forwarding.accepted(request.headers.get("Accept", "")),
            "User-Agent": forwarding.agent(request.headers.get("User-Agent", "")),
        }
        content = None
        if body is not None:
            content = body[0] if isinstance(body[0], bytes) else rewrite.encoded(body[0])
            headers["Content-Type"] = body[1]
        answer = self._cluster.request(method, path, query=query, headers=headers, body=content, stream=True)
        if method != "GET":
            trial = " (dry run)" if any(name == "dryRun" for name, _ in query) else ""
            log.info("%s %s%s for %s: %d", method, path, trial, caller.name(), answer.status)
        if not 200 <= answer.status < 300:
            raise _refusal(answer)
        return answer


def _items(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from listing.to_caller(answer.stream(CHUNK))
    except _LOST as error:
        log.warning("a list ends: kube-apiserver is lost: %s", error)
        raise LostError(str(error)) from None
    finally:
        answer.close()


def _refusal(answer: urllib3.BaseHTTPResponse) -> ApiError:
    try:
        text = answer.read()
    except _LOST:
        text = b""
    finally:
        answer.close()
    return error_of(answer.status, text)


def _wait_longer(answer: urllib3.BaseHTTPResponse, seconds: float) -> None:
    """Let each wait for more of an answer take so long; its head had to come sooner."""
    sock = getattr(answer.connection, "sock", None)
    if sock is not None:
        sock.settimeout(seconds)
