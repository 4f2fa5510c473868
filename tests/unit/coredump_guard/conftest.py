"""What the tests of the node side share: a configuration below tmp_path, and dumps in its spool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from testbed.waiting import wait_for

from coredump_guard import store
from coredump_guard.config import Config
from coredump_guard.drain import drain
from coredump_guard.record import Capture, Core, Identity, Process, Record, Signal
from coredump_guard.spool import Spool

hypothesis.settings.register_profile("machine", deadline=None)  # others compute here too
hypothesis.settings.load_profile("machine")

IDENTITY = Identity("demo", "web", "11111111-2222-3333-4444-555555555555", "app", "c" * 64, "image:1", 0)

Spooled = Callable[..., Record]


def wait_for_log(capsys: pytest.CaptureFixture[str], text: str) -> str:
    """Wait until the text is logged, and return what was logged by then."""
    seen: list[str] = []

    def look() -> str:
        seen.append(capsys.readouterr().err)
        return "".join(seen) if text in "".join(seen) else ""

    return wait_for(f"{text!r} in the log", look)


def fail_at(
    monkeypatch: pytest.MonkeyPatch, name: str, call: int, error: BaseException | None = None
) -> None:
    """Let the call-th call of a function of os fail, as on a bad disk."""
    real: Any = getattr(os, name)
    left = [call]

    def failing(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise error or OSError(5, "Input/output error")
        return real(*arguments, **named)

    monkeypatch.setattr(os, name, failing)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration whose directories lie below tmp_path, the store among them."""
    (tmp_path / "store").mkdir()
    return Config(
        path=str(tmp_path / "guard.conf"),
        node="node-1",
        mode="pipe",
        workers=2,
        deadline=60,
        spool=str(tmp_path / "spool"),
        state=str(tmp_path / "state"),
        runtime=str(tmp_path / "coredump-guard"),
        interpreter="/usr/bin/python3",
        store=str(tmp_path / "store"),
        group=-1,
    )


@pytest.fixture
def spool(config: Config) -> Spool:
    """Return the configuration's spool, empty."""
    spool = Spool(config.spool)
    spool.prepare()
    return spool


@pytest.fixture
def spooled(spool: Spool, tmp_path: Path) -> Spooled:
    """Return a function that puts one whole dump into the spool, as a capture does; it returns the record."""

    def put(
        core: bytes = b"\x7fELF" + bytes(3000),
        *,
        when: float = 1_700_000_000,
        identity: Identity = IDENTITY,
        raw: bool = False,
    ) -> Record:
        dump_id = store.dump_id(when, "/bin/app", 4711, "boot", int(when))
        given = tmp_path / "given"
        given.write_bytes(core)
        with spool.draft(dump_id) as draft, given.open("rb") as source:
            out = draft.create(store.RAW_CORE if raw else store.CORE)
            drained = drain(source.fileno(), out, time.monotonic() + 60, raw=raw)
            os.close(out)
            draft.write("maps", b"00400000-00500000 r-xp\n")
            record = Record(
                id=dump_id,
                time="2023-11-14T22:13:20.000000Z",
                node="node-1",
                boot_id="boot",
                kernel="6.18.0",
                identity=identity,
                process=Process(4711),
                signal=Signal(11, "SIGSEGV"),
                core=Core(drained.bytes, drained.stored_bytes, drained.truncated, drained.stored_sha256),
                capture=Capture("pipe", 0.1, "0.1.0"),
                files=["maps"],
            )
            draft.write(store.INFO, record.to_json().encode())
        return record

    return put
