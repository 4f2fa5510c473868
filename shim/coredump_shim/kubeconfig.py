"""The kubeconfig file: read, and refused in plain words where it is none, or is none that we can use.

Not here: the connection (cluster), and what a token says (bearer).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml

from coredump_shim.config import ConfigError
from coredump_shim.endpoint import Object

_UNUSABLE = (kubernetes.config.ConfigException, OSError, ValueError, TypeError, AttributeError)
"""What kubernetes.config raises for files that are no kubeconfig; yaml.YAMLError is said in other words."""
_OTHERS = ("exec", "auth-provider", "username")
"""How users authenticate who have neither a token nor a certificate."""
GIVE = (
    "coredump-shim takes a token or a client certificate; a service account's: "
    "kubectl create token ACCOUNT -n NAMESPACE --duration 8760h"
)


@dataclass(frozen=True)
class Chosen:
    """What of a kubeconfig is used: its current context's cluster and user, by their names."""

    path: str
    cluster: str
    user: str


def load(path: str, configuration: kubernetes.client.Configuration) -> Chosen:
    """Have a client's configuration do as a kubeconfig says.

    Raises ConfigError, which names the file and what in it is wrong.
    """
    try:
        chosen = _chosen(path, _parsed(path))
        kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
            path, client_configuration=configuration, persist_config=False
        )
        _fix_token(configuration)
        _try_files(configuration)
    except _UNUSABLE as error:
        raise ConfigError(f"--kubeconfig {path}: {_words(error)}") from None
    return chosen


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)


def _parsed(path: str) -> Object:
    """Return a file's YAML. Raises OSError, ValueError."""
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None  # the option names the file already
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        where = f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise ValueError(f"is no YAML{where}") from None
    if not isinstance(found, dict) or found.get("kind", "Config") != "Config":
        raise ValueError("is no kubeconfig; kubectl config view --flatten --raw prints one")
    return found


def _chosen(path: str, config: Object) -> Chosen:
    """Return what the current context chooses, which we can use. Raises ValueError."""
    current = config.get("current-context")
    if not current:
        raise ValueError("has no current-context; kubectl config use-context sets it")
    context = _named(config, "context", current, "current-context")
    cluster = _named(config, "cluster", context.get("cluster"), f"context {current!r}")
    server = cluster.get("server")
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", str(server)):
        raise ValueError(f"server {server!r} of the cluster must be a URL, https://ADDRESS:6443 say")
    name = context.get("user")
    _usable(f"user {name!r}", _named(config, "user", name, f"context {current!r}"))
    return Chosen(path, str(context["cluster"]), str(name))


def _named(config: Object, kind: str, name: object, by: str) -> Object:
    """Return the context, cluster or user of a name. Raises ValueError."""
    there = config.get(f"{kind}s")
    for each in there if isinstance(there, list) else []:
        if isinstance(each, dict) and each.get("name") == name and isinstance(each.get(kind), dict):
            found: Object = each[kind]
            return found
    raise ValueError(f"has no {kind} {name!r}, which {by} names")


def _usable(who: str, user: Object) -> None:
    """Raise ValueError for a user whom we cannot be."""
    if user.get("token") or user.get("tokenFile"):
        return
    if any(user.get(f"client-certificate{end}") and user.get(f"client-key{end}") for end in ("", "-data")):
        return
    other = next((way for way in _OTHERS if way in user), None)
    how = f"authenticates by {other}, which is not supported" if other else "has no credentials"
    raise ValueError(f"{who} {how}; {GIVE}")


def _fix_token(configuration: Any) -> None:
    """Keep a token as it is now, without the line's end that a file of it has. Raises ValueError."""
    configuration.refresh_api_key_hook = None  # it would put back what was read; nothing of ours expires
    scheme, _, token = configuration.api_key.get("BearerToken", "").partition(" ")
    if scheme and not re.fullmatch(r"[!-~]+", token.strip()):
        raise ValueError(f"the user's token has characters that no token has, or none at all; {GIVE}")
    if scheme:
        configuration.api_key["BearerToken"] = f"{scheme} {token.strip()}"


def _try_files(configuration: Any) -> None:
    """Raise ValueError for certificates that are none: the first request would say it in OpenSSL's words."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if configuration.ssl_ca_cert:
            context.load_verify_locations(configuration.ssl_ca_cert)
    except ssl.SSLError:
        raise ValueError("certificate-authority of the cluster holds no certificate, in PEM") from None
    try:
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file, password=lambda: "")
    except ssl.SSLError as error:
        other = "KEY_VALUES_MISMATCH" in str(error)
        said = "do not belong together" if other else "are no certificate and its unencrypted key, in PEM"
        raise ValueError(f"client-certificate and client-key of the user {said}") from None
