"""The watch, against a server that answers what a real kube-apiserver cannot be made to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from coredump_shim import names
from coredump_shim.cluster import Cluster
from coredump_shim.controller import watching
from coredump_shim.controller.endpointwatch import EndpointWatch
from coredump_shim.controller.roster import Roster
from coredump_shim.status import ApiError
from testbed.waiting import wait_for
from tests.support.answering import kubeconfig

POD = "10000000-0000-4000-8000-000000000001"
OBSERVED = json.dumps({"poduid": POD, "signature": "0123456789abcdef", "storedBytes": 7})
GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


def item(name: str, version: int, *, annotated: bool = True) -> dict[str, Any]:
    annotations = {names.OBSERVED: OBSERVED} if annotated else {}
    return {
        "metadata": {
            "name": name,
            "namespace": "demo",
            "resourceVersion": str(version),
            "annotations": annotations,
        }
    }


def event(kind: str, thing: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


class Server:
    """Lists what it has at version 10; each watch is answered with the next of its answers."""

    def __init__(self) -> None:
        self.items = [item("web", 5)]
        self.watches: list[tuple[int, list[bytes], bool]] = []
        """Code, pieces of the body, and whether it then ends; else it stays silent."""
        self.asked: list[dict[str, str]] = []
        self.over = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        query["accept"] = handler.headers["Accept"]
        self.asked.append(query)
        if "watch" not in query:
            listed = {"kind": "List", "metadata": {"resourceVersion": "10"}, "items": self.items}
            self._send(handler, 200, [json.dumps(listed).encode()], ends=True)
        else:
            code, pieces, ends = self.watches.pop(0)
            self._send(handler, code, pieces, ends=ends)

    def _send(self, handler: BaseHTTPRequestHandler, code: int, pieces: list[bytes], *, ends: bool) -> None:
        handler.send_response(code)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if ends:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            self.over.wait(20)
            handler.close_connection = True

    def lists(self) -> int:
        return len([query for query in self.asked if "watch" not in query and query["limit"] != "1"])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def roster() -> Roster:
    return Roster()


@pytest.fixture
def watch(server: Server, roster: Roster, tmp_path: Path) -> Iterator[EndpointWatch]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = True
        serving.block_on_close = False
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{serving.server_address[1]}")
        try:
            yield EndpointWatch(Cluster(str(config)), roster)
        finally:
            server.over.set()
            serving.shutdown()
            thread.join()


def always() -> bool:
    return True


def test_it_goes_on_from_where_the_last_watch_ended(
    server: Server, roster: Roster, watch: EndpointWatch
) -> None:
    bookmark = {"kind": "CoredumpEndpoint", "metadata": {"resourceVersion": "30"}}
    whole = event("ADDED", item("mine", 11)) + event("DELETED", item("web", 12)) + event("BOOKMARK", bookmark)
    server.watches = [(200, [whole[:50], whole[50:]], True), (200, [], True)]
    watch.follow(always)
    assert roster.names("demo", POD) == {"mine"}
    watch.follow(always)
    assert [query["resourceVersion"] for query in server.asked if "watch" in query] == ["10", "30"]
    assert server.lists() == 1
    assert all("PartialObjectMetadata" in query["accept"] for query in server.asked[1:])
    assert server.asked[-1]["timeoutSeconds"] == str(watching.SECONDS)


@pytest.mark.parametrize("said", ["in the answer", "as an event"])
def test_a_version_that_is_too_old_is_listed_again(
    server: Server, roster: Roster, watch: EndpointWatch, said: str
) -> None:
    gone = (
        (200, [event("ERROR", GONE)], True)
        if said == "as an event"
        else (410, [json.dumps(GONE).encode()], True)
    )
    server.watches = [gone, (200, [], True)]
    watch.follow(always)
    server.items = [item("other", 9)]
    watch.follow(always)
    assert server.lists() == 2
    assert roster.names("demo", POD) == {"other"}


@pytest.mark.parametrize(
    "answer",
    [
        (403, [b'{"kind": "Status", "message": "no"}'], True),
        (500, [b"what?"], True),
        (200, [event("ERROR", {"kind": "Status", "code": 500, "message": "etcd is gone"})], True),
        (200, [event("ADDED", item("mine", 11))[:-9]], True),
        (200, [b"not JSON\n"], True),
    ],
)
def test_what_fails_is_said_and_listed_again(
    server: Server, watch: EndpointWatch, answer: tuple[int, list[bytes], bool]
) -> None:
    server.watches = [answer, (200, [], True)]
    with pytest.raises(ApiError):
        watch.follow(always)
    watch.follow(always)
    assert server.lists() == 2


def test_a_dead_connection_is_given_up(
    server: Server, watch: EndpointWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0)
    monkeypatch.setattr(watching, "PATIENCE", 0.2)
    server.watches = [(200, [], False)]
    with pytest.raises(ApiError) as failed:
        watch.follow(always)
    assert failed.value.code == 503


def test_it_ends_when_the_controller_does(server: Server, roster: Roster, watch: EndpointWatch) -> None:
    server.watches = [(200, [event("ADDED", item("mine", 11))], False)]
    stop = threading.Event()
    thread = threading.Thread(target=watch.follow, args=(lambda: not stop.is_set(),))
    thread.start()
    wait_for("it was told", lambda: roster.names("demo", POD) == {"web", "mine"})
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
