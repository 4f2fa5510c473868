"""The connection to kube-apiserver, against a server that answers what a real one cannot be made to."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from coredump_shim import cluster
from coredump_shim.cluster import Cluster, NotAcceptedError
from coredump_shim.config import ConfigError
from coredump_shim.remembered import Remembered
from coredump_shim.status import ApiError

Answer = tuple[int, bytes]
TOKEN = "a-service-accounts"  # noqa: S105 (it is none)


@contextlib.contextmanager
def server(tmp_path: Path, answer: Callable[[str, bytes], Answer]) -> Iterator[Cluster]:
    """Serve answers by `METHOD path?query` and body; yield a connection."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                code, text = 401, b"whose token is this?"
            else:
                code, text = answer(f"{self.command} {self.path}", body)
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 (its names)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Cluster(str(kubeconfig(tmp_path, f"http://127.0.0.1:{serving.server_address[1]}")))
        finally:
            serving.shutdown()
            thread.join()


def kubeconfig(directory: Path, url: str) -> Path:
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def status(code: int, reason: str, message: str, **details: object) -> bytes:
    return json.dumps(
        {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    ).encode()


def test_an_error_keeps_the_servers_words(tmp_path: Path) -> None:
    said = status(409, "AlreadyExists", "it is there", name="web", kind="coredumpendpoints")
    with server(tmp_path, lambda _asked, _body: (409, said)) as api, pytest.raises(ApiError) as caught:
        api.create("/x", {})
    assert (caught.value.code, caught.value.reason, caught.value.message) == (
        409,
        "AlreadyExists",
        "it is there",
    )
    assert caught.value.details["name"] == "web"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'"x"', b'{"kind":"Pod"}', b"{", b"\xff"])
def test_an_error_that_is_no_status(body: bytes) -> None:
    assert cluster.error_of(503, body).message == "kube-apiserver answered 503 and no Status"
    assert cluster.error_of(302, body).code == 502


def test_who_does_not_know_us_says_nothing_of_who_asks_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "_complaints", Remembered(60.0, 1))
    said = status(401, "Unauthorized", "Unauthorized")
    with server(tmp_path, lambda _asked, _body: (401, said)) as api:
        for _ in range(3):
            with pytest.raises(NotAcceptedError, match="the shim's own credentials") as caught:
                api.get("/x")
            assert (caught.value.code, caught.value.retry_after) == (503, None)
    assert [record.levelname for record in caplog.records] == ["ERROR"], "once a while"
    assert "write a new one into the kubeconfig" in caplog.text


def test_lesson_gone_is_only_what_the_server_says_of_the_object() -> None:
    assert cluster.is_gone(cluster.error_of(404, status(404, "NotFound", "not found", name="web")))
    # A resource that is not served, a proxy's page, another code: nothing is known of the object.
    for code, body in [
        (404, status(404, "NotFound", "the server could not find the requested resource")),
        (404, b"<html>404</html>"),
        (403, status(403, "Forbidden", "no", name="web")),
        (503, status(503, "ServiceUnavailable", "no")),
    ]:
        assert not cluster.is_gone(cluster.error_of(code, body))


def test_pages_follow_the_continue_token(tmp_path: Path) -> None:
    def answer(asked: str, _body: bytes) -> Answer:
        last = "continue=more%2F1" in asked
        page = {"items": [2] if last else [0, 1], "metadata": {} if last else {"continue": "more/1"}}
        return 200, json.dumps(page).encode()

    with server(tmp_path, answer) as api:
        assert [len(page) for page in api.pages("/api/v1/pods")] == [2, 1]


def test_pages_that_expire_are_an_error_and_no_end(tmp_path: Path) -> None:
    def answer(asked: str, _body: bytes) -> Answer:
        if "continue" in asked:
            return 410, status(410, "Expired", "the continue parameter is too old")
        return 200, json.dumps({"items": [{"n": 1}], "metadata": {"continue": "more"}}).encode()

    with server(tmp_path, answer) as api:
        pages = api.pages("/x")
        assert next(pages) == [{"n": 1}]
        with pytest.raises(ApiError) as caught:
            next(pages)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


def test_the_servers_clock_is_seen(tmp_path: Path) -> None:
    with server(tmp_path, lambda _asked, _body: (200, b"{}")) as api:
        assert api.clock is None
        api.get("/version")
        assert api.clock is not None


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b""])
def test_an_answer_that_cannot_be_is_503(tmp_path: Path, body: bytes) -> None:
    with server(tmp_path, lambda _asked, _body: (200, body)) as api, pytest.raises(ApiError) as caught:
        api.get("/x")
    assert caught.value.code == 503


def test_nobody_there_is_503_with_a_time_to_try_again(tmp_path: Path) -> None:
    with pytest.raises(ApiError) as caught:
        Cluster(str(kubeconfig(tmp_path, "http://127.0.0.1:1"))).get("/x")
    assert (caught.value.code, caught.value.retry_after) == (503, 5)


def test_without_a_kubeconfig_it_is_in_a_pod() -> None:
    with pytest.raises(ConfigError, match="--in-cluster: "):
        Cluster(None)
