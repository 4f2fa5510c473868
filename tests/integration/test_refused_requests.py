"""Requests that are refused before the application sees them: in Kubernetes' words all the same."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from email.parser import BytesParser

import pytest

from coredump_shim.config import Config
from coredump_shim.server import MAX_HEADERS
from tests.support import serving
from tests.support.serving import DEADLINE, ENDPOINTS, Shim

HOST = b"Host: localhost\r\n"
POST = f"POST {ENDPOINTS} HTTP/1.1\r\n".encode() + HOST
DUMP = f"GET {ENDPOINTS}/web/dump HTTP/1.1\r\n".encode() + HOST


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    with serving.shim(tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("log") / "log") as running:
        yield running


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "not HTTP", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400, "header", id="malformed header"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", 400, "Content-Length", id="negative length"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "chunk", id="malformed chunk"),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding", id="encoding"),
        pytest.param(
            POST + b"Content-Length: %d\r\n\r\n" % (Config.max_body + 1),
            413,
            str(Config.max_body),
            id="long body",
        ),
        pytest.param(b"GET /" + b"a" * MAX_HEADERS, 431, str(MAX_HEADERS), id="long path"),
        pytest.param(DUMP + b"x: " + b"a" * MAX_HEADERS, 431, str(MAX_HEADERS), id="long header"),
        pytest.param(DUMP + b"Content-Length: x\r\n\r\n", 400, "Content-Length", id="malformed, for a dump"),
    ],
)
def test_answer_is_a_status(shim: Shim, request_: bytes, code: int, said: str) -> None:
    with socket.create_connection(("127.0.0.1", shim.port), timeout=DEADLINE) as connection:
        connection.sendall(request_)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    headers = BytesParser().parse(io.BytesIO(rest))
    status = json.loads(body)
    assert first.split()[1] == str(code).encode()
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)
    assert said in status["message"] and status["reason"]
    assert (headers["Content-Type"], headers["Connection"]) == ("application/json", "close")
    assert headers.get_all("Content-Length") == [str(len(body))]


def read_all(connection: socket.socket) -> bytes:
    """Read until the shim closes."""
    answer = b""
    while data := connection.recv(1 << 16):
        answer += data
    return answer


def test_next_request_is_served(shim: Shim) -> None:
    with socket.create_connection(("127.0.0.1", shim.port), timeout=DEADLINE) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
    with serving.get(f"{shim.url}/healthz") as response:
        assert response.read() == b"ok"
