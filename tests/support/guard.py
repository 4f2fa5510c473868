"""A guard of the test's own: real configuration, real service, real core_pattern."""

from __future__ import annotations

import configparser
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coredump_guard import store
from coredump_guard.record import Record
from testbed.kernel import core_settings
from testbed.waiting import wait_for

COMMAND = [str(Path(sys.executable).parent / "coredump-guard")]


class NodeGuard:
    """One node's installation below a directory; nothing runs and nothing is armed until it is said."""

    def __init__(self, directory: Path, runtime: Path, mode: str, **settings: object) -> None:
        self.directory, self.runtime = directory, runtime
        self.store, self.spool, self.log = directory / "store", directory / "spool", directory / "guard.log"
        self.config = directory / "guard.conf"
        self.environment = dict(os.environ)
        self.command = COMMAND
        self.process: subprocess.Popen[bytes] | None = None
        self.store.mkdir(exist_ok=True)
        self.configure(
            guard__node="node-1",
            guard__mode=mode,
            guard__spool=self.spool,
            guard__state=directory / "state",
            guard__runtime=runtime,
            spool__keep_free=0,
            store__path=self.store,
        )
        self.configure(**settings)

    def configure(self, **settings: object) -> None:
        """Set settings in its file, named section__key, or key alone for those of [guard]."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.config)
        for name, value in settings.items():
            section, _, key = name.rpartition("__")
            parser.read_dict({section or "guard": {key: str(value)}})
        with self.config.open("w") as file:
            parser.write(file)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the guard's commands to its end."""
        command = [*self.command, "--config", str(self.config), *arguments]
        return subprocess.run(
            command, check=check, capture_output=True, text=True, timeout=60, env=self.environment
        )

    def start(self) -> None:
        """Start the service and wait until it listens."""
        command = [*self.command, "--config", str(self.config), "run"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env=self.environment)
        wait_for("the guard answers", lambda: self.status()["guard"])

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the service with a signal."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says."""
        found: dict[str, Any] = json.loads(self.run("status", "--json", check=False).stdout)
        return found

    def delivered(self) -> list[Path]:
        """Return the directories of the dumps that the store has been told of, oldest crash first."""
        inbox = self.store / store.INBOX
        names = sorted(inbox.iterdir()) if inbox.is_dir() else []
        return [self.store / name.read_text().strip() for name in names]

    def wait_for_dump(self, which: Callable[[Record], bool] = lambda _: True, seconds: float = 30) -> Path:
        """Wait for a delivered dump whose record is the one that is meant, and return its directory."""

        def look() -> Path | None:
            return next((path for path in self.delivered() if which(record(path))), None)

        try:
            return wait_for("a dump is delivered", look, seconds)
        except TimeoutError:
            raise TimeoutError(f"no such dump delivered; the guard says\n{self.log.read_text()}") from None


def record(dump: Path) -> Record:
    """Read the record of a dump's directory."""
    return Record.from_json((dump / store.INFO).read_bytes())


def core_of(dump: Path) -> bytes:
    """Inflate a dump's core and hold it against everything the record says of it."""
    known = record(dump).core
    stored = (dump / store.CORE).read_bytes()
    core = gzip.decompress(stored)
    assert len(stored) == known.stored_bytes
    assert hashlib.sha256(stored).hexdigest() == known.stored_sha256
    assert len(core) == known.bytes
    assert hashlib.sha256(core).hexdigest() == known.sha256
    return core


@contextmanager
def node_guard(directory: Path, mode: str, **settings: object) -> Iterator[NodeGuard]:
    """Hold the kernel's settings and yield an installation; afterwards it has ended and is disarmed."""
    with core_settings():
        runtime = Path(tempfile.mkdtemp(prefix="coredump-guard-test-", dir="/run"))
        guard = NodeGuard(directory, runtime, mode, **settings)
        try:
            yield guard
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.stop()
            if guard.process is not None:
                guard.stop(signal.SIGKILL)
            shutil.rmtree(runtime, ignore_errors=True)
