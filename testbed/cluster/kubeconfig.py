"""The kubeconfig file: written for a client certificate or a bearer token.

Not here: certificates and tokens themselves (certificates, controlplane).
"""

from __future__ import annotations

import json
from pathlib import Path

from testbed.cluster.certificates import Certificate


def write(path: Path, server: str, ca: Path, credentials: dict[str, str]) -> Path:
    """Write a kubeconfig with one cluster and one user, for its owner's eyes; JSON is YAML. Returns path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2))
    return path


def by_certificate(certificate: Certificate) -> dict[str, str]:
    """Return the credentials of a client certificate."""
    return {"client-certificate": str(certificate.path), "client-key": str(certificate.key)}


def by_token(token: str) -> dict[str, str]:
    """Return the credentials of a bearer token."""
    return {"token": token}
