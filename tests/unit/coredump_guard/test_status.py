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

from coredump_guard import arming, pipedoor, status
from coredump_guard.arming import Settings
from coredump_guard.config import Config
from coredump_guard.service import Guard
from coredump_guard.spool import Spool

from .conftest import Spooled, roots_socket

GUARD = {
    "pid": 4711, "since": "2026-01-01T00:00:00Z", "waiting": 0, "captured": 5, "handed_on": 2, "missed": 0,
    "last": "20260101T000000Z-app-1-01234567", "delivered": 4, "broken": 0, "delivering": "",
    "delivering_seconds": 0, "store_error": "", "store_failing_since": "",
}  # fmt: skip
STATUS: dict[str, Any] = {
    "node": "node-1",
    "armed": True,
    "door": "pipe",
    "core_pattern": "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py %P",
    "original": "core",
    "guard": GUARD,
    "spool": {"path": "/spool", "dumps": 1, "bytes": 2048, "oldest": "x"},
    "store": "/store",
    "unknown": {},
}


def rendered(running: dict[str, Any] | None = None, **changes: object) -> str:
    merged = {**STATUS, "guard": {**GUARD, **(running or {})}, **changes}
    text = status.render(merged)
    assert 5 < text.count("\n") <= 10
    assert text.endswith("\n")
    return text


def test_all_is_well() -> None:
    assert rendered() == (
        "      node  node-1\n"
        "     armed  yes, pipe door\n"
        " before us  core\n"
        "     guard  running as 4711 since 2026-01-01T00:00:00Z\n"
        "   crashes  5 captured, 2 handed on, 0 missed\n"
        "      last  20260101T000000Z-app-1-01234567\n"
        "     spool  1 dumps, 2.0 KiB in /spool\n"
        "     store  /store: 4 delivered\n"
    )


SOCKET = "@@/run/coredump-guard/kernel.sock"


@pytest.mark.parametrize(
    ("guard", "changes", "line"),
    [
        ({}, {"armed": False}, "armed  NO: crashes do not reach us; coredump-guard arm"),
        ({}, {"door": "socket"}, "armed  yes, socket door"),
        ({}, {"original": None}, "before us  not remembered"),
        ({}, {"unknown": {"original": "it takes root"}}, "before us  unknown; it takes root"),
        ({}, {"unknown": {"guard": "it takes root"}}, "guard  cannot be asked; it takes root\n"),
        ({}, {"unknown": {"spool": "it takes root"}}, "spool  /spool cannot be read; it takes root\n"),
        ({"waiting": 3}, {}, "5 captured, 2 handed on, 0 missed, 3 waiting"),
        ({"last": ""}, {}, "last  none yet"),
        ({"broken": 2}, {}, "4 delivered, 2 broken and set aside"),
        (
            {"store_error": "Stale file handle", "store_failing_since": "2026-01-02T00:00:00Z"},
            {},
            "4 delivered; FAILING since 2026-01-02T00:00:00Z: Stale file handle",
        ),
        ({"delivering": "big", "delivering_seconds": 31}, {}, "4 delivered; big takes 31 s already"),
        ({"delivering": "big", "delivering_seconds": 30}, {}, "/store: 4 delivered\n"),
        (
            {},
            {"guard": None},
            "NOT RUNNING; crashes are captured one at a time, and delivered when it is back",
        ),
        ({}, {"guard": None, "core_pattern": SOCKET}, "guard  NOT RUNNING; crashes are LOST; start it"),
        ({}, {"guard": None, "armed": False}, "NOT RUNNING; start it with coredump-guard run"),
        ({}, {"guard": None}, "store  /store: nothing is delivered while the guard is down"),
    ],
)
def test_each_state_has_its_words(guard: dict[str, Any], changes: dict[str, object], line: str) -> None:
    assert line in rendered(guard, **changes)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert status.size(count) == text


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
    assert found["spool"] == {"path": config.spool, "dumps": 0, "bytes": 0, "oldest": None}
    assert "NO" in status.render(found)


def test_what_the_disk_and_the_kernel_say(
    config: Config, spool: Spool, spooled: Spooled, kernel: Callable[[str], None]
) -> None:
    os.makedirs(config.state)
    Path(config.state, "original.json").write_text('{"core_pattern": "|/x", "core_pipe_limit": "1"}')
    oldest = spooled(when=1_600_000_000).id
    spooled(when=1_700_000_000)
    kernel(SOCKET)
    found = status.gather(config)
    assert (found["armed"], found["original"], found["core_pattern"]) == (True, "|/x", SOCKET)
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
    kernel(SOCKET)
    found = status.gather(config)
    assert (found["armed"], found["door"], found["guard"], found["original"]) == (True, "socket", None, None)
    assert found["spool"] == {"path": config.spool, "dumps": None, "bytes": None, "oldest": None}
    assert found["unknown"] == dict.fromkeys(("original", "guard", "spool"), "it takes root")
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
    assert "7 captured, 0 handed on, 0 missed" in text
    assert "FAILING since 2023-11-14T22:13:20.000000Z: Stale" in text


def test_a_guard_that_answers_nonsense_counts_as_none(
    config: Config, kernel: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipedoor, "ask_status", lambda _: "{")
    assert status.gather(replace(config, mode="socket"))["guard"] is None
