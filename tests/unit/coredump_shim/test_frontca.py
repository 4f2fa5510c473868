"""The CA's file and HAProxy's runtime API; cluster/test_access.py rotates it under a real one."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_shim import frontca
from coredump_shim.frontca import Publisher

ONE = "-----BEGIN CERTIFICATE-----\nMAE=\n-----END CERTIFICATE-----\n"
TWO = "-----BEGIN CERTIFICATE-----\nMAI=\n-----END CERTIFICATE-----\n"


@contextmanager
def haproxy(run_dir: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """Answer so many commands; yield those that come."""
    commands: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "admin.sock"))
        listener.listen()
        listener.settimeout(30)

        def serve() -> None:
            for answer in answers:
                with listener.accept()[0] as client:
                    commands.append(b"".join(iter(lambda: client.recv(4096), b"")))
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield commands
        thread.join()
    (run_dir / "admin.sock").unlink()


def test_the_file_is_whole_and_for_haproxys_group(tmp_path: Path) -> None:
    file = tmp_path / "requestheader-ca.pem"
    Publisher(str(tmp_path)).publish(ONE)
    assert file.read_text() == ONE
    before = file.stat()
    Publisher(str(tmp_path)).publish(ONE)
    assert file.stat().st_ino == before.st_ino, "what is the same is left alone"
    Publisher(str(tmp_path)).publish(TWO)
    assert file.read_text() == TWO
    assert file.stat().st_ino != before.st_ino, "HAProxy never reads half of it"
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_nothing_but_certificates_reaches_a_command() -> None:
    wrapped = TWO.replace("MAI=", "M\nAI=\n")
    assert frontca.normal(f"# comment\n\n{ONE}\n\nshow env\n{wrapped}") == ONE + TWO
    for bad in ("", "x", "-----BEGIN CERTIFICATE-----\n\nshow env!\n-----END CERTIFICATE-----"):
        with pytest.raises(ValueError, match="no certificate"):
            frontca.normal(bad)


def test_haproxy_is_told_once(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path))
    publisher.publish(ONE)
    with haproxy(tmp_path, b"transaction created for CA x!\n\n", b"Committing x\nSuccess!\n\n") as commands:
        publisher.publish(ONE)
    path = f"{tmp_path}/requestheader-ca.pem".encode()
    assert commands == [
        b"set ssl ca-file " + path + b" <<\n" + ONE.encode() + b"\n",
        b"commit ssl ca-file " + path + b"\n",
    ]
    with haproxy(tmp_path) as commands:
        publisher.publish(ONE)
    assert commands == []


def test_haproxy_that_cannot_is_said_to_need_a_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(str(tmp_path))
    with haproxy(tmp_path, b"Unknown command: 'set ssl ca-file'"), caplog.at_level(logging.ERROR):
        publisher.publish(ONE)
    assert "must be reloaded" in caplog.text
    publisher.publish(ONE)
    assert caplog.text.count("must be reloaded") == 1


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Publisher(str(tmp_path / "missing")).publish(ONE)
