"""The connection to kube-apiserver: requests with the shim's own credentials, and its errors as ours.

Not here: what is asked of it. Credentials come from a kubeconfig file or, in a pod, from its service account.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import kubernetes.config
import urllib3

from coredump_guard import __version__
from coredump_shim.config import ConfigError
from coredump_shim.endpoint import Object
from coredump_shim.kubeconfig import Chosen, load
from coredump_shim.remembered import Remembered
from coredump_shim.status import ApiError, unavailable

log = logging.getLogger(__name__)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Accept header of a list of which only the metadata is wanted."""
PAGE = 500
"""Objects in one page of a list, as kubectl asks for."""
CONNECT_SECONDS = 3.0
SECONDS = 10.0
"""How long one request may take."""

Query = Mapping[str, str | int] | list[tuple[str, str]]


class Cluster:
    """One kube-apiserver; safe between threads.

    Every method raises ApiError: 503 where kube-apiserver does not answer in time or says that it cannot,
    else the code, reason and words of the Status that it answers with.
    """

    def __init__(self, kubeconfig: str | None, *, connections: int = 32) -> None:
        """Read a kubeconfig file, or without one the pod's service account. Raises ConfigError."""
        self._configuration = kubernetes.client.Configuration()
        self._configuration.connection_pool_maxsize = connections
        self.kubeconfig: Chosen | None = None
        """What of a kubeconfig is used; None in a pod."""
        if kubeconfig is None:
            _in_cluster(self._configuration)
        else:
            self.kubeconfig = load(kubeconfig, self._configuration)
        self._pool = kubernetes.client.ApiClient(self._configuration).rest_client.pool_manager
        self.clock: float | None = None
        """The server's time at its last answer, in seconds since the epoch."""

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._configuration.host)

    @property
    def token(self) -> str:
        """The bearer token that it shows; "" if it shows a certificate."""
        return self._headers().get("Authorization", "").partition(" ")[2]

    def get(self, path: str, **query: str | int) -> Object:
        """Return the object or list at a path."""
        return _read(self.request("GET", path, query=query))

    def create(self, path: str, body: Object, **query: str | int) -> Object:
        """POST an object to its collection and return what became of it."""
        return self._send("POST", path, body, JSON, query)

    def update(self, path: str, body: Object, **query: str | int) -> Object:
        """PUT an object and return what became of it."""
        return self._send("PUT", path, body, JSON, query)

    def patch(self, path: str, body: Object, **query: str | int) -> Object:
        """Merge into an object (RFC 7386) and return what became of it."""
        return self._send("PATCH", path, body, MERGE_PATCH, query)

    def delete(self, path: str, body: Object | None = None, **query: str | int) -> Object:
        """Delete an object; the body is its DeleteOptions."""
        return self._send("DELETE", path, body or {}, JSON, query)

    def pages(self, path: str, accept: str = JSON, **query: str | int) -> Iterator[list[Object]]:
        """Yield a list's items a page at a time. Raises ApiError 410 if it takes too long between pages."""
        token = ""
        while True:
            asked = {**query, "limit": PAGE} | ({"continue": token} if token else {})
            page = _read(self.request("GET", path, query=asked, headers={"Accept": accept}))
            yield page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = SECONDS,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer, whatever its code; with `stream`, before its body, which is the caller's to read
        and, by release_conn() or close(), to let go. seconds bound each wait for the server."""
        url = f"{self.server}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        try:
            response: urllib3.BaseHTTPResponse = self._pool.request(
                method,
                url,
                body=body,
                headers=self._headers() | dict(headers or {}),
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds),
                preload_content=not stream,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            log.warning("kube-apiserver does not answer %s %s: %s", method, path, error)
            raise unavailable(
                "kube-apiserver does not answer the shim; try again in a few seconds"
            ) from error
        self._see_clock(response.headers.get("Date"))
        return response

    def _send(
        self, method: str, path: str, body: Object, media_type: str, query: Mapping[str, str | int]
    ) -> Object:
        text = json.dumps(body).encode()
        headers = {"Content-Type": media_type, "Accept": JSON}
        return _read(self.request(method, path, query=query, headers=headers, body=text))

    def _headers(self) -> dict[str, str]:
        # Asked for at each request: a service account's token is renewed by the kubelet every hour.
        token = self._configuration.auth_settings().get("BearerToken", {}).get("value")
        basic = {"User-Agent": f"coredump-shim/{__version__}", "Accept": JSON}
        return basic | ({"Authorization": token} if token else {})

    def _see_clock(self, date: str | None) -> None:
        try:
            self.clock = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            self.clock = None


class NotAcceptedError(ApiError):
    """503: kube-apiserver does not know us by our credentials, which says nothing of who asks the shim."""

    def __init__(self) -> None:
        sentence = "kube-apiserver does not accept the shim's own credentials; they must be renewed"
        super().__init__(503, sentence)


_complaints: Remembered[None] = Remembered(60.0, 1)
"""Whether it was said within the last minute: every request finds it out anew."""


def _complain(body: bytes) -> None:
    log.error(
        "kube-apiserver does not accept our own credentials: a token may have ended; "
        "write a new one into the kubeconfig, and start again: %r",
        body[:1000],
    )


def error_of(code: int, body: bytes) -> ApiError:
    """Return kube-apiserver's refusal as ours, in its own words where it sent a Status."""
    if code == 401:
        _complaints.get(code, lambda: _complain(body))
        return NotAcceptedError()
    try:
        said = json.loads(body)
        if said["kind"] != "Status":
            raise ValueError("it is no Status")
        details = said.get("details") or {}
        return ApiError(
            code,
            str(said.get("message", "")),
            reason=str(said.get("reason", "")),
            details=details,
            retry_after=details.get("retryAfterSeconds"),
            metadata=said.get("metadata"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(code if code >= 400 else 502, f"kube-apiserver answered {code} and no Status")


def is_gone(error: ApiError) -> bool:
    """Whether kube-apiserver positively says that an object is not there.

    A 404 of something between, or for a resource that is not served, has other words in its Status.
    """
    return error.code == 404 and error.reason == "NotFound" and bool(error.details.get("name"))


def _read(response: urllib3.BaseHTTPResponse) -> Object:
    if not 200 <= response.status < 300:
        raise error_of(response.status, response.data)
    try:
        body = json.loads(response.data)
    except ValueError:
        raise unavailable("kube-apiserver's answer is not JSON", retry_after=None) from None
    if not isinstance(body, dict):
        raise unavailable("kube-apiserver's answer is no object", retry_after=None)
    return body


def _in_cluster(configuration: Any) -> None:
    try:
        kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (kubernetes.config.ConfigException, OSError) as error:
        raise ConfigError(f"--in-cluster: is this a pod with a service account? {error}") from None
