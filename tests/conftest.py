"""What holds for every test: root is probed, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def pytest_configure() -> None:
    """Have SIGTERM end a run as Ctrl-C does: fixtures still put things back."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `root` where they cannot run, and say so."""
    if os.geteuid() == 0 and os.access(CORE_PATTERN, os.W_OK):
        return
    missing = pytest.mark.skip(reason=f"needs root and a writable {CORE_PATTERN}: run `make test` as root")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(missing)


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test that leaves a process or a mount, or changed core settings, behind."""
    directory = tmp_path_factory.getbasetemp()
    before = leftovers.look(directory)
    yield
    left = leftovers.since(before, directory)
    if left:
        pytest.fail("left behind: " + "; ".join(left))
