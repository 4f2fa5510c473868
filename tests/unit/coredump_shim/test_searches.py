"""Searches of a namespace for the pods of a name."""

from __future__ import annotations

import datetime
import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coredump_shim import searches
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.config import Config
from coredump_shim.deadline import Deadline
from coredump_shim.searches import Searches
from coredump_shim.status import ApiError
from testbed.waiting import wait_for
from tests.support.dumps import write_dump

START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


class Slow(Catalog):
    """A catalog that reads of no pod until it may."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.may = threading.Event()
        self.reading: list[str] = []

    def newest(self, namespace: str, poduid: str) -> Dump | None:
        self.reading.append(poduid)
        assert self.may.wait(60)
        return super().newest(namespace, poduid)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(tmp_path)
    yield slow
    slow.may.set()


def named(catalog: Slow, name: str, namespace: str = "demo") -> list[str]:
    catalog.may.set()
    return [dump.id for dump in Searches(catalog, Deadline(30, 1)).named(namespace, name)]


def test_the_last_dump_of_each_pod_of_the_name(tmp_path: Path, catalog: Slow) -> None:
    written = {
        (uid, hour): write_dump(
            tmp_path, when=START + datetime.timedelta(hours=hour), poduid=uid, pod=pod, container=container
        ).name
        for pod, uid, container, hour in [
            ("web", "u2", "app", 0),
            ("web", "u1", "sidecar", 3),
            ("web", "u1", "app", 1),
            ("db", "u3", "app", 4),
            ("web", "u2", "app", 2),
        ]
    }
    assert named(catalog, "web") == [written["u2", 2], written["u1", 3]]
    assert named(catalog, "nope") == []
    assert named(catalog, "web", "other") == []


def test_every_pod_is_looked_at_over_all_steps(tmp_path: Path, catalog: Slow) -> None:
    uids = [f"u{i:03}" for i in range(searches.STEP * 2 + 1)]
    written = [write_dump(tmp_path, poduid=uid, pod=uid, core=None).name for uid in uids]
    assert named(catalog, uids[-1]) == [written[-1]]
    assert catalog.reading == uids


def test_a_pod_whose_last_record_cannot_be_read_is_known_by_another(tmp_path: Path, catalog: Slow) -> None:
    first = write_dump(tmp_path, when=START)
    last = write_dump(tmp_path, when=START + datetime.timedelta(hours=1))
    (last / "info.json").write_text("{")
    assert named(catalog, "web") == [first.name]


def test_one_record_of_a_pod_is_read(tmp_path: Path, catalog: Slow, caplog: pytest.LogCaptureFixture) -> None:
    broken = [write_dump(tmp_path, when=START + datetime.timedelta(hours=hour)) for hour in range(3)]
    for dump in broken:
        (dump / "info.json").write_text("{")
    write_dump(tmp_path, when=START + datetime.timedelta(hours=9))
    assert len(named(catalog, "web")) == 1
    assert not caplog.messages


def populate(root: Path, namespace: str) -> None:
    """Write a dump, and so many pods without any that searching them takes more than one step."""
    write_dump(root, namespace=namespace, poduid="u")
    for i in range(searches.STEP):
        (root / namespace / f"u{i}").mkdir()


def test_one_namespace_takes_few_turns_and_all_leave_the_store_to_others(
    tmp_path: Path, catalog: Slow
) -> None:
    for namespace in "abc":
        populate(tmp_path, namespace)
    write_dump(tmp_path, namespace="small")
    deadline = Deadline(60, Config.max_reads)
    found = Searches(catalog, deadline)
    with ThreadPoolExecutor(Config.max_reads) as callers:
        begun = [
            callers.submit(found.named, namespace, "web")
            for namespace in "ab"
            for _ in range(searches.OF_NAMESPACE)
        ]
        wait_for("all search", lambda: len(catalog.reading) == searches.OVERALL)
        for namespace, sentence in (("a", 'namespace "a"'), ("c", f"{searches.OVERALL} searches")):
            with pytest.raises(ApiError, match=sentence) as caught:
                found.named(namespace, "web")
            assert (caught.value.code, caught.value.retry_after) == (429, 1)
        assert deadline.call(int) == 0, "the store is not theirs alone"
        small = callers.submit(found.named, "small", "web")
        wait_for("a short one needs no turn", lambda: len(catalog.reading) == searches.OVERALL + 1)
        catalog.may.set()
        assert [len(search.result(60)) for search in (*begun, small)] == [1] * (searches.OVERALL + 1)
    assert len(found.named("a", "web")) == 1


def test_a_turn_ends_with_an_error(tmp_path: Path) -> None:
    class Broken(Catalog):
        def newest(self, namespace: str, poduid: str) -> Dump | None:
            raise OSError(errno.EIO, "it broke")

    populate(tmp_path, "demo")
    found = Searches(Broken(str(tmp_path)), Deadline(60, 1))
    for _ in range(searches.OVERALL + 1):
        with pytest.raises(ApiError, match="it broke"):
            found.named("demo", "web")


def test_too_long_is_not_the_file_servers_fault(
    tmp_path: Path, catalog: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dump(tmp_path)
    monkeypatch.setattr(searches, "SECONDS", -1.0)
    with pytest.raises(ApiError, match=r"so many pods .* spec\.poduid") as caught:
        named(catalog, "web")
    assert (caught.value.code, caught.value.retry_after) == (503, None)
