"""Endpoints of a store, without HTTP; test_objects has what each verb does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coredump_shim.catalog import Catalog
from coredump_shim.change import Wanted
from coredump_shim.deadline import Deadline
from coredump_shim.endpoint import Object
from coredump_shim.endpoints import Endpoints
from coredump_shim.kept import Keeper
from coredump_shim.status import ApiError
from tests.support.dumps import write_dump


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    write_dump(tmp_path, poduid="uid")
    return Endpoints(Catalog(str(tmp_path)), Keeper(f"{tmp_path}/.endpoints"), Deadline(30, 8))


def test_poduid(endpoints: Endpoints) -> None:
    assert endpoints.poduid_of("demo", "web") == "uid"


@pytest.mark.parametrize(
    ("namespace", "name"), [("demo", "none"), ("none", "web"), ("..", "web"), ("demo", "../web")]
)
def test_poduid_of_none(endpoints: Endpoints, namespace: str, name: str) -> None:
    with pytest.raises(ApiError, match="not found in namespace") as caught:
        endpoints.poduid_of(namespace, name)
    assert caught.value.code == 404


def test_state_inside_the_store_is_no_namespace(endpoints: Endpoints) -> None:
    endpoints.create("demo", Wanted("web"))
    assert endpoints.namespaces() == ["demo"]


def test_one_of_many_creators_wins(endpoints: Endpoints) -> None:
    def create(number: int) -> str:
        try:
            return str(endpoints.create("demo", Wanted("web", labels={"by": str(number)}))["metadata"]["uid"])
        except ApiError as error:
            return error.reason

    with ThreadPoolExecutor(8) as creators:
        results = list(creators.map(create, range(8)))
    assert results.count("AlreadyExists") == 7
    assert endpoints.get("demo", "web")["metadata"]["uid"] in results


def test_no_change_of_many_is_lost(endpoints: Endpoints) -> None:
    def label(number: int) -> None:
        def more(current: Object) -> Wanted:
            return Wanted("web", labels=current["metadata"].get("labels", {}) | {f"l{number}": "x"})

        endpoints.replace("demo", "web", more)

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(label, range(16)))
    assert len(endpoints.get("demo", "web")["metadata"]["labels"]) == 16


def test_looks_again_only_after_a_while(endpoints: Endpoints, tmp_path: Path) -> None:
    endpoints.refresh("demo", not_within=3600)
    write_dump(tmp_path, pod="db", poduid="db")
    endpoints.refresh("demo", not_within=3600)
    assert endpoints.history.find("demo", "db") is None
    endpoints.refresh("demo")
    assert endpoints.history.find("demo", "db") is not None


def test_namespace_that_empties_is_seen(endpoints: Endpoints, tmp_path: Path) -> None:
    assert len(endpoints.current(None)[1]) == 1
    (tmp_path / "demo").rename(tmp_path / ".gone")
    assert endpoints.current(None)[1] == []
