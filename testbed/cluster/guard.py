"""The guard on the node: the real service with the real core_pattern, delivering into the product's store.

Not here: holding the core settings, which whoever runs the node does (node).
"""

from __future__ import annotations

import configparser
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from testbed.cluster import network
from testbed.cluster.program import Program
from testbed.cluster.workloads import NODE

COMMAND = str(Path(sys.executable).parent / "coredump-guard")
RUNTIME = Path("/run/coredump-guard-cluster")
"""Where its sockets are; the kernel knows them by this short path."""


@contextlib.contextmanager
def guard(directory: Path, store: Path, **settings: object) -> Iterator[Program]:
    """Run a guard and arm core_pattern; afterwards it is disarmed and has ended.

    `directory` is its own. Settings are named section__key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = _configured(directory, store, settings)
    log = directory / "guard.log"
    service = Program(
        "coredump-guard", [COMMAND, "--config", config, "run"], log, ready=lambda: " ready" in log.read_text()
    )
    try:
        with network.outside():  # the kernel announces crashes only there
            service.start()
        _run(config, "arm")
        yield service
    finally:
        with contextlib.suppress(
            subprocess.SubprocessError
        ):  # it says why; the core settings are put back anyway
            _run(config, "disarm")
        service.stop()
        shutil.rmtree(RUNTIME, ignore_errors=True)


def _configured(directory: Path, store: Path, settings: dict[str, object]) -> Path:
    parser = configparser.ConfigParser(interpolation=None)
    basic = {"node": NODE, "spool": directory / "spool", "state": directory / "state", "runtime": RUNTIME}
    parser.read_dict({"guard": basic, "spool": {"keep_free": 0}, "store": {"path": store}})
    for name, value in settings.items():
        section, _, key = name.rpartition("__")
        parser.read_dict({section or "guard": {key: value}})
    path = directory / "guard.conf"
    with path.open("w") as file:
        parser.write(file)
    return path


def _run(config: Path, verb: str) -> None:
    subprocess.run([COMMAND, "--config", str(config), verb], check=True, capture_output=True, timeout=60)
