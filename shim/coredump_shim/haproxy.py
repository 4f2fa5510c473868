"""The command `coredump-shim haproxy`: what HAProxy needs to be the shim's front, in the run directory.

Not here: the configuration's text (haproxycfg), starting HAProxy, and keeping the CA of front proxies equal
to the cluster's afterwards (frontca).
"""

from __future__ import annotations

import argparse
import grp
import logging
import os
import pwd
import re
import ssl

from coredump_shim import config, discovery, downloads, frontca, haproxycfg, openapi, options, rundir, trust
from coredump_shim.cluster import Cluster
from coredump_shim.config import ConfigError
from coredump_shim.haproxycfg import Settings
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Write HAProxy's configuration and what it needs; run it before each start and reload of HAProxy."
)

_PATH = re.compile(r"/[\w./-]+", re.ASCII)
_NAME = re.compile(r"[\w.-]+", re.ASCII)


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
        help="HAProxy's certificate and key; the key of NAME.crt may be in NAME.key",
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
        default=downloads.DOWNLOADS,
        metavar="N",
        help="downloads at one time (default: %(default)s)",
    )
    options.add_log_level(parser, "")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; return the exit status. Raises ConfigError."""
    settings = settings_of(arguments)
    _usable(settings)
    ca = rundir.path(settings.run_dir, rundir.REQUESTHEADER_CA)
    documents = [*discovery.documents(joined=True), *openapi.documents(joined=True)]
    _write(ca, _authorities(arguments.kubeconfig, settings.certificate, ca).encode())
    os.makedirs(rundir.path(settings.run_dir, rundir.OFFLINE), 0o750, exist_ok=True)
    for document in documents:
        _write(haproxycfg.file(settings.run_dir, document), document.body)
    text = haproxycfg.text(settings, documents)
    _write(rundir.path(settings.run_dir, rundir.HAPROXY_CFG), text.encode())
    return 0


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return what the options say. Raises ConfigError."""
    if not os.path.isdir(arguments.run_dir):
        raise ConfigError(
            f"--run-dir {arguments.run_dir} is not a directory; make it, for the shim's and HAProxy's group"
        )
    if not 1 <= arguments.downloads <= 1000:
        raise ConfigError(f"--downloads {arguments.downloads} must be from 1 to 1000")
    host, port = config.parse_listen(arguments.listen)
    return Settings(
        run_dir=_plain("--run-dir", os.path.abspath(arguments.run_dir), _PATH),
        certificate=_plain("--certificate", os.path.abspath(arguments.certificate), _PATH),
        host=host,
        port=port,
        downloads=arguments.downloads,
        user=arguments.user and _plain("--user", arguments.user, _NAME),
        group=arguments.group and _plain("--group", arguments.group, _NAME),
    )


def _usable(settings: Settings) -> None:
    """Raise ConfigError for what would keep HAProxy from starting."""
    certificate = settings.certificate
    try:
        key = _key_of(certificate)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        said = error.strerror or str(error)
        if "KEY_VALUES_MISMATCH" in said:
            said = "the key is another certificate's"
        elif isinstance(error, ssl.SSLError):
            said = "no certificate with its unencrypted key, in PEM"
        where = "the key must be in the same file or beside NAME.crt in NAME.key"
        raise ConfigError(f"--certificate {certificate}: {said}; {where}") from None
    for option, name, look in (
        ("--user", settings.user, pwd.getpwnam),
        ("--group", settings.group, grp.getgrnam),
    ):
        try:
            look(name or "root")
        except KeyError:
            raise ConfigError(f"{option} {name}: there is none here; make it, or name another") from None


def _key_of(certificate: str) -> str:
    """Return the file with a certificate's key, where HAProxy looks for it. Raises OSError."""
    if "PRIVATE KEY-----" in _read(certificate):
        return certificate
    return f"{certificate.removesuffix('.crt')}.key"


def _no_password() -> str:
    """Answer for an encrypted key, instead of a question at a terminal."""
    return ""


def _plain(option: str, value: str, allowed: re.Pattern[str]) -> str:
    """Return a value that needs no quotes in HAProxy's configuration. Raises ConfigError."""
    if not allowed.fullmatch(value):
        raise ConfigError(
            f"{option} {value!r} must be of letters, digits and . _ - / for HAProxy; name another"
        )
    return value


def _authorities(kubeconfig: str | None, certificate: str, known: str) -> str:
    """Return the CAs of front proxies: the cluster's, else those known from before, else one of nobody's."""
    try:
        return frontca.normal(trust.parse(Cluster(kubeconfig).get(trust.CONFIGMAP).get("data") or {}).ca)
    except (ApiError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        log.warning("who the front proxy is cannot be learnt now; the shim will: %s", error)
    try:
        return frontca.normal(_read(known))
    except (OSError, ValueError):
        return _of_nobody(certificate)


def _of_nobody(certificate: str) -> str:
    """Return a CA that has signed no client's certificate, since HAProxy insists on one: its own certificate.

    Without those that follow it in the file: one of them may well have signed others.
    """
    try:
        first, end, _ = _read(certificate).partition("-----END CERTIFICATE-----")
        return frontca.normal(first + end)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it has no certificate"
        raise ConfigError(f"--certificate {certificate}: {said}; name a PEM file") from None


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    try:
        rundir.replace(path, content)
    except OSError as error:
        raise ConfigError(f"--run-dir: {path}: {error.strerror}") from None
    log.info("wrote %s", path)
