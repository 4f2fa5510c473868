"""Status: every state in some ten lines that a person understands."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import arming, journal, pipedoor, status
from coredump_guard.arming import Settings
from coredump_guard.capture import boot_id
from coredump_guard.config import Config
from coredump_guard.service import Guard
from coredump_guard.spool import Spool

from .conftest import Spooled, roots_socket

GUARD = {
    "pid": 4711, "since": "2026-01-01T00:00:00Z", "waiting": 0, "captured": 5, "handed_on": 2, "missed": 0,
    "last": "20260101T000000Z-app-1-01234567", "delivered": 4, "broken": 0,
    "refused": 0, "evicted": 0, "spool_error": "", "nearly_full": [],
    "namesakes": [], "delivering": "",
    "delivering_seconds": 0, "store_error": "", "store_failing_since": "",
    "account": {"unavailable": "", "lost_at": ""},
    "keeper": {"repairs": 0, "last_repair": "", "changed_to": "", "contested": None},
}  # fmt: skip
CRASH: dict[str, Any] = {
    "time": "2026-01-01T00:00:00Z", "boot_id": "b", "event": "missed", "reason": "core_pattern was 'core'",
    "pid": 7, "signal": "SIGSEGV", "executable": "/x\ny", "whose": "host", "dump": "",
}  # fmt: skip
STATUS: dict[str, Any] = {
    "node": "node-1",
    "armed": True,
    "door": "pipe",
    "core_pattern": "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py %P",
    "original": "core",
    "guard": GUARD,
    "spool": {"path": "/spool", "bound": 10240, "dumps": 1, "bytes": 2048, "oldest": "x", "broken": 0},
    "store": "/store",
    "crashes": {"announced": 9, "captured": 5, "refused": 1, "handed_on": 2, "missed": 1, "under_way": 0},
    "last": [CRASH],
    "unknown": {},
}


def rendered(running: dict[str, Any] | None = None, **changes: object) -> str:
    merged = {**STATUS, "guard": {**GUARD, **(running or {})}, **changes}
    text = status.render({"problems": status.problems(merged), **merged})
    assert 5 < text.count("\n") <= 12
    assert text.endswith("\n")
    return text


def test_all_is_well() -> None:
    assert rendered() == (
        "      node  node-1\n"
        "     armed  yes, pipe door\n"
        " before us  core\n"
        "     guard  running as 4711 since 2026-01-01T00:00:00Z\n"
        "   crashes  9 since boot: 5 captured, 1 refused, 2 handed on, 1 missed\n"
        "     spool  1 dump, 2.0 KiB of 10.0 KiB in /spool\n"
        "     store  /store: 4 delivered since 2026-01-01T00:00:00Z\n"
        '      last  2026-01-01T00:00:00Z  missed  host  SIGSEGV  "/x\\ny"  pid=7  '
        "\"core_pattern was 'core'\"\n"
    )


SOCKET = "@@/run/coredump-guard/kernel.sock"
FAILING = {"store_error": "Stale file handle", "store_failing_since": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("guard", "changes", "problem"),
    [
        ({}, {"armed": False, "core_pattern": "x"}, "NOT ARMED: no crash reaches us, core_pattern is 'x'; "),
        (
            {},
            {"guard": None},
            "NOT RUNNING: crashes are captured one at a time, and delivered when it is back; start it",
        ),
        ({}, {"guard": None, "core_pattern": SOCKET}, "NOT RUNNING: crashes are LOST; start it"),
        (FAILING, {}, "store FAILING since 2026-01-02T00:00:00Z: Stale file handle; dumps wait in the spool"),
        ({"delivering": "big", "delivering_seconds": 31}, {}, "store: big takes 31 s already; is it hung?"),
        ({"spool_error": "I/O"}, {}, "dumps cannot be read from the spool: I/O; mend its disk"),
        ({"nearly_full": ["demo: 95 %"]}, {}, "quota nearly used up: demo: 95 %"),
        ({"namesakes": ["a", "b"]}, {}, 'other machines deliver by this node\'s name: "a, b"'),
        ({}, {"spool": {**STATUS["spool"], "bytes": 9319}}, "spool 91 % full: "),
        ({}, {"spool": {**STATUS["spool"], "bytes": 9216}}, "spool 90 % full: "),
        ({}, {"spool": {**STATUS["spool"], "broken": 1}}, "1 dump set aside in /spool/broken: "),
        ({"account": {"unavailable": "no root", "lost_at": ""}}, {}, "not accounted: no root"),
        (
            {"account": {"unavailable": "", "lost_at": "2026-01-02T00:00:00Z"}},
            {},
            "not accounted: announcements of crashes were lost, last at 2026-01-02T00:00:00Z",
        ),
        ({"keeper": {"contested": "x", "repairs": 0}}, {}, "CONTESTED: somebody else sets core_pattern, x; "),
    ],
)
def test_what_is_wrong_comes_first(guard: dict[str, Any], changes: dict[str, object], problem: str) -> None:
    assert f"     WRONG  {problem}" in rendered(guard, **changes).splitlines()[0] + "\n"


def test_the_worst_comes_first() -> None:
    merged = {**STATUS, "armed": False, "core_pattern": "core", "guard": {**GUARD, **FAILING}}
    found = status.problems(merged)
    assert [problem.split()[0] for problem in found] == ["NOT", "store"]


@pytest.mark.parametrize(
    ("guard", "changes"),
    [
        ({}, {}),
        ({"delivering": "big", "delivering_seconds": 30}, {}),
        ({}, {"spool": {**STATUS["spool"], "bytes": 9215}}),
        ({}, {"spool": {**STATUS["spool"], "bound": None, "bytes": 1 << 50}}),
        ({"keeper": {"contested": None, "repairs": 0}}, {}),
        ({}, {"guard": None, "unknown": {"guard": "it takes root"}}),
    ],
)
def test_what_is_not_wrong(guard: dict[str, Any], changes: dict[str, object]) -> None:
    assert "WRONG" not in rendered(guard, **changes)


CRASHES: dict[str, int] = STATUS["crashes"]


@pytest.mark.parametrize(
    ("guard", "changes", "line"),
    [
        ({}, {"armed": False}, "armed  NO\n"),
        ({}, {"door": "socket"}, "armed  yes, socket door"),
        ({}, {"original": None}, "before us  not remembered"),
        ({}, {"unknown": {"original": "it takes root"}}, "before us  unknown; it takes root"),
        ({}, {"unknown": {"guard": "it takes root"}}, "guard  cannot be asked; it takes root\n"),
        ({}, {"unknown": {"spool": "it takes root"}}, "spool  /spool cannot be read; it takes root\n"),
        ({}, {"unknown": {"crashes": "it takes root"}}, "crashes  cannot be counted; it takes root\n"),
        ({"waiting": 3}, {}, "2 handed on, 1 missed, 3 waiting here"),
        ({}, {"crashes": {**CRASHES, "under_way": 4}}, "2 handed on, 1 missed, 4 under way\n"),
        ({}, {"spool": {**STATUS["spool"], "bound": None, "dumps": 2}}, "2 dumps, 2.0 KiB in /spool\n"),
        ({}, {"guard": None}, "store  /store: nothing is delivered while the guard is down"),
        (
            {"keeper": {"contested": None, "repairs": 1, "last_repair": "T", "changed_to": "x"}},
            {},
            "repaired  core_pattern, 1 time, last at T; it was x\n",
        ),
    ],
)
def test_each_state_has_its_words(guard: dict[str, Any], changes: dict[str, object], line: str) -> None:
    assert line in rendered(guard, **changes)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that says what core_pattern shall be taken to be."""

    def say(core_pattern: str) -> None:
        monkeypatch.setattr(arming, "current", lambda: Settings(core_pattern, "0"))

    say("core")
    return say


def test_a_machine_that_knows_nothing_of_us(config: Config, kernel: Callable[[str], None]) -> None:
    found = status.gather(config)
    assert (found["armed"], found["guard"], found["original"]) == (False, None, None)
    assert found["spool"] == {
        "path": config.spool, "bound": config.spool_size, "dumps": 0, "bytes": 0, "oldest": None, "broken": 0
    }  # fmt: skip
    assert set(found["crashes"].values()) == {0}
    assert found["last"] == []
    assert [problem[:11] for problem in found["problems"]] == ["NOT ARMED: ", "NOT RUNNING"]


def test_another_installation_is_not_us(config: Config, kernel: Callable[[str], None]) -> None:
    kernel(SOCKET)
    found = status.gather(config)
    assert not found["armed"]
    assert f"core_pattern is '{SOCKET}', of another installation of coredump-guard;" in found["problems"][0]


def test_what_the_disk_and_the_kernel_say(
    config: Config, spool: Spool, spooled: Spooled, kernel: Callable[[str], None]
) -> None:
    os.makedirs(config.state)
    Path(config.state, "original.json").write_text('{"core_pattern": "|/x", "core_pipe_limit": "1"}')
    oldest = spooled(when=1_600_000_000).id
    spooled(when=1_700_000_000)
    ours = f"@@{config.kernel_socket}"
    kernel(ours)
    found = status.gather(config)
    assert (found["armed"], found["original"], found["core_pattern"]) == (True, "|/x", ours)
    assert (found["spool"]["dumps"], found["spool"]["oldest"]) == (2, oldest)
    assert found["spool"]["bytes"] == spool.usage() > 0
    assert json.loads(json.dumps(found)) == found


def refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_what_only_root_may_know_is_unknown(
    config: Config, kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipedoor, "ask_status", refuse)
    monkeypatch.setattr(Spool, "pending", refuse)
    monkeypatch.setattr(arming, "original", refuse)
    monkeypatch.setattr(journal, "entries", refuse)
    kernel(f"@@{config.kernel_socket}")
    found = status.gather(config)
    assert (found["armed"], found["door"], found["guard"], found["original"]) == (True, "socket", None, None)
    assert {found["spool"][key] for key in ("dumps", "bytes", "oldest", "broken")} == {None}
    assert found["crashes"] is found["last"] is None
    assert found["unknown"] == dict.fromkeys(("original", "guard", "spool", "crashes"), "it takes root")
    text = status.render(found)
    assert "NOT RUNNING" not in text
    assert "0 dumps" not in text


def test_a_damaged_memory_does_not_hide_the_rest(config: Config, kernel: Callable[[str], None]) -> None:
    os.makedirs(config.state)
    Path(config.state, "original.json").write_text("{")
    found = status.gather(config)
    assert (found["original"], found["spool"]["dumps"]) == (None, 0)
    assert "mend or remove it" in status.render(found)


@roots_socket
def test_the_running_guards_report_is_what_is_shown(config: Config, kernel: Callable[[str], None]) -> None:
    guard = Guard(config)
    guard.counts.captured, guard.counts.last = 7, "the-last"
    guard.deliverer.progress.error, guard.deliverer.progress.failing_since = "Stale", 1_700_000_000
    os.makedirs(config.runtime)
    listening = pipedoor.listen(config.guard_socket, socket.SOCK_SEQPACKET)
    thread = threading.Thread(
        target=pipedoor.serve, args=(listening, print, lambda: status.report(guard)), daemon=True
    )
    thread.start()
    try:
        found = status.gather(config)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        listening.close()
    assert set(found["guard"]) == set(GUARD)
    assert (found["guard"]["pid"], found["guard"]["captured"]) == (os.getpid(), 7)
    text = status.render(found)
    assert "FAILING since 2023-11-14T22:13:20.000000Z: Stale" in text


def test_the_numbers_are_the_journals(config: Config, kernel: Callable[[str], None]) -> None:
    os.makedirs(config.state)
    for number, event in enumerate(["captured"] * 12 + ["refused", "handed on", "delivered", "announced"]):
        time = f"2026-01-01T00:00:{number:02}Z"
        journal.append(config.state, journal.Entry(time, boot_id(), event, pid=number))
    journal.append(config.state, journal.Entry("2025-01-01T00:00:00Z", "another boot", "captured", pid=1))
    found = status.gather(config)
    assert found["crashes"] == {
        "announced": 15, "captured": 12, "refused": 1, "handed_on": 1, "missed": 0, "under_way": 1
    }  # fmt: skip
    assert [entry["pid"] for entry in found["last"]] == [*range(5, 14), 1]
    assert "15 since boot: 12 captured, 1 refused, 1 handed on, 0 missed, 1 under way" in status.render(found)


def test_a_guard_that_answers_nonsense_counts_as_none(
    config: Config, kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipedoor, "ask_status", lambda _: "{")
    assert status.gather(replace(config, mode="socket"))["guard"] is None
