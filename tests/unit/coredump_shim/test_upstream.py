"""Requests that go on to a kube-apiserver that breaks off, as a real one cannot be made to in time."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from coredump_shim.cluster import Cluster
from coredump_shim.status import ApiError
from coredump_shim.upstream import Upstream
from tests.support.answering import kubeconfig

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


class BreaksOff(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(ANSWER)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), BreaksOff) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Upstream(
                Cluster(str(kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_address[1]}"))), 1
            )
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("method", "retry_after"), [("GET", 5), ("DELETE", None)])
def test_kubectl_is_told_to_ask_again_only_where_that_changes_nothing(
    upstream: Upstream, method: str, retry_after: int | None
) -> None:
    with Flask("test").test_request_context(), pytest.raises(ApiError, match="is lost") as caught:
        upstream.one(method, "/x", [])
    assert (caught.value.code, caught.value.retry_after) == (503, retry_after)
