"""A store that blocks whoever touches it, as a dead NFS server does: the shim stays up."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support import command
from tests.support.dumps import write_dump

COLLECTION = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/demo/coredumpendpoints"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse"),
]


def ask(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)  # noqa: S310 (http:)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (our own http:)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_store_that_hangs_silences_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    write_dump(store)
    created = {
        "apiVersion": "coredump.fujitsu.com/v1alpha1",
        "kind": "CoredumpEndpoint",
        "metadata": {"name": "web"},
    }
    with command.serve(store, tmp_path / "log") as url:
        assert ask(f"{url}{COLLECTION}/web")[0] == 200
        with hung(store), ThreadPoolExecutor() as callers:
            asked = [
                callers.submit(ask, f"{url}{COLLECTION}{path}")
                for path in ("", "/web", "/web/dump", "?watch=1")
            ]
            asked.append(callers.submit(ask, f"{url}{COLLECTION}", "POST", json.dumps(created).encode()))
            for path in ("/healthz", "/apis", "/apis/coredump.fujitsu.com/v1alpha1", "/openapi/v3"):
                assert ask(f"{url}{path}")[0] == 200, path
            for code, text in (answer.result(60) for answer in asked):
                assert (code, json.loads(text)["reason"]) == (503, "ServiceUnavailable")
        wait_for("the store is back", lambda: ask(f"{url}{COLLECTION}/web")[0] == 200)


def test_starts_with_a_store_that_hangs(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    store.mkdir()
    write_dump(store)
    with contextlib.ExitStack() as stack:
        with hung(store):
            url = stack.enter_context(command.serve(store, log))
            assert f"--store {store} does not answer within" in log.read_text()
            assert ask(f"{url}/apis")[0] == 200
            assert ask(f"{url}{COLLECTION}/web")[0] == 503
        wait_for("the store is back", lambda: ask(f"{url}{COLLECTION}/web")[0] == 200)


def test_discovery_does_not_wait_for_those_who_wait_for_the_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    write_dump(store)
    with command.serve(store, tmp_path / "log") as url, ThreadPoolExecutor(64) as callers, hung(store):
        asked = [callers.submit(ask, f"{url}{COLLECTION}/web") for _ in range(64)]
        for path in ("/healthz", "/apis"):
            assert ask(f"{url}{path}")[0] == 200
        assert not any(call.done() for call in asked)
        assert {call.result(60)[0] for call in asked} == {503}
