"""Downloads by curl, as the benchmarks time them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks import curl

BODY = b"core" * 1000
ALLOWED = "right"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {ALLOWED}"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // (2 if self.path == "/short" else 1)])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_what_was_fetched(address: str) -> None:
    got = curl.fetch(curl.Server("http://named.example", address=address, token=ALLOWED), "/dump")
    assert (got.status, got.length, got.body) == (200, len(BODY), len(BODY))
    assert 0 < got.first <= got.last


@pytest.mark.parametrize(("path", "token"), [("/short", ALLOWED), ("/dump", "wrong")])
def test_what_is_not_whole_is_an_error(address: str, path: str, token: str) -> None:
    with pytest.raises(RuntimeError, match="ended with"):
        curl.fetch(curl.Server(f"http://{address}", token=token), path)
