"""The journal: what is appended comes back, whatever stands between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import account, journal
from coredump_guard.journal import Entry, append, entries


def entry(number: int = 0, **fields: Any) -> Entry:
    return Entry("2026-11-24T00:00:00Z", "b" * 36, "captured", pid=number, **fields)


def test_what_is_appended_comes_back_in_its_order(tmp_path: Path) -> None:
    lines = [entry(1, reason="a\nb\x1b\udcff"), entry(2, whose="a/b/c", dump="d"), entry(3)]
    for line in lines:
        append(str(tmp_path), line)
    assert list(entries(str(tmp_path))) == lines
    assert (tmp_path / "journal").read_bytes().isascii()


def test_a_full_journal_becomes_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 300)
    for number in range(6):
        append(str(tmp_path), entry(number))
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.old"]
    numbers = [line.pid for line in entries(str(tmp_path)) if line.event != account.CARRIED]
    assert numbers == list(range(numbers[0], 6))
    assert 0 < (tmp_path / "journal").stat().st_size <= 300 + 200


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"time": 7}',
        b'{"pid": "1"}',
        b"\xff",
        b"null",
        b'{"counts": 1}',
        b'{"counts": {"a": "b"}}',
        b"[" * 9999,
    ],
)
def test_a_line_that_is_none_is_passed_over(tmp_path: Path, line: bytes) -> None:
    append(str(tmp_path), entry(1))
    with (tmp_path / "journal").open("ab") as file:
        file.write(line + b"\n")
    append(str(tmp_path), entry(2))
    assert [found.pid for found in entries(str(tmp_path))] == [1, 2]


def test_long_texts_are_cut(tmp_path: Path) -> None:
    append(str(tmp_path), entry(1, reason="x" * 5000))
    assert [len(found.reason) for found in entries(str(tmp_path))] == [512]


def test_a_journal_that_cannot_be_written_is_only_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(str(tmp_path / "missing"), entry())
    assert "the journal takes no line" in capsys.readouterr().err


def test_a_new_journal_begins_with_the_counts_of_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is rotated, no number goes backwards."""
    monkeypatch.setattr(journal, "MAX_BYTES", 300)
    append(str(tmp_path), Entry("2026-01-01T00:00:00Z", "another boot", "captured"))
    for number in range(1, 40):
        append(str(tmp_path), entry(number))
        ledger = account.Ledger("b" * 36)
        for line in entries(str(tmp_path)):
            ledger.add(line)
        assert ledger.counts["captured"] == ledger.announced == number


def test_a_follower_misses_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 300)
    follower = journal.Follower(str(tmp_path))
    seen: list[int] = []

    def look() -> None:
        seen.extend(line.pid for line in follower.new() if line.event != account.CARRIED)

    look()
    for number in range(1, 40):
        append(str(tmp_path), entry(number))
        if number % 2:  # a journal and its rotation come between two looks
            look()
    look()
    assert seen == list(range(1, 40))


def test_a_new_follower_begins_with_the_old_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 300)
    for number in range(6):
        append(str(tmp_path), entry(number))
    assert list(journal.Follower(str(tmp_path)).new()) == list(entries(str(tmp_path)))


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    append(str(tmp_path), entry(1))
    follower = journal.Follower(str(tmp_path))
    path = tmp_path / "journal"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:20])
        file.flush()
        assert [line.pid for line in follower.new()] == [1]
        assert list(follower.new()) == []
        file.write(whole[20:])
    assert [line.pid for line in follower.new()] == [1]


def test_a_disk_that_takes_half_a_line_keeps_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    append(str(tmp_path), entry(1))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    append(str(tmp_path), entry(2))
    monkeypatch.undo()
    append(str(tmp_path), entry(3))
    assert [line.pid for line in entries(str(tmp_path))] == [1, 3]
    assert "the journal takes no line" in capsys.readouterr().err
