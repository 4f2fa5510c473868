"""Certificates: what a bundle of CAs holds, and what a server shows to who connects as kube-apiserver does.

Not here: what ought to be there (certificatecheck). Python's ssl tells all that is needed: it reads CAs as it
loads them, and a server's certificate once it has verified it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

HTTP1, HTTP2 = "http/1.1", "h2"
UNVERIFIED = ssl.SSLCertVerificationError


@dataclass(frozen=True)
class Authority:
    """A CA's certificate."""

    subject: str
    expires: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Server:
    """What a server showed in a TLS handshake in which its certificate was verified."""

    expires: float
    """When its certificate ends, in seconds since the epoch."""
    protocol: str
    """What it chose of h2 and http/1.1; "" if it does not say, which means http/1.1 (RFC 7301)."""


def authorities(pem: str) -> list[Authority]:
    """Return the CAs of a bundle. Raises ValueError if it holds anything else, or nothing."""
    context = _loaded(pem)
    stored = context.cert_store_stats()
    if stored["x509"] != stored["x509_ca"]:
        raise ValueError("holds a certificate that is no CA's")
    return [
        Authority(_words(found["subject"]), ssl.cert_time_to_seconds(str(found["notAfter"])))
        for found in context.get_ca_certs()
    ]


def are_same(one: str, other: str) -> bool:
    """Whether two bundles hold the same CAs, in whatever order and with whatever words between.

    Raises ValueError as `authorities` does.
    """
    return set(_loaded(one).get_ca_certs(binary_form=True)) == set(
        _loaded(other).get_ca_certs(binary_form=True)
    )


def server(address: tuple[str, int], name: str, pem: str, seconds: float) -> Server:
    """Connect as kube-apiserver does: by address, asking for `name`, trusting this bundle alone.

    Raises UNVERIFIED with what is wrong with the certificate, OSError if there is no server, and ValueError
    for the bundle.
    """
    with _connected(address, name, _verifying(pem), seconds) as connection:
        shown = connection.getpeercert() or {}
        protocol = connection.selected_alpn_protocol() or ""
        return Server(ssl.cert_time_to_seconds(str(shown["notAfter"])), protocol)


def answer(address: tuple[str, int], name: str, path: str, headers: Mapping[str, str], seconds: float) -> int:
    """Send a GET without a client certificate and return the answer's code.

    The server is not verified: nothing secret is sent. Raises OSError if there is no answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPConnection(name)
    connection.sock = _connected(address, name, context, seconds)
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"its answer is no HTTP: {error!r}") from None
    finally:
        connection.close()


def _connected(address: tuple[str, int], name: str, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    plain = socket.create_connection(address, seconds)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _verifying(pem: str) -> ssl.SSLContext:
    context = _loaded(pem)
    context.hostname_checks_common_name = False  # nor does Go: only the SAN counts
    context.verify_flags |= (
        ssl.VERIFY_X509_PARTIAL_CHAIN
    )  # Go trusts whatever the bundle holds, not roots only
    context.set_alpn_protocols([HTTP2, HTTP1])
    return context


def _loaded(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError, TypeError) as error:
        said = error.reason if isinstance(error, ssl.SSLError) else error
        raise ValueError(f"is no bundle of certificates: {said}") from None
    return context


def _words(subject: object) -> str:
    """Return a distinguished name, as ssl gives it, for a person: CN=x,O=y."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
    if not isinstance(subject, tuple):
        return ""
    return ",".join(f"{short.get(key, key)}={value}" for part in subject for key, value in part)
