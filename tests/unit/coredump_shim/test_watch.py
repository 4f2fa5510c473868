"""Watches, read from the application as a server would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from coredump_shim.catalog import Catalog
from coredump_shim.deadline import Deadline
from coredump_shim.endpoints import Endpoints
from coredump_shim.history import History
from coredump_shim.kept import Keeper
from coredump_shim.watch import Terms, Watches
from tests.support.dumps import write_dump

from .conftest import Api, json_of, url

ALL = "/apis/coredump.fujitsu.com/v1alpha1/coredumpendpoints"


class Stream:
    """A watch under way: its status, and its events one by one."""

    def __init__(self, api: Api, query: str, path: str, accept: str) -> None:
        builder = EnvironBuilder(
            path=path, query_string=f"watch=1&timeoutSeconds=20&{query}", headers=[("Accept", accept)]
        )
        self.hung_up = False
        environ = builder.get_environ() | {"waitress.client_disconnected": lambda: self.hung_up}
        self.written: list[bytes] = []
        self._answer = api.app.wsgi_app(environ, self._start)
        self._lines = iter(self._answer)

    def _start(self, status: str, _headers: Any, _exc_info: Any = None) -> Any:
        self.status = int(status.partition(" ")[0])
        return self.written.append

    def next(self) -> tuple[str, Any]:
        event = json.loads(next(self._lines))
        return event["type"], event["object"]

    def name(self) -> tuple[str, str]:
        kind, thing = self.next()
        return kind, thing["metadata"]["name"]

    def rest(self) -> list[bytes]:
        return list(self._lines)

    def close(self) -> None:
        self._answer.close()  # type: ignore[attr-defined]


@contextmanager
def watching(
    api: Api, query: str = "", path: str = ALL, accept: str = "application/json"
) -> Iterator[Stream]:
    stream = Stream(api, query, path, accept)
    try:
        yield stream
    finally:
        stream.close()


def test_tells_what_is_there_and_what_becomes_of_it(api: Api) -> None:
    api.dump()
    with watching(api) as stream:
        assert stream.name() == ("ADDED", "web")
        api.dump(pod="db", poduid="db")
        assert stream.name() == ("ADDED", "db")
        api.dump()
        kind, thing = stream.next()
        assert (kind, thing["status"]["dumps"]) == ("MODIFIED", 2)
        json_of(api.delete())
        assert stream.name() == ("DELETED", "web")


def test_from_a_version_on(api: Api) -> None:
    api.dump()
    version = json_of(api.get())["metadata"]["resourceVersion"]
    api.dump(pod="db", poduid="db")
    with watching(api, f"resourceVersion={version}") as stream:
        kind, thing = stream.next()
        assert (kind, thing["metadata"]["name"]) == ("ADDED", "db")
        assert int(thing["metadata"]["resourceVersion"]) > int(version)


def test_headers_are_sent_before_there_is_anything_to_tell(api: Api) -> None:
    with watching(api) as stream:
        assert (stream.status, stream.written) == (200, [b""])


def test_one_namespace(api: Api) -> None:
    with watching(api, path=url("")) as stream:
        api.dump(namespace="other", pod="db", poduid="db")
        api.dump()
        assert stream.name() == ("ADDED", "web")


def test_object_that_no_longer_matches_is_deleted_for_the_watcher(api: Api) -> None:
    api.dump()
    json_of(api.patch({"metadata": {"labels": {"a": "b"}}}))
    with watching(api, "labelSelector=a%3Db") as stream:
        assert stream.name() == ("ADDED", "web")
        json_of(api.patch({"metadata": {"labels": {"a": "c"}}}))
        assert stream.name() == ("DELETED", "web")
        json_of(api.patch({"metadata": {"labels": {"a": "b"}}}))
        assert stream.name() == ("ADDED", "web")


def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    api.dump()
    query = (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion="
    )
    with watching(api, query) as stream:
        assert stream.name() == ("ADDED", "web")
        kind, mark = stream.next()
        assert kind == "BOOKMARK"
        assert mark["kind"] == "CoredumpEndpoint"
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["metadata"]["resourceVersion"] == json_of(api.get())["metadata"]["resourceVersion"]


def test_initial_events_need_the_match(api: Api) -> None:
    assert json_of(api.get("?watch=1&sendInitialEvents=true"), 422)["reason"] == "Invalid"


def test_table(api: Api) -> None:
    api.dump()
    with watching(api, accept="application/json;as=Table;v=v1;g=meta.k8s.io") as stream:
        kind, table = stream.next()
        assert (kind, table["kind"], table["rows"][0]["cells"][0]) == ("ADDED", "Table", "web")


def test_ends_in_time(api: Api) -> None:
    api.dump()
    answer = api.get("?watch=1&timeoutSeconds=1")
    assert [json.loads(line)["type"] for line in answer.data.splitlines()] == ["ADDED"]


def test_ends_when_the_caller_hangs_up(api: Api) -> None:
    with watching(api) as stream:
        stream.hung_up = True
        assert stream.rest() == []


def test_old_version_is_expired(api: Api) -> None:
    assert json_of(api.get("?watch=1&resourceVersion=5"), 410)["reason"] == "Expired"


@pytest.mark.parametrize("query", ["resourceVersion=x", "timeoutSeconds=x", "labelSelector=%3D"])
def test_bad_query(api: Api, query: str) -> None:
    json_of(api.get(f"?watch=1&{query}"), 400)


def test_no_more_than_the_limit_and_places_come_back(api: Api) -> None:
    with watching(api) as first, watching(api) as second:
        refused = json_of(api.get("?watch=1"), 429)
        assert (refused["reason"], first.status, second.status) == ("TooManyRequests", 200, 200)
        json_of(api.get())
    for _ in range(3):
        with watching(api) as stream:
            assert stream.status == 200
        with api.client.head(url("?watch=1")) as answer:
            assert answer.status_code == 200
        json_of(api.get("?watch=1&resourceVersion=5"), 410)


def test_ended_by_an_error_where_changes_are_forgotten(tmp_path: Path) -> None:
    endpoints = Endpoints(Catalog(str(tmp_path)), Keeper(str(tmp_path / "state")), Deadline(5, 1))
    endpoints.history = History(remembered=1)
    terms = Terms("demo", lambda _: True, dict, None, bookmarks=False, initial_end=False, seconds=20)
    lines = Watches(endpoints, 1).response(terms, bool).iter_encoded()
    write_dump(tmp_path)
    assert json.loads(next(lines))["type"] == "ADDED"
    for _ in range(3):
        write_dump(tmp_path)
        endpoints.refresh("demo")
    event = json.loads(next(lines))
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert list(lines) == []
