"""The front proxy's CA where HAProxy verifies certificates with it: a file, and HAProxy's runtime API.

Not here: where the CA comes from (trust), and what HAProxy does with it (its configuration).
"""

from __future__ import annotations

import logging
import re
import socket
import ssl

from coredump_shim import rundir

log = logging.getLogger(__name__)

SECONDS = 5.0
"""How long HAProxy may take for an answer."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


class Publisher:
    """Keeps file and HAProxy equal to the CA. One at a time may do that for a directory."""

    def __init__(self, run_dir: str) -> None:
        self._file = rundir.path(run_dir, rundir.REQUESTHEADER_CA)
        self._admin = rundir.path(run_dir, rundir.ADMIN_SOCKET)
        self._told: str | None = None

    def publish(self, ca: str) -> None:
        """Have certificates verified with this CA from now on.

        Does nothing where that is so. HAProxy, where it does not run, reads the file when it starts; it is
        told at the next call then. Raises OSError if the file cannot be written, ValueError for a bad CA.
        """
        certificates = normal(ca)
        if _read(self._file) != certificates:
            rundir.replace(self._file, certificates.encode())
            self._told = None  # a HAProxy that started meanwhile has read what was there
            log.info("%s is new", self._file)
        if self._told != certificates and tell(self._admin, self._file, certificates):
            self._told = certificates


def normal(ca: str) -> str:
    """Return the certificates of a bundle and nothing else, without empty lines. Raises ValueError."""
    found = _CERTIFICATE.findall(ca)
    if not found:
        raise ValueError("the CA of the front proxy has no certificate")
    return "".join(ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(one)) for one in found)


def tell(admin: str, file: str, certificates: str) -> bool:
    """Have a running HAProxy use these certificates instead of those it read from the file.

    Return False if none runs. One that cannot do it (before 2.5) needs a reload: that is logged.
    """
    try:
        answer = command(admin, f"set ssl ca-file {file} <<\n{certificates}")
        if "transaction" in answer:
            answer = command(admin, f"commit ssl ca-file {file}")
    except OSError as error:
        log.debug("%s: %s", admin, error)
        return False
    if "Success" in answer:
        log.info("HAProxy verifies with the new %s", file)
    else:
        log.error("HAProxy must be reloaded for the new %s: %s", file, answer.strip()[:200])
    return True


def command(admin: str, line: str) -> str:
    """Return HAProxy's answer to a command of its runtime API. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(admin)
        client.sendall(line.encode() + b"\n")
        client.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while data := client.recv(4096):
            answer += data
    return answer.decode(errors="replace")


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
