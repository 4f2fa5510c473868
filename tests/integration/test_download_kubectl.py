"""Downloads by the real kubectl that end before their time, at either end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import command, serving
from tests.support.command import Kubectl
from tests.support.dumps import write_dump
from tests.support.serving import DEADLINE, ENDPOINTS, Shim

DUMP = f"{ENDPOINTS}/web/dump"
CORE = random.Random(7).randbytes(40 << 20)
"""Does not compress, and is more than sockets and pipes on its way hold."""

HERE: list[Path | None] = [*command.kubectls()] or [None]


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    write_dump(tmp_path / "store", core=CORE)
    with serving.shim(tmp_path / "store", tmp_path / "log") as running:
        yield running


@pytest.fixture(params=HERE, ids=str)
def kubectl(request: pytest.FixtureRequest, shim: Shim, tmp_path: Path) -> Kubectl:
    if request.param is None:
        pytest.skip("missing: kubectl; Debian has it in the package kubernetes-client")
    return Kubectl(request.param, shim.url, tmp_path / "cache")


@contextmanager
def begun(kubectl: Kubectl) -> Iterator[subprocess.Popen[bytes]]:
    """Have kubectl download, and stop taking its output after the first bytes."""
    with subprocess.Popen(
        kubectl.command("get", "--raw", DUMP),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=kubectl.environment,
    ) as download:
        try:
            assert download.stdout is not None and download.stdout.read(1 << 20)
            yield download
        finally:
            download.kill()


def test_kubectl_killed_leaves_the_server_healthy(shim: Shim, kubectl: Kubectl) -> None:
    processes = [shim.process(name) for name in ("shim-front", "shim-downloads")]
    with begun(kubectl) as download:
        download.kill()
    assert "aborted" in shim.wait_for_log("download of demo/web")
    with serving.get(f"{shim.url}/healthz") as health, serving.get(shim.dump) as again:
        assert health.read() == b"ok"
        assert len(again.read()) == int(again.headers["Content-Length"])
    assert [shim.process(name) for name in ("shim-front", "shim-downloads")] == processes
    assert "Traceback" not in shim.log.read_text()


def test_kubectl_fails_when_the_server_dies(shim: Shim, kubectl: Kubectl) -> None:
    with begun(kubectl) as download:
        os.kill(shim.process("shim-downloads"), signal.SIGKILL)
        rest, errors = download.communicate(timeout=DEADLINE)
    assert download.returncode == 1, errors
    assert errors and len(rest) < len(CORE)
    assert len(download_all(kubectl)) > len(CORE)


def download_all(kubectl: Kubectl) -> bytes:
    whole = kubectl.command("get", "--raw", DUMP)
    return subprocess.run(whole, check=True, capture_output=True, timeout=60, env=kubectl.environment).stdout
