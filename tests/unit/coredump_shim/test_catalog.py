"""The catalog of a store that somebody hostile may have written."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
from pathlib import Path

import pytest

from coredump_shim.catalog import Catalog, crash_time
from tests.support.dumps import write_dump

UID = "11111111-2222-3333-4444-555555555555"
START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def ids(catalog: Catalog, namespace: str = "demo", poduid: str | None = None) -> list[str]:
    return [dump.id for dump in catalog.dumps(namespace, poduid)]


def test_lists_by_time_over_pods_and_containers(tmp_path: Path) -> None:
    places = [("app", UID), ("sidecar", "u2"), ("app", "u2"), ("app", UID)]
    written = [
        write_dump(tmp_path, when=START + datetime.timedelta(hours=i), container=container, poduid=uid)
        for i, (container, uid) in enumerate(places)
    ]
    catalog = Catalog(str(tmp_path))
    found = catalog.dumps("demo")
    assert [dump.path for dump in found] == [str(path) for path in written]
    assert [(dump.container, dump.poduid) for dump in found] == places
    assert ids(catalog, poduid="u2") == [written[1].name, written[2].name]
    assert crash_time(found[0]) == int(START.timestamp()) * 1_000_000


def test_sees_what_comes_and_goes(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path))
    assert ids(catalog) == []
    first = write_dump(tmp_path)
    assert ids(catalog) == [first.name]
    (first / "info.json").unlink()
    (first / "core.gz").unlink()
    first.rmdir()
    assert ids(catalog) == []


def test_a_tally_that_went_on_is_read_again(tmp_path: Path) -> None:
    """Its record is the only one that changes, by a rename into its directory."""
    catalog = Catalog(str(tmp_path))
    tally = write_dump(tmp_path, refused="crash loop: …", crashes=3, until="2026-01-31T12:00:00Z")
    (first,) = catalog.dumps("demo")
    newer = tmp_path / "newer"
    newer.write_text(dataclasses.replace(first.record, crashes=9).to_json())
    newer.replace(tally / "info.json")
    (second,) = catalog.dumps("demo")
    assert (first.record.crashes, second.record.crashes) == (3, 9)
    assert first.is_tally
    assert catalog.dumps("demo") == [second]


def test_namespaces(tmp_path: Path) -> None:
    write_dump(tmp_path)
    write_dump(tmp_path, namespace="other")
    for name in (".incoming", ".inbox", "_unidentified", "UPPER", "a" * 64):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("demo")
    assert Catalog(str(tmp_path)).namespaces() == ["demo", "other"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../demo", "demo/", "a\0b", ".incoming", "_unidentified", "x" * 10_000]
)
def test_names_that_nothing_can_have(tmp_path: Path, name: str) -> None:
    write_dump(tmp_path)
    assert Catalog(str(tmp_path)).dumps(name) == []
    assert Catalog(str(tmp_path)).dumps("demo", name) == []


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        catalog.dumps("demo")
    with pytest.raises(FileNotFoundError):
        catalog.namespaces()


def test_leaves_out_what_is_no_dump_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_dump(tmp_path, when=START)
    broken = {}
    for kind in ("huge", "garbage", "nothing", "link", "fifo", "directory", "other id", "array", "deep"):
        broken[kind] = write_dump(tmp_path) / "info.json"
    broken["huge"].write_bytes(b" " * ((1 << 20) + 1))
    broken["garbage"].write_bytes(b"\xff\xfe\n\n")
    broken["nothing"].unlink()
    broken["array"].write_text("[]")
    broken["deep"].write_text("[" * 100_000)
    broken["other id"].write_text(
        broken["other id"].read_text().replace(broken["other id"].parent.name, whole.name)
    )
    for kind in ("link", "fifo", "directory"):
        broken[kind].unlink()
    broken["link"].symlink_to(whole / "info.json")
    os.mkfifo(broken["fifo"])
    broken["directory"].mkdir()
    (whole.parent / "not an id").mkdir()
    (whole.parent / whole.name.replace("2026", "2027")).symlink_to(whole)
    catalog = Catalog(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert ids(catalog) == [whole.name]
        assert ids(catalog) == [whole.name]
    assert len(caplog.records) == len(broken)
    assert all("\n" not in line.getMessage() for line in caplog.records)


@pytest.mark.parametrize("level", ["namespace", "pod", "container", "dump"])
def test_follows_no_symlink_at_any_level(tmp_path: Path, level: str) -> None:
    elsewhere, store = tmp_path / "elsewhere", tmp_path / "store"
    dump = write_dump(elsewhere)
    real = {"namespace": dump.parents[2], "pod": dump.parents[1], "container": dump.parents[0], "dump": dump}[
        level
    ]
    link = store / real.relative_to(elsewhere)
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert Catalog(str(store)).dumps("demo") == []
    assert Catalog(str(store)).dumps("demo", UID) == []


def test_records_are_read_once(tmp_path: Path) -> None:
    dump = write_dump(tmp_path)
    catalog = Catalog(str(tmp_path))
    first = catalog.dumps("demo")[0].record
    (dump / "info.json").write_text("never read again")
    assert catalog.dumps("demo")[0].record is first


def test_remembered_records_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coredump_shim.catalog.CACHE_BYTES", 5000)
    for _ in range(20):
        write_dump(tmp_path)
    catalog = Catalog(str(tmp_path))
    assert len(ids(catalog)) == 20
    assert 0 < len(catalog._records._known) < 10
    assert len(ids(catalog)) == 20


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-31", "0000-00-00T00:00:00Z", "9" * 10_000])
def test_crash_without_a_time_is_at_the_epoch(tmp_path: Path, time: str) -> None:
    info = write_dump(tmp_path, when=START) / "info.json"
    info.write_text(info.read_text().replace("2026-01-31T12:00:00.000000Z", time))
    assert crash_time(Catalog(str(tmp_path)).dumps("demo")[0]) == 0
