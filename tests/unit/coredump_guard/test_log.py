"""The log: the crasher's words never make a line or a field of their own."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import log

FORGERIES = [
    "a\nerror: forged",
    "a\rerror: forged",
    "\x1b[2K\x1b[1A",
    "x dump=other",
    'x" dump="other',
    "",
    "\u2028",
    "\x85",
    "\x7f",
    "\u202etxt",
    "\udcff",
    "\0",
    "é",
]


@contextmanager
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Connect standard error to a journal of the test's own, as systemd does."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        path = f"{directory}/socket"
        receiver.bind(path)
        receiver.settimeout(10)
        status = os.fstat(2)
        monkeypatch.setattr(log, "JOURNAL", path)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield receiver


def fields(entry: bytes) -> dict[str, str]:
    """Parse journald's protocol in its one-line form (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    lines = entry.decode().split("\n")
    assert lines.pop() == ""
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_a_line_with_fields(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    getattr(log, level)("captured", pid=5, dump="a-b", what=None, reason="no space left")
    assert capsys.readouterr().err == f'{level}: captured pid=5 dump=a-b reason="no space left"\n'


@pytest.mark.parametrize("value", FORGERIES)
def test_no_value_forges_a_line_or_a_field(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.info("captured", comm=value, dump="true")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.endswith(" dump=true\n")
    assert line[:-1].isprintable()
    assert line.isascii()
    quoted = line.removeprefix("info: captured comm=").removesuffix(" dump=true\n")
    assert json.loads(quoted) == value


@given(st.text(st.characters()))
def test_any_value_stays_one_word_and_can_be_read_back(value: str) -> None:
    word = log.safe(value)
    assert word.isascii()
    assert word.isprintable()
    assert (json.loads(word) if word.startswith('"') else word) == value


@pytest.mark.parametrize(("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3")])
def test_an_entry_of_the_journal(monkeypatch: pytest.MonkeyPatch, level: str, priority: str) -> None:
    with journal(monkeypatch) as receiver:
        getattr(log, level)("captured", pid=5, what=None, reason="no space")
        entry = fields(receiver.recv(1 << 16))
    assert entry == {
        "MESSAGE": 'captured pid=5 reason="no space"',
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "coredump-guard",
        "COREDUMP_GUARD_PID": "5",
        "COREDUMP_GUARD_REASON": '"no space"',
    }


@pytest.mark.parametrize("value", FORGERIES)
def test_no_value_forges_a_field_of_the_journal(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with journal(monkeypatch) as receiver:
        log.info("captured", comm=f"x\nPRIORITY=0{value}")
        entry = fields(receiver.recv(1 << 16))
    assert entry["PRIORITY"] == "6"
    assert set(entry) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "COREDUMP_GUARD_COMM"}


def test_a_journal_that_is_away_costs_no_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with journal(monkeypatch):
        monkeypatch.setattr(log, "JOURNAL", str(tmp_path / "none"))
        log.info("captured", pid=5)
    assert capsys.readouterr().err == "MESSAGE=captured pid=5\n"


@pytest.mark.parametrize("stream", ["", "0:0", "nonsense"])
def test_another_standard_error_is_written_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    with journal(monkeypatch):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        log.info("captured")
    assert capsys.readouterr().err == "info: captured\n"
