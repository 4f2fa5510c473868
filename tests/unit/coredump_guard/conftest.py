"""What the tests of the node side share: a configuration below tmp_path, and dumps in its spool."""

from __future__ import annotations

import configparser
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from coredump_guard import pipedoor, runtime, store
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config, load
from coredump_guard.drain import drain
from coredump_guard.record import Capture, Core, Identity, Process, Record, Signal
from coredump_guard.spool import Spool
from testbed.waiting import wait_for

hypothesis.settings.register_profile("machine", deadline=None)  # others compute here too
hypothesis.settings.load_profile("machine")

IDENTITY = Identity("demo", "web", "11111111-2222-3333-4444-555555555555", "app", "c" * 64, "image:1", 0)

roots_socket = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the guard speaks to nobody else")

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
    settings: dict[str, dict[str, object]] = {
        "guard": {
            "node": "node-1",
            "mode": "pipe",
            "deadline": 60,
            "spool": tmp_path / "spool",
            "state": tmp_path / "state",
            "runtime": tmp_path / "coredump-guard",
            "interpreter": "/usr/bin/python3",
        },
        "spool": {"keep_free": 0},
        "store": {"path": tmp_path / "store"},
    }
    parser = configparser.ConfigParser()
    parser.read_dict(settings)
    with (tmp_path / "guard.conf").open("w") as file:
        parser.write(file)
    return load(str(tmp_path / "guard.conf"))


@pytest.fixture
def spool(config: Config) -> Spool:
    """Return the configuration's spool, empty."""
    spool = Spool(config.spool)
    spool.prepare()
    return spool


@pytest.fixture
def installed(config: Config, spool: Spool) -> Config:
    """Return a configuration that is linked from the runtime directory by arming."""
    runtime.link(config)
    return config


@pytest.fixture
def spooled(spool: Spool, tmp_path: Path) -> Spooled:
    """Return a function that puts one whole dump into the spool, as a capture does; it returns the record."""

    def put(
        core: bytes = b"CORE" + bytes(3000),
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
                core=Core(drained.bytes, drained.stored_bytes, drained.truncated),
                capture=Capture("pipe", 0.1, "0.1.0"),
                files=["maps"],
            )
            draft.write(store.INFO, record.to_json().encode())
        return record

    return put


class Door:
    """A door that is served by a thread; what arrives is kept."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.arrived: list[Arrival] = []
        self.listening = pipedoor.listen(self.path, socket.SOCK_SEQPACKET)
        self.thread = threading.Thread(
            target=pipedoor.serve,
            args=(self.listening, self.arrived.append, lambda: '{"status": 1}'),
            daemon=True,
        )
        self.thread.start()

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.settimeout(10)
        peer.connect(self.path)
        return peer

    def say(self, message: bytes, fds: list[int] | None = None) -> bytes:
        with self.connect() as peer:
            socket.send_fds(peer, [message], fds or [])
            return peer.recv(1 << 16)

    def end(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()
        self.listening.close()
        for arrival in self.arrived:
            arrival.close()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    try:
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the guard speaks to nobody else")
    door = Door(tmp_path / "guard.sock")
    try:
        yield door
    finally:
        door.end()
