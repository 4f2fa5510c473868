from __future__ import annotations

import datetime
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard.quota import Usage
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.controller.notice import DUMPED, LONGEST, REFUSED, crashed, escaped, latest, low_space
from tests.support.dumps import write_dump

WHEN = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def dump_of(root: Path, **facts: Any) -> Dump:
    write_dump(root, **{"when": WHEN} | facts)
    (found,) = Catalog(str(root)).dumps(facts.get("namespace", "demo"))
    return found


def test_a_stored_core_is_told_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    dump = dump_of(tmp_path, executable="/usr/bin/g++")
    (notice,) = crashed("demo", "web", [dump])
    assert (notice.reason, notice.about, notice.is_warning) == (DUMPED, "app", False)
    said, _, command = notice.message.partition(": ")
    assert said == "/usr/bin/g++ in container app died of SIGSEGV; its core of 2.0Ki is kept"
    words = shlex.split(command)
    assert words[:3] == ["kubectl", "get", "--raw"]
    assert words[3].endswith(
        f"/demo/coredumpendpoints/web/dump?container=app&id={dump.id.replace('+', '%2B')}"
    )
    assert words[4:] == [">", "coredump.tar.gz"]
    assert notice.counted == {dump.id[-8:]: 1}


def test_without_an_endpoint_no_command_is_said(tmp_path: Path) -> None:
    dump = dump_of(tmp_path)
    (notice,) = crashed("demo", "", [dump])
    assert "kubectl" not in notice.message
    assert dump.poduid in notice.message


def test_a_cut_core_is_never_told_as_whole(tmp_path: Path) -> None:
    (notice,) = crashed("demo", "web", [dump_of(tmp_path, truncated="the capture's deadline passed")])
    assert "core of 2.0Ki, cut (the capture's deadline passed) is kept" in notice.message


def test_what_was_refused_counts_its_crashes(tmp_path: Path) -> None:
    dump = dump_of(tmp_path, refused="a crash loop", crashes=7, until="2026-01-31T13:00:00Z")
    (notice,) = crashed("demo", "web", [dump])
    assert (notice.reason, notice.is_warning) == (REFUSED, True)
    assert notice.message.endswith("no core was kept (7 crashes): a crash loop")
    assert list(notice.counted.values()) == [7]
    assert notice.last - notice.first == 3600 * 1_000_000


def test_a_signal_that_is_unknown_is_not_called_one(tmp_path: Path) -> None:
    (notice,) = crashed("demo", "web", [dump_of(tmp_path, refused="x", signal=(0, "signal 0"))])
    assert "in container app died of an unknown signal; no core was kept" in notice.message


def test_containers_are_told_apart_and_the_newest_crash_speaks(tmp_path: Path) -> None:
    for second, container in enumerate(("app", "app", "init")):
        when = WHEN + datetime.timedelta(seconds=second)
        write_dump(tmp_path, container=container, when=when, executable=f"/bin/x{second}")
    notices = crashed("demo", "web", Catalog(str(tmp_path)).dumps("demo"))
    assert [(notice.about, len(notice.counted)) for notice in notices] == [("app", 2), ("init", 1)]
    assert notices[0].message.startswith("/bin/x1 ")


@pytest.mark.parametrize("refused", [None, "\x1b" * 5000])
def test_the_longest_names_fit_and_nothing_acts_on_a_terminal(tmp_path: Path, refused: str | None) -> None:
    names = {"namespace": "n" * 63, "container": "c" * 63, "poduid": "f" * 128}
    dump = dump_of(tmp_path, **names, executable="/" + "+" * 64, refused=refused, pid=4_194_304)
    process = replace(dump.record.process, executable="/\x1b[31m" * 1000)
    signal = replace(dump.record.signal, name="\n" * 500)
    core = replace(dump.record.core, bytes=1 << 62, truncated=None if refused else "\x07é" * 500)
    hostile = replace(dump, record=replace(dump.record, process=process, signal=signal, core=core))
    for endpoint in ("p" * 253, ""):
        (notice,) = crashed("n" * 63, endpoint, [hostile])
        assert len(notice.message) <= LONGEST
        assert notice.message.isprintable()
        assert notice.message.isascii()
        if endpoint and not refused:
            assert notice.message.endswith("' > coredump.tar.gz")


def test_a_record_without_a_time_has_that_of_its_id(tmp_path: Path) -> None:
    dump = dump_of(tmp_path)
    lost = replace(dump, record=replace(dump.record, time="yesterday"))
    assert latest(lost) == int(WHEN.timestamp()) * 1_000_000


def test_a_namespace_that_nears_its_quota() -> None:
    notice = low_space(Usage("demo", 95 << 30, 100 << 30), 1_700_000_000_000_000)
    assert notice.message.startswith("namespace demo uses 95.0 GiB of its quota of 100.0 GiB")


@given(st.text(), st.integers(3, 40))
def test_escaped_text_is_bounded_ascii(text: str, longest: int) -> None:
    safe = escaped(text, longest)
    assert len(safe) <= longest
    assert safe.isascii()
    assert not safe or safe.isprintable()
