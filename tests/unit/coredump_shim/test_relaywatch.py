"""Watches that break off: a server that ends them as a real one does only when it dies."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

import pytest
import urllib3

from coredump_shim import rewrite
from coredump_shim.relaywatch import Janitor, LostError, Watched, events

EVENT = json.dumps({"type": "ADDED", "object": {"apiVersion": rewrite.STORED}}).encode() + b"\n"
SECONDS = 20


@contextlib.contextmanager
def answer(*chunks: bytes, ends: bool = True) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield an answer in these chunks; one that does not end stays open until the block does."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunk else b"0\r\n\r\n")
            if not ends:
                over.wait(SECONDS)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, urllib3.PoolManager() as pool:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            yield pool.request("GET", url, preload_content=False, timeout=SECONDS, retries=False)
        finally:
            over.set()
            server.shutdown()
            thread.join()


def test_lines_however_they_are_cut() -> None:
    with answer(EVENT[:7], EVENT[7:] + EVENT, b"") as whole:
        found = list(events(Watched(whole, lambda: False), Janitor()))
    assert found == [rewrite.event_to_caller(EVENT)] * 2


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param((EVENT, EVENT[:7], b""), id="half an event, and a clean end"),
        pytest.param((EVENT,), id="no end"),
        pytest.param((EVENT, b"nonsense\n", b""), id="no event"),
    ],
)
def test_what_breaks_off_does_not_end_as_if_it_were_whole(chunks: tuple[bytes, ...]) -> None:
    found = []
    with answer(*chunks) as broken, pytest.raises(LostError):
        for line in events(Watched(broken, lambda: False), Janitor()):
            found.append(line)
    assert found == [rewrite.event_to_caller(EVENT)]


def test_a_reader_who_goes_ends_it() -> None:
    gone = threading.Event()
    with answer(EVENT, ends=False) as open_ended:
        lines = events(Watched(open_ended, gone.is_set), Janitor())
        next(lines)
        gone.set()
        assert list(lines) == []


def test_the_janitor_rests_while_there_is_nobody_to_look_after() -> None:
    janitor = Janitor()
    for _ in range(2):
        with answer(b"") as nothing:
            assert list(events(Watched(nothing, lambda: False), janitor)) == []
    with contextlib.suppress(StopIteration):
        next(thread for thread in threading.enumerate() if thread.name == "watches").join(SECONDS)
    assert "watches" not in {thread.name for thread in threading.enumerate()}
