"""What an endpoint says, worked out from dumps."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from coredump_shim import endpoint, schema
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.kept import Kept
from tests.support.dumps import write_dump

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def dumps(tmp_path: Path) -> list[Dump]:
    """Of pod web: an old pod, and its successor with two containers and a refused core."""
    write_dump(tmp_path, poduid="old", when=NOON, core=b"o" * 1000)
    write_dump(tmp_path, poduid="new", when=NOON + HOUR, core=b"n" * 3000)
    write_dump(tmp_path, poduid="new", when=NOON + 2 * HOUR, container="side", truncated="deadline")
    write_dump(
        tmp_path, poduid="new", when=NOON + 3 * HOUR, core=None, signal=(6, "SIGABRT"), executable="/bin/x"
    )
    return Catalog(str(tmp_path)).dumps("demo")


def test_newest_pod_of_a_name_wins(dumps: list[Dump]) -> None:
    found = endpoint.all_of("demo", dumps, {})
    assert list(found) == ["web"]
    assert found["web"]["spec"] == {"poduid": "new"}
    assert found["web"]["metadata"]["creationTimestamp"] == "2026-01-31T13:00:00Z"


def test_status(dumps: list[Dump]) -> None:
    status = endpoint.all_of("demo", dumps, {})["web"]["status"]
    newest = status.pop("newest")
    assert status == {
        "dumps": 2,
        "refused": 1,
        "bytes": 3000 + 2004,
        "storedBytes": sum(dump.record.core.stored_bytes for dump in dumps if dump.poduid == "new"),
        "size": "4.9Ki",
        "downloadSize": endpoint.quantity(status["storedBytes"]),
        "containers": ["app", "side"],
        "containerNames": "app,side",
        "lastCrash": "2026-01-31T15:00:00Z",
        "reason": "SIGABRT",
        "executable": "/bin/x",
    }
    assert [each["time"] for each in newest] == [f"2026-01-31T{hour}:00:00Z" for hour in (15, 14, 13)]
    assert [each.get("truncated") for each in newest] == [None, "deadline", None]
    assert newest[0]["storedBytes"] == 0


def test_a_crash_loops_tally_counts_all_its_crashes_and_says_when_the_last_was(tmp_path: Path) -> None:
    tally = {"refused": "crash loop: …", "crashes": 40, "until": "2026-01-31T15:30:00.000000Z"}
    write_dump(tmp_path, when=NOON, executable="/bin/loops", signal=(6, "SIGABRT"), **tally)  # type: ignore[arg-type]
    write_dump(tmp_path, when=NOON + HOUR, executable="/bin/app", core=b"n" * 3000)
    write_dump(tmp_path, when=NOON + HOUR / 2, executable="/bin/app", refused="no room")
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    assert (status["dumps"], status["refused"], status["bytes"]) == (1, 41, 3000)
    assert (status["lastCrash"], status["reason"]) == ("2026-01-31T15:30:00Z", "SIGABRT")
    assert [(each.get("refused"), each.get("crashes")) for each in status["newest"]] == [
        (None, None),
        ("no room", 1),
        ("crash loop: …", 40),
    ]


def test_a_signal_that_is_unknown_is_not_called_one(tmp_path: Path) -> None:
    write_dump(tmp_path, when=NOON, refused="x", signal=(0, "signal 0"))
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    assert (status["reason"], status["newest"][0]["reason"]) == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("crashes", "until", "last"),
    [
        (-5, "yesterday", "2026-01-31T12:00:00Z"),
        (10**30, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        (1, "0001-01-01T00:00:00Z", "2026-01-31T12:00:00Z"),
    ],
)
def test_a_hostile_tally(tmp_path: Path, crashes: int, until: str, last: str) -> None:
    write_dump(tmp_path, when=NOON, refused="x", crashes=crashes, until=until)
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    assert status["lastCrash"] == last
    assert 1 <= status["refused"] < 1 << 63


def test_names_the_newest_dumps_only(tmp_path: Path) -> None:
    for number in range(12):
        write_dump(tmp_path, when=NOON + number * HOUR, core=b"x")
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    assert status["dumps"] == 12
    assert len(status["newest"]) == endpoint.NEWEST
    assert status["newest"][0]["time"] == "2026-01-31T23:00:00Z"


def test_uid_is_the_same_after_a_restart_and_another_for_another_pod(dumps: list[Dump]) -> None:
    uid = endpoint.all_of("demo", dumps, {})["web"]["metadata"]["uid"]
    assert endpoint.all_of("demo", dumps, {})["web"]["metadata"]["uid"] == uid
    assert endpoint.all_of("demo", dumps[:1], {})["web"]["metadata"]["uid"] != uid
    assert endpoint.all_of("other", dumps, {})["web"]["metadata"]["uid"] != uid


def test_created_one_stands_for_its_own_pod(dumps: list[Dump]) -> None:
    kept = {"web": Kept("uid", "2026-02-01T00:00:00Z", "old", {"a": "b"}, {"c": "d"})}
    made = endpoint.all_of("demo", dumps, kept)["web"]
    assert made["metadata"] == {
        "name": "web",
        "namespace": "demo",
        "uid": "uid",
        "creationTimestamp": "2026-02-01T00:00:00Z",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
    }
    assert made["status"]["bytes"] == 1000


def test_created_one_survives_its_dumps() -> None:
    made = endpoint.all_of("demo", [], {"web": Kept("uid", "2026-02-01T00:00:00Z", "old")})["web"]
    assert made["status"]["dumps"] == 0
    assert "lastCrash" not in made["status"]


def test_deleted_one_is_hidden_until_another_dump_comes(dumps: list[Dump]) -> None:
    before = endpoint.all_of("demo", dumps, {})["web"]
    mark = {"web": Kept(deleted="2026-02-01T00:00:00Z", hidden=[dump.id for dump in dumps])}
    assert endpoint.all_of("demo", dumps, mark) == {}
    assert endpoint.all_of("demo", dumps[1:], mark) == {}, "a purge brings nothing back"
    late = {"web": Kept(deleted="2026-02-01T00:00:00Z", hidden=[dump.id for dump in dumps[1:]])}
    back = endpoint.all_of("demo", dumps, late)["web"]
    assert back["status"] == before["status"]
    assert back["metadata"]["uid"] != before["metadata"]["uid"]


@pytest.mark.parametrize("pod", ["../x", "", "A", "a" * 254, "a\n"])
def test_record_that_names_no_pod_makes_no_endpoint(tmp_path: Path, pod: str) -> None:
    path = write_dump(tmp_path)
    info = path / "info.json"
    info.write_text(info.read_text().replace('"web"', '"' + pod.replace("\n", "\\n") + '"'))
    dumps = Catalog(str(tmp_path)).dumps("demo")
    assert len(dumps) == 1
    assert endpoint.all_of("demo", dumps, {}) == {}


def test_sizes_of_a_hostile_record_stay_numbers(tmp_path: Path) -> None:
    info = write_dump(tmp_path) / "info.json"
    info.write_text(info.read_text().replace('"bytes": 2004', '"bytes": ' + "9" * 40))
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    assert status["bytes"] == 2**63 - 1


def test_time_that_is_none_is_still_one_for_clients(tmp_path: Path) -> None:
    path = write_dump(tmp_path, when=NOON)
    impossible = path.name.replace("20260131T12", "20269999T99")
    info = path / "info.json"
    info.write_text(info.read_text().replace(path.name, impossible))
    path.rename(path.with_name(impossible))
    [dump] = Catalog(str(tmp_path)).dumps("demo")
    assert endpoint.status([dump])["lastCrash"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1023, "1023"),
        (1024, "1.0Ki"),
        (10 * 1024, "10Ki"),
        (64 << 20, "64Mi"),
        (9 << 30, "9.0Gi"),
        (5000 << 40, "5000Ti"),
    ],
)
def test_quantity(size: int, text: str) -> None:
    assert endpoint.quantity(size) == text


def test_what_a_status_says_is_no_longer_than_its_schema_allows(tmp_path: Path) -> None:
    long = "x" * 5000
    for minute in range(endpoint.NEWEST + 5):
        when = NOON + datetime.timedelta(minutes=minute)
        write_dump(
            tmp_path, when=when, executable=long, signal=(6, long), truncated=long, refused=long, core=None
        )
    status = endpoint.status(Catalog(str(tmp_path)).dumps("demo"))
    check_lengths(status, schema.STATUS)
    assert status["executable"].startswith("x" * 1000)


def check_lengths(thing: object, described: endpoint.Object) -> None:
    if isinstance(thing, dict):
        for key, value in thing.items():
            check_lengths(value, described["properties"][key])
    elif isinstance(thing, list):
        assert len(thing) <= described.get("maxItems", len(thing))
        for item in thing:
            check_lengths(item, described["items"])
    elif isinstance(thing, str):
        assert len(thing) <= described.get("maxLength", len(thing))
