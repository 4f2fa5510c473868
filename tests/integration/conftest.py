"""Real containerd for the tests that need pods; without it they are skipped and say what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import programs
from testbed.containerd import Containerd, containerd


@pytest.fixture(scope="session")
def _pods_possible() -> None:
    missing = [name for name in ("containerd", "ctr", "runc", "gcc") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; tools/install installs them")


@pytest.fixture(scope="session")
def runtime(_pods_possible: None) -> Iterator[Containerd]:
    """Return a running containerd that all tests share: don't stop it."""
    with containerd() as started:
        yield started


@pytest.fixture
def own_runtime(_pods_possible: None) -> Iterator[Containerd]:
    """Return a running containerd of the test's own, which it may stop."""
    with containerd() as started:
        yield started


@pytest.fixture(scope="session")
def crash_program(_pods_possible: None) -> Path:
    """Return the executable of testbed/programs/crash.c, whose head says what it can do."""
    return programs.program("crash")


@pytest.fixture(scope="session")
def crash_image(runtime: Containerd, crash_program: Path) -> str:
    """Return the crash program's image in the shared runtime."""
    return runtime.add_image(crash_program)
