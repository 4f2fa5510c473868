"""However a run ends that held the core settings, the next one finds them as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.kernel import NOTE, SETTINGS, core_settings, read_settings

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
PIPE_LIMIT = SETTINGS[1]
ANOTHER = b"7\n"


def run_and_change(then: str) -> None:
    """Have another process take the settings, change one, and end."""
    code = f"""
import os, signal
from testbed.kernel import *
with core_settings():
    SETTINGS[1].write_bytes({ANOTHER!r})
    {then}
"""
    subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=CHECKOUT, stderr=subprocess.DEVNULL, timeout=60
    )


@pytest.mark.parametrize("then", ["pass", "1 / 0", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_settings_are_what_they_were(then: str) -> None:
    with core_settings() as settings:
        before = dict(settings)
    run_and_change(then)
    with core_settings() as settings:
        assert settings == before
        assert NOTE.exists()


def test_leaves_no_note() -> None:
    with core_settings():
        PIPE_LIMIT.write_bytes(ANOTHER)
    with core_settings() as before:
        assert read_settings() == before
        assert before[PIPE_LIMIT] != ANOTHER
