"""Watches of a real server: bounded, begun at once, and over when their reader is gone."""

from __future__ import annotations

import contextlib
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from coredump_shim.config import Config
from testbed.waiting import wait_for
from tests.support import command

WATCH = "/apis/coredump.fujitsu.com/v1alpha1/coredumpendpoints?watch=1"
LIMIT = Config.max_watches


def ask(url: str, path: str, stack: contextlib.ExitStack) -> HTTPResponse:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=command.DEADLINE)
    stack.callback(connection.close)
    connection.request("GET", path)
    return stack.enter_context(connection.getresponse())


def test_watches_take_no_more_than_their_places(tmp_path: Path) -> None:
    with command.serve(tmp_path, tmp_path / "log") as url, contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as readers:
            # Nothing is stored, so that an answer has come shows that its headers did not wait for an event.
            assert [ask(url, WATCH, readers).status for _ in range(LIMIT)] == [200] * LIMIT
            refused = ask(url, WATCH, stack)
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            for path in ("/healthz", "/apis", WATCH.partition("?")[0]):
                assert ask(url, path, stack).status == 200
        wait_for("places of readers that are gone", lambda: ask(url, WATCH, stack).status == 200)


def test_watches_end_with_the_server_and_without_a_complaint(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with command.serve(tmp_path, tmp_path / "log") as url:
            watches = [ask(url, WATCH, stack) for _ in range(LIMIT)]
            ask(url, "/healthz", stack)
        # As time-outs end them, which clients take for nothing unusual; a cut stream raises IncompleteRead.
        assert [watch.read() for watch in watches] == [b""] * LIMIT
    log = (tmp_path / "log").read_text()
    assert "still running" not in log
    assert "disconnected" not in log
