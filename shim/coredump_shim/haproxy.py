"""The command `coredump-shim haproxy`: what HAProxy needs to be the shim's front, in the run directory.

Not here: starting HAProxy, and keeping the request-header CA equal to the cluster's afterwards (trust).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import ssl
from importlib import resources
from string import Template

from coredump_shim import config, front, names, offline, options, rundir, status
from coredump_shim.cluster import Cluster
from coredump_shim.config import ConfigError
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Write HAProxy's configuration and what it needs; run it before each start and reload of HAProxy."
)

TEMPLATE = "haproxy.cfg.template"
BUFFER = 1 << 16
"""HAProxy's buffers, in bytes: a request's head, and a document that it answers with, must fit into one."""
DOWNLOADS = 128
"""Downloads at one time."""
RETRY_AFTER = 2
"""Seconds; kubectl tries ten times, and a shim that is started again is back sooner."""

AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"

ERRORS = (
    ApiError(400, "the request is malformed, or its path is not one of this API"),
    ApiError(405, "the server does not allow this method on the requested resource"),
    ApiError(408, "the request did not arrive in time", reason="Timeout"),
    ApiError(413, "the request's body is too large"),
    ApiError(500, "an internal error occurred in the gateway; its log says more"),
    ApiError(502, "the shim broke off; try again", reason=status.REASONS[503], retry_after=RETRY_AFTER),
    status.unavailable("no shim answers here, or it has too much to do; try again", RETRY_AFTER),
    ApiError(504, "the shim does not answer in time", retry_after=RETRY_AFTER),
)
"""What HAProxy says by itself, as a Status like the shim's."""

_PLAIN = re.compile(r"/[\w./-]+\Z", re.ASCII)
_NAME = re.compile(r"[\w.-]+\Z", re.ASCII)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_cluster(parser)
    parser.add_argument(
        "--run-dir",
        default=config.RUN_DIR,
        metavar="DIR",
        help="the directory that HAProxy shares with the shim (default: %(default)s)",
    )
    parser.add_argument(
        "--certificate",
        required=True,
        metavar="PEM",
        help="HAProxy's certificate and key; the key of FILE.crt may be in FILE.key",
    )
    parser.add_argument(
        "--listen",
        default=":8443",
        metavar="ADDRESS:PORT",
        help="where HAProxy listens (default: %(default)s, all addresses)",
    )
    parser.add_argument("--user", help="whom HAProxy runs as; without it, as whoever starts it")
    parser.add_argument("--group", help="the group that HAProxy and the shim share")
    parser.add_argument(
        "--downloads",
        type=int,
        default=DOWNLOADS,
        metavar="N",
        help="downloads at one time (default: %(default)s)",
    )
    options.add_log_level(parser, "")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; return the exit status. Raises ConfigError."""
    _check(arguments)
    directory = os.path.abspath(arguments.run_dir)
    ca = rundir.path(directory, rundir.REQUESTHEADER_CA)
    _write(ca, _trusted(arguments.kubeconfig, arguments.certificate, ca))
    os.makedirs(rundir.path(directory, rundir.OFFLINE), 0o750, exist_ok=True)
    documents = offline.documents()
    for document in documents:
        _write(_file(directory, document), document.body)
    text = configuration(arguments, directory, documents)
    _write(rundir.path(directory, rundir.HAPROXY_CFG), text.encode())
    return 0


def configuration(arguments: argparse.Namespace, directory: str, documents: list[offline.Document]) -> str:
    """Return the text of haproxy.cfg for these options, checked before."""
    identity = [
        f"    {word} {getattr(arguments, word)}" for word in ("user", "group") if getattr(arguments, word)
    ]
    host, port = config.parse_listen(arguments.listen)
    template = Template(resources.files(__package__).joinpath(TEMPLATE).read_text())
    return template.substitute(
        identity="\n".join(identity),
        group=f" group {arguments.group}" if arguments.group else "",
        admin=rundir.path(directory, rundir.ADMIN_SOCKET),
        shim=rundir.path(directory, rundir.SHIM_SOCKET),
        offline=rundir.path(directory, rundir.OFFLINE_SOCKET),
        ca=rundir.path(directory, rundir.REQUESTHEADER_CA),
        certificate=os.path.abspath(arguments.certificate),
        listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        bufsize=BUFFER,
        client_cn=names.CLIENT_CN,
        discovery=" ".join(offline.PATHS),
        dump=front.DUMP,
        downloads=arguments.downloads,
        errors="\n".join(map(_error, ERRORS)),
        documents="\n".join(line for document in documents for line in _rules(directory, document)),
    )


def _check(arguments: argparse.Namespace) -> None:
    config.parse_listen(arguments.listen)
    for option in ("run_dir", "certificate"):
        path = os.path.abspath(getattr(arguments, option))
        if not _PLAIN.match(path):
            named = f"--{option.replace('_', '-')} {path!r}"
            raise ConfigError(f"{named} must be of letters, digits and ./_- for HAProxy; name another")
    for option in ("user", "group"):
        name = getattr(arguments, option)
        if name is not None and not _NAME.match(name):
            raise ConfigError(f"--{option} {name!r} must be a name of letters, digits and ._-")
    if arguments.downloads < 1:
        raise ConfigError("--downloads must be 1 or more")
    if not os.path.isdir(arguments.run_dir):
        raise ConfigError(
            f"--run-dir {arguments.run_dir} is not a directory; make it, for the shim's and HAProxy's group"
        )


def _trusted(kubeconfig: str | None, certificate: str, now: str) -> bytes:
    """Return the CAs of front proxies: the cluster's, else the last known, else one that verifies nobody."""
    try:
        found = Cluster(kubeconfig).get(AUTHENTICATION).get("data") or {}
        return _certificates(str(found.get("requestheader-client-ca-file", "")).encode())
    except (ApiError, ValueError) as error:
        log.warning("the request-header CA cannot be learnt now, the shim will: %s", error)
    try:
        with open(now, "rb") as file:
            return _certificates(file.read())
    except (OSError, ValueError):
        return _nobody(certificate)


def _certificates(pem: bytes) -> bytes:
    """Return certificates that HAProxy can load. Raises ValueError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except ssl.SSLError as error:
        raise ValueError(f"it holds no certificates: {error.reason}") from None
    return pem


def _nobody(certificate: str) -> bytes:
    """Return a CA for HAProxy, which insists on one, that verifies nobody: its own certificate."""
    try:
        with open(certificate, "rb") as file:
            found = _CERTIFICATE.search(file.read())
    except OSError as error:
        raise ConfigError(f"--certificate {certificate}: {error.strerror}") from None
    if found is None:
        raise ConfigError(f"--certificate {certificate} has no certificate; name a PEM file")
    return found[0]


def _write(path: str, content: bytes) -> None:
    try:
        rundir.replace(path, content)
    except OSError as error:
        raise ConfigError(f"--run-dir: {path}: {error.strerror}") from None
    log.info("wrote %s", path)


def _file(directory: str, document: offline.Document) -> str:
    return os.path.join(rundir.path(directory, rundir.OFFLINE), document.file)


def _error(error: ApiError) -> str:
    _, headers, body = error.plain()
    more = " ".join(f"hdr {name} {value}" for name, value in headers if name == "Retry-After")
    said = f"content-type application/json string {_quoted(body.decode())}"
    return f"    http-error status {error.code} {said} {more}".rstrip()


def _rules(directory: str, document: offline.Document) -> list[str]:
    condition = f"{{ path {document.path} }}"
    if document.form:
        condition += f" {{ req.hdr(accept) -m reg '^application/json;.*v={document.form}(;|$)' }}"
    headers = "hdr Vary Accept" + (f" hdr ETag {_quoted(_etag(document))}" if document.etag else "")
    lines = []
    if document.etag:
        known = f"{{ req.hdr(if-none-match) -m str {_quoted(_etag(document))} }}"
        lines.append(f"    http-request return status 304 {headers} if {condition} {known}")
    content = f"content-type {_quoted(document.content_type)} file {_file(directory, document)}"
    return [*lines, f"    http-request return status 200 {content} {headers} if {condition}"]


def _etag(document: offline.Document) -> str:
    return f'"{document.etag}"'


def _quoted(text: str) -> str:
    """Return a word of HAProxy's configuration, in which nothing but a single quote means anything."""
    return "'" + text.replace("'", "'\\''") + "'"
