"""The log's lines about dumps; cluster/test_access.py has those of a cluster, with users."""

from __future__ import annotations

import logging

import pytest

from .conftest import Api, url


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_downloads_and_deletions(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.dump()
    length = len(api.get("/web/dump?container=app").data)
    api.delete("/web/dump")
    result = f"{length} of {length} bytes from 0 on, complete"
    assert caplog.messages == [
        f"download of demo/web '?container=app' (1 dumps) for 127.0.0.1: {result}",
        "deleted 1 dumps of demo/web for 127.0.0.1",
    ]


@pytest.mark.parametrize("form", ["dump", "proxy/dump"])
def test_what_is_refused_and_why(api: Api, caplog: pytest.LogCaptureFixture, form: str) -> None:
    api.get(f"/web/{form}")
    path = url(f"/web/{form}")
    (message,) = caplog.messages
    assert message.startswith(f"refused GET '{path}' for 127.0.0.1: 404 'coredumpendpoints")
    api.get("/web")
    api.get("/web/nothing")
    assert len(caplog.messages) == 1, "other requests are not audited"


def test_no_request_forges_a_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.get("/web%0Adownload of demo/dump?container=%0A\x1b'x")
    api.get("/web/dump?container=a\n\u2028b" + "x" * 5000)
    assert caplog.messages
    for message in caplog.messages:
        assert message.isprintable()
        assert len(message) < 1500
