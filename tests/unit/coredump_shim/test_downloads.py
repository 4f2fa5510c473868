"""The dump subresource over HTTP, without a server."""

from __future__ import annotations

import datetime
import errno
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from coredump_guard.record import Record
from coredump_shim import cut, downloads, status
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.deadline import Deadline
from tests.support.dumps import write_dump
from tests.support.unpack import unpack

UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "22222222-2222-3333-4444-555555555555"
WEB = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/demo/coredumpendpoints/web/dump"
START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    return root


class AllCurrent(Bygones):
    """A cluster whose namespaces were there before every dump."""

    def __init__(self) -> None: ...

    def without(self, namespace: str, dumps: Sequence[Dump]) -> Sequence[Dump]:
        return dumps


def served(store: Path, *, aggregated: bool) -> FlaskClient:
    def poduid_of(namespace: str, name: str) -> str:
        if (namespace, name) not in (("demo", "web"), ("demo", "proxy")):
            raise status.no_endpoint(namespace, name)
        return UID

    app = Flask("test")
    catalog, deadline = Catalog(str(store)), Deadline(5, 4)
    bygones = AllCurrent() if aggregated else None
    app.register_blueprint(downloads.blueprint(catalog, poduid_of, deadline, bygones=bygones))
    status.register(app)
    return app.test_client()


@pytest.fixture
def client(store: Path) -> FlaskClient:
    return served(store, aggregated=False)


def dump(
    store: Path, minute: int = 0, container: str = "app", core: bytes = b"core" * 1000, **more: object
) -> str:
    when = START + datetime.timedelta(minutes=minute)
    return write_dump(store, when=when, container=container, core=core, **more).name  # type: ignore[arg-type]


def members(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return archive.getnames()


def message(response: TestResponse, code: int) -> str:
    assert response.status_code == code, response.data[:500]
    body = json.loads(response.data)
    assert body["kind"] == "Status" and body["code"] == code
    return str(body["message"])


@pytest.mark.parametrize("path", [WEB, WEB.replace("/dump", "/proxy/dump")])
def test_gives_every_dump(store: Path, client: FlaskClient, path: str) -> None:
    first, second = dump(store), dump(store, 1, "sidecar", files={"maps": b"55d0-55d1 r-xp"})
    response = client.get(path)
    assert response.status_code == 200
    assert response.content_type == "application/gzip"
    assert "Content-Encoding" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert response.content_length == len(response.data)
    assert members(response.data) == [
        *("app", f"app/{first}", f"app/{first}/info.json", f"app/{first}/core"),
        *("sidecar", f"sidecar/{second}", f"sidecar/{second}/info.json", f"sidecar/{second}/maps"),
        *(f"sidecar/{second}/core", "SHA256SUMS"),
    ]


def test_sums_hold_after_unpacking(store: Path, client: FlaskClient, tmp_path: Path) -> None:
    dump(store, files={"maps": b"m" * 5000, "log": b"l" * 512})
    dump(store, 1, core=os.urandom(3 << 20))
    (tmp_path / "out").mkdir()
    with tarfile.open(fileobj=io.BytesIO(client.get(WEB).data)) as archive:
        unpack(archive, tmp_path / "out")
    check = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert check.stdout.count(": OK") == 6
    assert (tmp_path / "out/SHA256SUMS").stat().st_mode & 0o777 == 0o600


def test_same_selection_same_bytes(store: Path, client: FlaskClient) -> None:
    dump(store)
    dump(store, 1, "sidecar")
    first, second = client.get(WEB), client.get(WEB)
    assert first.data == second.data
    assert first.headers["ETag"] == second.headers["ETag"]


def test_head_has_the_headers_and_no_body(store: Path, client: FlaskClient) -> None:
    dump(store)
    head, whole = client.head(WEB), client.get(WEB)
    assert head.data == b""
    for name in ("Content-Length", "ETag", "Content-Type", "Content-Disposition"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_long_download_through_kube_apiserver_is_warned(
    store: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    dump(store)
    monkeypatch.setattr(cut, "LIKELY", 200)
    for aggregated, path, warned in (
        (True, WEB, True),
        (True, WEB.replace("/web/", "/proxy/"), True),  # a pod of that name
        (True, WEB.replace("/dump", "/proxy/dump"), False),
        (True, f"{WEB}?offset=0&length=100", False),
        (False, WEB, False),
    ):
        response = served(store, aggregated=aggregated).open(path, method=method)
        assert response.status_code == 200
        assert ("Warning" in response.headers) is warned, (aggregated, path)


def test_selectors(store: Path, client: FlaskClient) -> None:
    ids = [dump(store, 0), dump(store, 1), dump(store, 2, "sidecar")]

    def chosen(query: str) -> set[str]:
        names = members(client.get(f"{WEB}?{query}").data)
        return {name.split("/")[1] for name in names if name.count("/") == 2}

    assert chosen("container=app") == {ids[0], ids[1]}
    assert chosen(f"id={ids[1]}") == {ids[1]}
    assert chosen("since=2026-01-31T12:01:00Z") == {ids[1], ids[2]}
    assert chosen("since=2026-01-31T14:01:00%2B02:00") == {ids[1], ids[2]}
    assert chosen("latest=true") == {ids[2]}
    assert chosen("latest=true&container=app") == {ids[1]}
    assert chosen("latest=false") == set(ids)


def test_an_earlier_pod_of_the_name_by_its_uid(store: Path, client: FlaskClient) -> None:
    dump(store)
    earlier = dump(store, 1, poduid=OTHER_UID)
    names = members(client.get(f"{WEB}?poduid={OTHER_UID}").data)
    assert f"app/{earlier}/core" in names


def test_another_pods_dumps_are_not_given_under_this_name(store: Path, client: FlaskClient) -> None:
    dump(store)
    dump(store, 1, poduid=OTHER_UID, pod="secret")
    assert "poduid" in message(client.get(f"{WEB}?poduid={OTHER_UID}"), 404)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("container=../../x", "container"),
        ("container=%2e%2e%2f%2e%2e%2fx", "container"),
        ("container=a%00b", "container"),
        ("container=" + "a" * 10_000, "container"),
        ("container=", "container"),
        ("container=app&container=app", "container"),
        ("id=../../../etc/passwd", "id"),
        ("id=%0a", "id"),
        ("since=yesterday", "since"),
        ("since=2026-01-31", "since"),
        ("since=2026-13-31T12:00:00Z", "since"),
        ("since=2026-01-31T12:00:00", "since"),
        ("latest", "latest"),
        ("latest=1", "latest"),
        ("poduid=../x", "poduid"),
        ("offset=-1", "offset"),
        ("offset=1e3", "offset"),
        ("offset=%D9%A3", "offset"),
        ("offset=" + "9" * 5000, "offset"),
        ("length=0", "length"),
        ("length=x", "length"),
        ("etag=nonsense", "etag"),
        ("etag=1-" + "g" * 32, "etag"),
        ("nonsense=1", "nonsense"),
        ("%00=1", "parameter"),
        ("n" * 10_000 + "=1", "parameter"),
    ],
)
@pytest.mark.parametrize("method", ["get", "delete"])
def test_bad_parameter_is_named(
    store: Path, client: FlaskClient, query: str, parameter: str, method: str
) -> None:
    dump(store)
    said = message(client.open(f"{WEB}?{query}", method=method), 400)
    assert parameter in said
    assert len(said) < 400
    assert client.get(WEB).status_code == 200


def test_unknown_is_answered_with_what_there_is(store: Path, client: FlaskClient) -> None:
    there = dump(store)
    dump(store, 1, "sidecar")
    said = message(client.get(f"{WEB}?container=nginx"), 404)
    assert "nginx" in said and "app" in said and "sidecar" in said
    assert there in message(client.get(f"{WEB}?id={there[:-1]}{'0' if there[-1] != '0' else '1'}"), 404)
    assert "since" in message(client.get(f"{WEB}?since=2036-01-01T00:00:00Z"), 404)


def test_no_dumps_and_no_endpoint(client: FlaskClient) -> None:
    assert "no dumps" in message(client.get(WEB), 404)
    assert "other" in message(client.get(WEB.replace("web", "other")), 404)


def test_missing_store_is_503(store: Path, client: FlaskClient) -> None:
    store.rmdir()
    message(client.get(WEB), 503)


def test_parts_equal_the_whole_with_dumps_arriving_in_between(store: Path, client: FlaskClient) -> None:
    dump(store, core=os.urandom(50_000))
    dump(store, 1, "sidecar", core=os.urandom(50_000))
    whole = client.get(WEB)
    first = client.get(f"{WEB}?length=1000")
    total, etag = int(first.headers[downloads.ARCHIVE_LENGTH]), first.headers["ETag"].strip('"')
    assert total == len(whole.data)
    parts = [first.data]
    while sum(map(len, parts)) < total:
        dump(store, 1 + len(parts), "later")
        parts.append(client.get(f"{WEB}?offset={sum(map(len, parts))}&length=30000&etag={etag}").data)
    assert b"".join(parts) == whole.data
    assert client.get(f"{WEB}?latest=true").headers["ETag"] != first.headers["ETag"]


def test_latest_is_the_last_crash_and_not_the_last_name_within_its_second(
    store: Path, client: FlaskClient
) -> None:
    early, late = START, START + datetime.timedelta(microseconds=1)
    write_dump(store, when=early, executable="/bin/zsh")
    last = write_dump(store, when=late, executable="/bin/awk").name
    (record,) = (
        name for name in members(client.get(f"{WEB}?latest=true").data) if name.endswith("info.json")
    )
    assert f"/{last}/" in f"/{record}"
    assert f"the newest is {last}" in message(client.get(f"{WEB}?since=2036-01-01T00:00:00Z"), 404)


def test_an_offset_needs_an_etag(store: Path, client: FlaskClient) -> None:
    dump(store)
    assert message(client.get(f"{WEB}?offset=5"), 400).startswith("etag: is needed with an offset")


@pytest.mark.parametrize("parameter", ["offset", "length", "etag"])
def test_deleting_knows_no_parts(store: Path, client: FlaskClient, parameter: str) -> None:
    value = client.get(WEB).headers.get("ETag") if dump(store) and parameter == "etag" else "1"
    said = message(client.delete(f"{WEB}?{parameter}={value}"), 400)
    assert said == f"{parameter}: has no meaning where dumps are deleted"


def test_parts_of_latest_stay_with_the_dump_that_was_the_latest(store: Path, client: FlaskClient) -> None:
    dump(store)
    whole = client.get(f"{WEB}?latest=true")
    dump(store, 1)
    again = client.get(f"{WEB}?latest=true&offset=0&etag={whole.headers['ETag']}")
    assert again.data == whole.data


@pytest.mark.parametrize("victims", [["app"], ["app", "sidecar"]])
def test_part_of_an_archive_that_is_no_more_is_412(
    store: Path, client: FlaskClient, victims: list[str]
) -> None:
    dump(store)
    dump(store, 1, "sidecar")
    etag = client.head(WEB).headers["ETag"]
    for container in victims:
        client.delete(f"{WEB}?container={container}")
    assert "etag" in message(client.get(f"{WEB}?offset=10&etag={etag}"), 412)


def test_offset_behind_the_end_is_416(store: Path, client: FlaskClient) -> None:
    dump(store)
    head = client.head(WEB)
    total, etag = head.content_length, head.headers["ETag"]
    assert "offset" in message(client.get(f"{WEB}?offset={total}&etag={etag}"), 416)


def test_ranges(store: Path, client: FlaskClient) -> None:
    dump(store, core=os.urandom(9000))
    whole = client.get(WEB)
    total = len(whole.data)

    def get(value: str, **more: str) -> TestResponse:
        return client.get(WEB, headers={"Range": value, **more})

    part = get("bytes=100-199")
    assert (part.status_code, part.data) == (206, whole.data[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{total}"
    assert get("bytes=100-").data == whole.data[100:]
    assert get("bytes=-100").data == whole.data[-100:]
    assert get("bytes=0-0").data == whole.data[:1]
    assert get(f"bytes=0-{total * 2}").data == whole.data
    beyond = get(f"bytes={total}-")
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"] == f"bytes */{total}"
    for ignored in ("bytes=5-2", "bytes=0-1,5-9", "lines=1-2", "bytes=x", "bytes=" + "9" * 5000 + "-"):
        assert get(ignored).status_code in (200, 416), ignored


def test_if_range_gives_the_old_archive_or_the_whole_new_one(store: Path, client: FlaskClient) -> None:
    first = dump(store)
    whole = client.get(WEB)
    dump(store, 1)
    condition = {"Range": "bytes=50-", "If-Range": whole.headers["ETag"]}
    resumed = client.get(WEB, headers=condition)
    assert (resumed.status_code, resumed.data) == (206, whole.data[50:])
    client.delete(f"{WEB}?id={first}")
    assert client.get(WEB, headers=condition).status_code == 200
    assert client.get(WEB, headers=condition | {"If-Range": '"other"'}).status_code == 200


def test_resuming_without_if_range_after_another_dump_is_a_whole_archive(
    store: Path, client: FlaskClient
) -> None:
    """What `curl -C -` does: it sends no If-Range."""
    dump(store, core=os.urandom(40_000))
    begun = client.get(WEB).data[:30_000]
    dump(store, 1)
    rest = client.get(WEB, headers={"Range": "bytes=30000-"}).data
    assert len(members(begun + rest)) == 8


def test_delete_purges_what_is_selected(store: Path, client: FlaskClient) -> None:
    gone, kept = dump(store), dump(store, 1, "sidecar")
    (store / ".inbox").mkdir()
    (store / ".inbox" / gone).write_text("x")
    response = client.delete(f"{WEB}?container=app")
    body = json.loads(response.data)
    assert (response.status_code, body["status"], body["message"]) == (200, "Success", "1 dump deleted")
    assert body["details"]["causes"] == [{"reason": "Deleted", "message": f"app/{gone}"}]
    assert list((store / "demo" / UID / "app").iterdir()) == []
    assert list((store / ".inbox").iterdir()) == []
    assert f"sidecar/{kept}/core" in members(client.get(WEB).data)
    message(client.delete(f"{WEB}?container=app"), 404)


def test_in_a_cluster_a_purge_is_announced_once(store: Path) -> None:
    """So that the controller looks at the pod; stand-alone nobody would ever take it away."""
    gone = [dump(store), dump(store, 1)]
    (store / ".inbox").mkdir()
    served(store, aggregated=True).delete(WEB)
    (announcement,) = (store / ".inbox").iterdir()
    assert announcement.read_text() == f"demo/{UID}/app/{gone[-1]}\n"


def test_a_purge_that_cannot_be_announced_is_one_all_the_same(store: Path) -> None:
    gone = dump(store)
    (store / ".inbox" / gone / "planted").mkdir(parents=True)
    response = served(store, aggregated=True).delete(WEB)
    assert (response.status_code, json.loads(response.data)["message"]) == (200, "1 dump deleted")


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.EROFS, "this gateway has the store mounted read-only"), (errno.EACCES, "may not write"),
     (errno.EPERM, "may not write"), (errno.EIO, "the store cannot be used")],
)  # fmt: skip
def test_why_nothing_can_be_deleted(
    store: Path, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    dump(store)
    monkeypatch.setattr(os, "rename", refused)
    assert says in message(client.delete(WEB), 503)


def test_core_that_is_not_what_its_record_says_is_left_out_and_said(store: Path, client: FlaskClient) -> None:
    broken = dump(store)
    core = store / "demo" / UID / "app" / broken / "core.gz"
    core.write_bytes(core.read_bytes()[:-7])
    with tarfile.open(fileobj=io.BytesIO(client.get(WEB).data)) as archive:
        assert f"app/{broken}/core" not in archive.getnames()
        missing = archive.extractfile(f"app/{broken}/core.missing")
        assert missing is not None and b"core.gz has" in missing.read()


def test_crash_without_a_core(store: Path, client: FlaskClient) -> None:
    refused = write_dump(store, core=None).name
    names = members(client.get(WEB).data)
    assert names == ["app", f"app/{refused}", f"app/{refused}/info.json", "SHA256SUMS"]


def test_a_refused_core_is_said_to_be_and_why(store: Path, client: FlaskClient) -> None:
    refused = write_dump(
        store, refused="[policy] largest_core = 0: no cores are kept", files={"maps": b"m"}
    ).name
    with tarfile.open(fileobj=io.BytesIO(client.get(WEB).data)) as archive:
        place = f"app/{refused}"
        files = [f"{place}/{name}" for name in ("info.json", "core.missing", "maps")]
        assert archive.getnames() == ["app", place, *files, "SHA256SUMS"]
        missing = archive.extractfile(f"{place}/core.missing")
        assert missing is not None
        assert missing.read() == b"the core was not kept: [policy] largest_core = 0: no cores are kept\n"


def test_a_crash_loop_that_goes_on_breaks_no_download(store: Path, client: FlaskClient) -> None:
    """Its tally changes with every crash: it is in an archive only if asked for, or if nothing else is."""
    whole = dump(store)
    tally = {"refused": "crash loop: …", "crashes": 7, "until": "2026-01-31T12:00:00Z"}
    counted = write_dump(store, **tally).name  # type: ignore[arg-type]
    assert f"app/{whole}/core" in members(client.get(WEB).data)
    assert f"app/{counted}" not in members(client.get(WEB).data)
    assert f"app/{counted}/info.json" in members(client.get(f"{WEB}?id={counted}").data)


def test_sum_of_the_core_is_the_records(store: Path, client: FlaskClient) -> None:
    name = dump(store, core=b"x" * 70_000)
    with tarfile.open(fileobj=io.BytesIO(client.get(WEB).data)) as archive:
        sums = archive.extractfile("SHA256SUMS")
        assert sums is not None
        lines = sums.read().decode().splitlines()
    assert f"{hashlib.sha256(b'x' * 70_000).hexdigest()}  app/{name}/core" in lines


def test_hostile_sum_of_the_core_is_left_out(store: Path, client: FlaskClient) -> None:
    name = dump(store)
    info = store / "demo" / UID / "app" / name / "info.json"
    record = Record.from_json(info.read_bytes())
    info.write_text(record.to_json().replace(record.core.sha256, "0\\n" + "1" * 64 + "  /etc/passwd"))
    with tarfile.open(fileobj=io.BytesIO(client.get(WEB).data)) as archive:
        sums = archive.extractfile("SHA256SUMS")
        assert sums is not None and sums.read().count(b"\n") == 1
