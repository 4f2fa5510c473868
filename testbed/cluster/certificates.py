"""Certificates, made by openssl: authorities, and what they sign.

Not here: which of them a cluster needs (controlplane).
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = 365
CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
LEAF_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth,clientAuth",
)


@dataclass(frozen=True)
class Certificate:
    """Two PEM files: a certificate, and its private key, which only its owner may read."""

    path: Path
    key: Path

    def bundle(self) -> Path:
        """Return one file with both, as HAProxy's `crt` takes it."""
        both = self.path.with_suffix(".bundle.pem")
        both.touch(mode=0o600)
        both.write_bytes(self.path.read_bytes() + self.key.read_bytes())
        return both


class Authority:
    """A certificate authority; all that it makes lies in its directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = self._make(name, [f"/CN={name}"], CA_EXTENSIONS)

    def issue(
        self, file: str, cn: str, organizations: tuple[str, ...] = (), sans: tuple[str, ...] = ()
    ) -> Certificate:
        """Return a certificate in files named after `file`. For Kubernetes CN is the user, each O a group;
        sans are as openssl writes them, DNS:localhost say."""
        subject = [f"/O={_escaped(each)}" for each in organizations] + [f"/CN={_escaped(cn)}"]
        names = (f"subjectAltName={','.join(sans)}",) if sans else ()
        return self._make(file, subject, (*LEAF_EXTENSIONS, *names), self.certificate)

    def _make(
        self,
        file: str,
        subject: list[str],
        extensions: tuple[str, ...],
        signer: Certificate | None = None,
    ) -> Certificate:
        made = Certificate(self.directory / f"{file}.pem", self.directory / f"{file}.key")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-utf8", "-days", str(DAYS), "-subj", "".join(subject)]
        command += ["-out", str(made.path), "-keyout", str(made.key)]
        command += [word for extension in extensions for word in ("-addext", extension)]
        if signer is not None:
            command += ["-CA", str(signer.path), "-CAkey", str(signer.key)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
        return made


def _escaped(value: str) -> str:
    """Return a value for openssl's -subj, in which / + = and \\ mean something."""
    return re.sub(r"([/+=\\])", r"\\\1", value)
