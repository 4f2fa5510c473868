"""The accountant: what becomes of announced crashes that nobody captures, and of those a dead guard captured.

With the kernel's own announcements: tests/integration/test_account.py.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import accountant, announced, journal
from coredump_guard.account import ANNOUNCED
from coredump_guard.accountant import UNEXPLAINED, UNWATCHED, Accountant
from coredump_guard.capture import boot_id, rfc3339
from coredump_guard.config import Config
from coredump_guard.connector import Announcement, Unavailable
from coredump_guard.journal import Entry
from coredump_guard.store import crash_of
from testbed.waiting import wait_for

from .conftest import Spooled

NOBODY = 4_194_399
"""A PID that no process can have (PID_MAX_LIMIT in linux/threads.h)."""


@pytest.fixture
def kept(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return a configuration with a state directory, and let nothing be waited for."""
    os.makedirs(config.state)
    for name in ("PAUSE", "SETTLE"):
        monkeypatch.setattr(accountant, name, -1.0)

    def unavailable() -> None:
        raise Unavailable("no kernel here")

    monkeypatch.setattr(accountant, "Connector", unavailable)
    return config


def note(config: Config, event: str = ANNOUNCED, when: float = 0.0, **values: Any) -> None:
    entry = Entry(rfc3339(when or time.time()), boot_id(), event, pid=NOBODY, **values)
    journal.append(config.state, entry)


def events(config: Config) -> list[tuple[str, str]]:
    return [(entry.event, entry.reason) for entry in journal.entries(config.state)]


def rounds(made: Accountant, count: int = 3) -> None:
    for _ in range(count):
        made._round()


def test_a_crash_without_a_core_is_missed_for_the_reason_that_was_seen(kept: Config) -> None:
    made = Accountant(kept, set)
    note(kept, reason="core_pattern was 'core'", executable="/x", signal="SIGSEGV")
    rounds(made)
    *_, last = journal.entries(kept.state)
    assert (last.event, last.reason) == ("missed", "core_pattern was 'core'")
    assert (last.pid, last.executable, last.signal) == (NOBODY, "/x", "SIGSEGV")
    rounds(made)
    assert len(events(kept)) == 2


def test_a_crash_that_nothing_explains_is_awaited_for_a_captures_deadline(kept: Config) -> None:
    made = Accountant(kept, set)
    note(kept)
    rounds(made)
    assert events(kept) == [(ANNOUNCED, "")]
    made._gone = dict.fromkeys(made._gone, -1000.0)
    rounds(made)
    assert events(kept)[1:] == [("missed", UNEXPLAINED)]


def test_what_came_before_this_guard_was_not_watched(kept: Config) -> None:
    note(kept, when=time.time() - 100)
    made = Accountant(kept, set)
    rounds(made)
    made._gone = dict.fromkeys(made._gone, -1000.0)
    rounds(made)
    assert events(kept)[1:] == [("missed", UNWATCHED)]


def test_what_is_in_hand_is_not_missed(kept: Config) -> None:
    hand = {NOBODY}
    made = Accountant(kept, lambda: hand)
    note(kept, reason="core_pattern was 'core'")
    rounds(made)
    assert events(kept)[1:] == []
    note(kept, "captured")
    hand.clear()
    rounds(made)
    assert [event for event, _ in events(kept)] == [ANNOUNCED, "captured"]


def test_a_dump_that_a_killed_guard_had_finished_is_captured(kept: Config, spooled: Spooled) -> None:
    dump_id = spooled().id
    when, pid = crash_of(dump_id)
    for crash in (when + 0.4, when + 30):  # the second is another process's of the same PID
        journal.append(kept.state, Entry(rfc3339(crash), boot_id(), ANNOUNCED, pid=pid))
    Accountant(kept, set)._recover()
    *_, last = journal.entries(kept.state)
    assert (len(events(kept)), last.event, last.dump) == (3, "captured", dump_id)


def test_what_was_salvaged_and_delivered_is_captured(kept: Config) -> None:
    dump_id = f"20260101T000000Z-app-{NOBODY}-01234567"
    note(kept, when=crash_of(dump_id)[0])
    made = Accountant(kept, set)
    note(kept, "delivered", dump=dump_id)
    rounds(made)
    *_, last = journal.entries(kept.state)
    assert (len(events(kept)), last.event, last.dump) == (3, "captured", dump_id)


def test_more_than_can_be_noted_is_lost_and_said(
    kept: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("coredump_guard.account.MAX_PENDING", 0)
    made = Accountant(kept, set)
    assert made.report()["lost_at"] == ""
    note(kept)
    rounds(made)
    assert made.report()["lost_at"].startswith("20")
    assert "more crashes were announced than could be noted" in capsys.readouterr().err


def test_an_announcement_is_noted_with_what_shows(kept: Config) -> None:
    when = time.time()
    Accountant(kept, set)._announce(Announcement(os.getpid(), when))
    (entry,) = journal.entries(kept.state)
    assert (entry.event, entry.pid, entry.time) == (ANNOUNCED, os.getpid(), rfc3339(when))
    assert entry.executable == os.readlink("/proc/self/exe")


def test_one_that_cannot_be_noted_takes_no_other_with_it(
    kept: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, look = Accountant(kept, set), announced.glance
    batch = [Announcement(1, time.time()), Announcement(os.getpid(), time.time())]

    def glance(pid: int, *rest: Any) -> announced.Glance:
        return look(1 // 0 if pid == 1 else pid, *rest)

    monkeypatch.setattr(announced, "glance", glance)
    monkeypatch.setattr(made, "_announcements", lambda: batch)
    rounds(made, 1)
    assert [entry.pid for entry in journal.entries(kept.state)] == [os.getpid()]
    assert made.report()["lost_at"]
    assert "a crash could not be noted" in capsys.readouterr().err


def test_what_is_salvaged_after_this_guard_began_is_captured(kept: Config) -> None:
    when = time.time() - 100
    journal.append(kept.state, Entry(rfc3339(when), boot_id(), ANNOUNCED, pid=NOBODY))
    made = Accountant(kept, set)
    made._recover()
    rounds(made)
    dump_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(when))}-app-{NOBODY}-01234567"
    os.makedirs(f"{kept.spool}/ready/{dump_id}")
    made._gone = dict.fromkeys(made._gone, -1000.0)
    rounds(made)
    *_, last = journal.entries(kept.state)
    assert (len(events(kept)), last.event, last.dump) == (2, "captured", dump_id)


def test_without_the_kernels_announcements_it_goes_on_and_says_why(
    kept: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accountant, "PAUSE", 0.01)
    made = Accountant(kept, set)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    note(kept, reason="x")
    wait_for("it is missed", lambda: ("missed", "x") in events(kept))
    made.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert made.report()["unavailable"] == "no kernel here"
    assert "crashes are not accounted for" in capsys.readouterr().err


def test_an_account_out_of_order_goes_on(
    kept: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accountant, "PAUSE", 0.01)
    made = Accountant(kept, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    said: list[str] = []

    def twice() -> bool:
        said.append(capsys.readouterr().err)
        return "".join(said).count("the account is out of order") > 1

    wait_for("two complaints", twice)
    made.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_state_directory_that_is_gone_costs_only_the_account(kept: Config) -> None:
    Path(kept.state).rmdir()
    made = Accountant(kept, set)
    made._announce(Announcement(os.getpid(), time.time()))
    rounds(made)
    assert list(made._ledger.pending()) == []
