"""OCI images of one static program, made without a container engine (OCI image-spec 1.0, image layout).

Not here: compiling the program (programs) and importing the image (containerd).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

REGISTRY = "coredump-guard.test"
"""First part of the images' names; .test is reserved (RFC 6761), so nothing can be pulled from there."""

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names of architectures, which the image-spec uses."""


def image_name(executable: Path) -> str:
    """Name the image of an executable by its content."""
    digest = hashlib.sha256(executable.read_bytes()).hexdigest()[:16]
    return f"{REGISTRY}/{executable.name}:{digest}"


def entrypoint(executable: Path) -> str:
    """Return where the executable lies in its image."""
    return f"/app/{executable.name}"


def image_tar(executable: Path) -> bytes:
    """Return the image-layout tar that `ctr images import` takes."""
    layer = _layer(executable)
    machine = platform.machine()
    config = {
        "architecture": MACHINES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": [entrypoint(executable)], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [json.dumps(config).encode(), layer]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", blobs[0]),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    }
    blobs.append(json.dumps(manifest).encode())
    named = _descriptor(manifest["mediaType"], blobs[2])
    named["annotations"] = {"io.containerd.image.name": image_name(executable)}
    files = {f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": blob for blob in blobs}
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    return _tar(files, mode=0o644)


def _layer(executable: Path) -> bytes:
    return _tar({entrypoint(executable).lstrip("/"): executable.read_bytes()}, mode=0o755)


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    """Return a tar that depends on nothing but its arguments."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(kind: object, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}
