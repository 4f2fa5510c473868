"""The sockets that a shim listens on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from coredump_shim import serving


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_tcp(host: str) -> None:
    with serving.listen((host, 0)) as listener:
        socket.create_connection(listener.getsockname()[:2], timeout=5).close()


def test_unix_socket_replaces_a_stale_one_and_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "shim.sock"
    serving.listen(str(path)).close()
    assert path.exists()
    with serving.listen(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError, match="in use"):
            serving.listen(str(path))


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content")
    with pytest.raises(OSError):
        serving.listen(str(path))
    assert path.read_text() == "content"
