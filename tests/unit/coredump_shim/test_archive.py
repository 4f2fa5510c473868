"""The archive: whatever dumps hold, it unpacks to that, and any slice of it is a slice of the whole."""

from __future__ import annotations

import datetime
import io
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from coredump_guard import deflate
from coredump_shim.archive import ChangedError, Plan, Planner
from coredump_shim.archivefile import ArchiveFile
from coredump_shim.catalog import Catalog
from tests.support.dumps import write_dump

START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
CONTAINERS = ("app", "sidecar", "l" * 63)

contents = st.one_of(
    st.binary(max_size=2000),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=9), st.integers(0, 2000)),
    st.builds(bytes, st.integers(0, 3 * deflate.PIECE)),
)
dumps = st.lists(
    st.tuples(
        st.sampled_from(CONTAINERS),
        st.one_of(st.none(), contents),
        st.dictionaries(st.sampled_from(["maps", "status", "log", "x" * 60]), contents, max_size=3),
    ),
    min_size=1,
    max_size=4,
)

Written = list[tuple[str, bytes | None, dict[str, bytes]]]
"""Dumps: container, core, small files."""


@contextmanager
def planned(
    written: Written,
) -> Iterator[tuple[Plan, dict[str, bytes]]]:
    """Give the plan over these dumps, and the contents of the files that its archive must hold."""
    with tempfile.TemporaryDirectory() as store:
        expected = {}
        for second, (container, core, files) in enumerate(written):
            when = START + datetime.timedelta(seconds=second)
            path = write_dump(Path(store), when=when, container=container, core=core, files=files)
            place = f"{container}/{path.name}"
            expected[f"{place}/info.json"] = (path / "info.json").read_bytes()
            expected |= {f"{place}/{name}": data for name, data in files.items()}
            if core is not None:
                expected[f"{place}/core"] = core
        yield plan(store), expected


def plan(store: str | Path) -> Plan:
    planner = Planner(str(store))
    planner.add(Catalog(str(store)).dumps("demo"))
    return planner.plan()


def read(planned_archive: Plan, start: int = 0, stop: int | None = None) -> bytes:
    with ArchiveFile(planned_archive, start, planned_archive.length if stop is None else stop) as file:
        return io.BufferedReader(file, 4096).read()


@settings(deadline=None, max_examples=60)
@given(dumps)
def test_unpacks_to_what_went_in(written: Written) -> None:
    with planned(written) as (whole, expected):
        data = read(whole)
        assert len(data) == whole.length
        stream = isal_zlib.decompressobj(31)
        stream.decompress(data)
        assert stream.eof and not stream.unused_data
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            found = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
            unpacked = {name: file.read() for name, file in found.items() if file is not None}
        sums = unpacked.pop("SHA256SUMS").decode()
        assert unpacked == expected
        assert [line.split("  ")[1] for line in sums.splitlines()] == list(expected_order(unpacked, found))


def expected_order(unpacked: dict[str, bytes], found: Mapping[str, object]) -> Iterator[str]:
    """Give the names in the archive's order; a core of no bytes has no sum in its record."""
    return (name for name in found if name in unpacked and (unpacked[name] or not name.endswith("/core")))


@settings(deadline=None, max_examples=40)
@given(dumps, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_any_slice_is_the_slice_of_the_whole(written: Written, cuts: list[tuple[float, float]]) -> None:
    with planned(written) as (whole, _):
        data = read(whole)
        for begin, end in cuts:
            start, stop = sorted((int(begin * whole.length), int(end * whole.length)))
            assert read(whole, start, stop) == data[start:stop]


@settings(deadline=None, max_examples=20)
@given(dumps, st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5000)), min_size=1, max_size=30))
def test_seeking_about_reads_what_lies_there(written: Written, steps: list[tuple[float, int]]) -> None:
    with planned(written) as (whole, _):
        data = read(whole)
        with ArchiveFile(whole, 0, whole.length) as file:
            for where, size in steps:
                offset = file.seek(int(where * whole.length))
                got = file.read(size)
                assert got is not None and got == data[offset : offset + len(got)]
                assert got or offset == whole.length
                assert file.tell() == offset + len(got)


@settings(deadline=None, max_examples=20)
@given(dumps, st.integers(1, 100_000))
def test_transmits_the_same_bytes(written: Written, limit: int) -> None:
    with planned(written) as (whole, _), ArchiveFile(whole, 0, whole.length) as file:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            got = bytearray()
            while file.tell() < whole.length:
                file.seek(file.transmit(here, min(limit, 4096)), os.SEEK_CUR)
                got += there.recv(4096)
            assert file.transmit(here, limit) == 0
            while len(got) < whole.length:
                got += there.recv(1 << 20)
        assert got == read(whole)


def test_plan_opens_nothing_that_it_keeps(tmp_path: Path) -> None:
    for container in ("app", "sidecar"):
        write_dump(tmp_path, container=container)
    before = len(os.listdir("/proc/self/fd"))
    whole = plan(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    with ArchiveFile(whole, 0, whole.length) as file:
        while file.read(100):
            assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_dump_changes_nothing_of_what_was_before(tmp_path: Path) -> None:
    write_dump(tmp_path, when=START)
    first = plan(tmp_path)
    before = read(first)
    write_dump(tmp_path, when=START + datetime.timedelta(seconds=9))
    after = read(plan(tmp_path))
    assert after[: first.closing_start] == before[: first.closing_start]


def test_says_how_far_it_was_read(tmp_path: Path) -> None:
    write_dump(tmp_path)
    whole = plan(tmp_path)
    reached: list[int] = []
    file = ArchiveFile(whole, 100, whole.length, reached.append)
    file.seek(0)
    file.read(50)
    file.close()
    file.close()
    assert reached == [50]


@pytest.mark.parametrize("damage", ["core cut", "core gone", "info changed", "dump gone"])
def test_a_store_that_changed_is_an_error_and_never_an_end(tmp_path: Path, damage: str) -> None:
    dump = write_dump(tmp_path, core=os.urandom(100_000))
    whole = plan(tmp_path)
    if damage == "core cut":
        os.truncate(dump / "core.gz", 50_000)
    elif damage == "core gone":
        (dump / "core.gz").unlink()
    elif damage == "info changed":
        (dump / "info.json").write_text((dump / "info.json").read_text() + " ")
    else:
        shutil.rmtree(dump)
    with pytest.raises(OSError):
        read(whole)


@contextmanager
def nobodys_store() -> Iterator[Path]:
    """Give a directory, and until the end be somebody who may not read everything, as root may."""
    with tempfile.TemporaryDirectory() as store:
        user = os.geteuid()
        if user == 0:
            os.chown(store, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(store)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("unreadable", ["", "core.gz", "info.json"])
def test_a_dump_that_may_not_be_read_is_never_left_out_without_a_word(unreadable: str) -> None:
    with nobodys_store() as store:
        first, second = (write_dump(store, when=START, pid=pid) for pid in (1, 2))
        dumps, planner = Catalog(str(store)).dumps("demo"), Planner(str(store))
        (first / unreadable).chmod(0)
        planner.add(dumps)
        data = read(planner.plan())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        missing = archive.extractfile(f"app/{first.name}/core.missing")
        assert missing is not None and b"Permission denied" in missing.read()
        assert f"app/{second.name}/core" in archive.getnames()


def test_a_dump_that_may_not_be_read_any_more_is_an_error() -> None:
    with nobodys_store() as store:
        path = write_dump(store)
        whole = plan(store)
        path.chmod(0)
        with pytest.raises(OSError):
            read(whole)


def test_a_core_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    dump = write_dump(tmp_path, core=os.urandom(100_000))
    whole = plan(tmp_path)
    with ArchiveFile(whole, 0, whole.length) as file:
        file.seek(whole.places[0].start + 5000)
        assert file.read(100)
        os.truncate(dump / "core.gz", 3000)
        with pytest.raises(ChangedError):
            file.read(100)
        here, there = socket.socketpair()
        with here, there, pytest.raises(ChangedError):
            file.transmit(here, 100)


def test_small_files_beyond_the_bound_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coredump_shim.bundle.MAX_FILES_BYTES", 1000)
    write_dump(
        tmp_path, files={"a": bytes(600), "b": bytes(600), "c": bytes(300), "../x": b"", "core": b""} | {}
    )
    with tarfile.open(fileobj=io.BytesIO(read(plan(tmp_path)))) as archive:
        names = [name.rpartition("/")[2] for name in archive.getnames()[2:]]
    assert names == ["info.json", "a", "c", "core", "SHA256SUMS"]


@pytest.mark.parametrize(
    ("before", "after", "core"),
    [
        ('"bytes": 9000', '"bytes": -1', "core.missing"),
        ('"bytes": 9000', f'"bytes": {9000 + (1 << 32)}', "core"),
        ('"bytes": 9000', f'"bytes": {9000 + (1 << 63)}', "core.missing"),
        ('"bytes": 9000', '"bytes": 9001', "core.missing"),
        ('"stored_bytes": ', '"stored_bytes": -', "core.missing"),
        ('"stored_bytes": ', '"stored_bytes": 1', "core.missing"),
        (
            '"maps"',
            r'"../maps", "/etc/passwd", "a/b", "\u0000", "\ud800", "core.gz", "info.json", "maps", "maps"',
            "core",
        ),
        ("2026-01-31T12", "-999-01-31T12", "core"),
        ("2026-01-31T12", "9999-12-31T12", "core"),
        ("2026-01-31T12", "0001-01-01T12", "core"),
    ],
)
def test_hostile_records(tmp_path: Path, before: str, after: str, core: str) -> None:
    info = write_dump(tmp_path, when=START, core=bytes(9000), files={"maps": b"maps"}) / "info.json"
    text = info.read_text()
    assert before in text
    info.write_text(text.replace(before, after))
    data = read(plan(tmp_path))
    if core == "core" and "bytes" in before:  # gzip's 32 bits agree; tar sees the lie
        with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(data), mode="r|gz") as archive:
            archive.getnames()
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = [name.rpartition("/")[2] for name in archive.getnames()[2:]]
    assert sorted(names) == sorted(["info.json", "maps", core, "SHA256SUMS"])
