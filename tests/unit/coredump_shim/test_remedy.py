"""Causes and remedies of what kept a check from looking, with a real client's errors."""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_shim import remedy
from coredump_shim.cluster import Cluster, NotAcceptedError
from coredump_shim.remedy import StoreError
from coredump_shim.status import ApiError


def cluster(directory: Path, server: str, ca: Path | None = None, token: str = "secret") -> Cluster:  # noqa: S107
    file = directory / "my config"
    trusting = {"certificate-authority": str(ca)} if ca else {}
    config = {
        "clusters": [{"name": "c d", "cluster": {"server": server, **trusting}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c d", "user": "u"}}],
        "current-context": "x",
    }
    file.write_text(json.dumps(config))
    return Cluster(str(file))


def told(directory: Path, server: str, ca: Path | None = None) -> remedy.Told:
    connection = cluster(directory, server, ca)
    with pytest.raises(ApiError) as caught:
        connection.get("/version")
    return remedy.told(caught.value, connection)


@contextlib.contextmanager
def listening(speak: bytes = b"") -> Iterator[int]:
    """Have somebody take connections, say something and hang up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=(server, speak))
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def hang_up(server: socket.socket, speak: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(speak)


def certificate(directory: Path, san: str) -> Path:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=x", "-addext", f"subjectAltName={san}", "-out", "c.pem", "-keyout", "c.key"]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=directory)
    return directory / "c.pem"


@contextlib.contextmanager
def secure(pem: Path) -> Iterator[int]:
    """Have somebody show a certificate to one client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, pem.with_suffix(".key"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            connection, _ = server.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=shake)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_nobody_there(tmp_path: Path) -> None:
    found, mend = told(tmp_path, "https://127.0.0.1:1")
    assert found == "https://127.0.0.1:1 does not answer: Connection refused"
    assert "curl -k https://127.0.0.1:1/livez" in mend
    assert "kubectl config set-cluster 'c d' --kubeconfig" in mend
    assert shlex.quote(str(tmp_path / "my config")) in mend


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    found, mend = told(tmp_path, "https://no.such.invalid:6443")
    assert found.startswith("https://no.such.invalid:6443: its name is not known: ")
    assert "Errno" not in found and "(" not in found
    assert "DNS" in mend


def test_who_hangs_up(tmp_path: Path) -> None:
    with listening() as port:
        found, _ = told(tmp_path, f"http://127.0.0.1:{port}")
    assert found.startswith(f"http://127.0.0.1:{port} does not answer: ")
    assert "RemoteDisconnected(" not in found and "'" not in found


def test_who_speaks_no_tls(tmp_path: Path) -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found, _ = told(tmp_path, f"https://127.0.0.1:{port}")
    assert "is not the kube-apiserver that the kubeconfig means: " in found
    assert "_ssl.c" not in found


def test_another_ca(tmp_path: Path) -> None:
    shown = certificate(tmp_path, "IP:127.0.0.1")
    (tmp_path / "other").mkdir()
    with secure(shown) as port:
        found, mend = told(tmp_path, f"https://127.0.0.1:{port}", certificate(tmp_path / "other", "DNS:x"))
    assert found.endswith("is not the kube-apiserver that the kubeconfig means: self-signed certificate")
    assert "--certificate-authority <(kubectl get configmap kube-root-ca.crt" in mend


def test_another_address(tmp_path: Path) -> None:
    shown = certificate(tmp_path, "DNS:elsewhere")
    with secure(shown) as port:
        found, mend = told(tmp_path, f"https://127.0.0.1:{port}", shown)
    assert "mismatch" in found
    assert "--server https://ADDRESS:6443" in mend


def test_a_token_that_is_not_accepted(tmp_path: Path) -> None:
    found, mend = remedy.told(NotAcceptedError(), cluster(tmp_path, "https://127.0.0.1:1"))
    assert "does not accept our token: it is not of this cluster" in found
    assert "kubectl config set-credentials u --kubeconfig" in mend
    assert '--token "$(kubectl create token coredump-shim -n coredump-system --duration 8760h)"' in mend


def test_a_token_that_ended(tmp_path: Path) -> None:
    claims = {"sub": "system:serviceaccount:coredump-system:coredump-controller", "exp": time.time() - 60}
    token = f"a.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c"
    connection = cluster(tmp_path, "https://127.0.0.1:1", token=token)
    connection.clock = time.time()
    found, mend = remedy.told(NotAcceptedError(), connection)
    assert found.startswith("kube-apiserver does not accept our token: it ended 20")
    assert "kubectl create token coredump-controller -n coredump-system" in mend


def test_what_kube_apiserver_says_by_itself(tmp_path: Path) -> None:
    connection = cluster(tmp_path, "https://127.0.0.1:1")
    assert remedy.told(ApiError(500, "boom"), connection) == ("boom", "see kube-apiserver's log")
    assert "kubectl apply -k OVERLAY" in remedy.told(ApiError(404, "no"), connection)[1]
    assert "see credentials" in remedy.told(ApiError(403, "no"), connection)[1]


def test_a_store_that_cannot_be_looked_at(tmp_path: Path) -> None:
    connection = cluster(tmp_path, "https://127.0.0.1:1")
    gone = StoreError("/srv/co res", OSError("No such file or directory"))
    found, mend = remedy.told(gone, connection)
    assert found == "/srv/co res: No such file or directory"
    assert "findmnt -T '/srv/co res'" in mend and "ls -ld '/srv/co res'" in mend
    found, mend = remedy.told(StoreError("/srv", TimeoutError("it does not answer")), connection)
    assert found == "/srv: it does not answer"
    assert "is its file server up?" in mend
