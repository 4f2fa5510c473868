"""However `make demo` ends, core_pattern is what it was and nothing of it runs on.

That it shows what it promises is .ci/run's to see: it runs the whole demo.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from demo.place import RUNTIME, WORK
from demo.stage import PROGRAMS
from testbed.kernel import core_settings

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]
DEADLINE = 120


@contextmanager
def demo(environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; `tools/install demo` installs them")
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def read_settings_at_rest() -> dict[Path, bytes]:
    """Return the core settings while no test or demo has changed them."""
    with core_settings() as settings:
        return settings


def guard_of(demo_id: int) -> int:
    """Return the process id of a demo's guard."""
    children = Path(f"/proc/{demo_id}/task/{demo_id}/children").read_text().split()
    (guard,) = (pid for pid in children if b"\0run\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return int(guard)


def read_until(output: IO[str], text: str) -> str:
    """Return the lines up to the one with this text; the demo itself has deadlines for all it does."""
    seen = []
    for line in output:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"the demo never said {text!r}:\n{''.join(seen)}")


def assert_as_before(before: dict[Path, bytes], output: str) -> None:
    """See that the core settings are what they were, and that nothing is left that the demo spoke of."""
    with core_settings() as settings:  # no other demo runs meanwhile
        assert settings == before
        assert left(output) == []


def left(output: str) -> list[str]:
    """Return which of the demo's directories are there, and what runs with one among its arguments."""
    directories = [str(RUNTIME), *re.findall(r"/run/coredump-guard-pods-\w+", output)]
    found = [path for path in directories if Path(path).exists()]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes()
        except OSError:
            continue
        if any(path.encode() in arguments for path in [*directories, str(WORK)]):
            found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("start containerd", signal.SIGINT),
        ("start the guard", signal.SIGTERM),
        ("arm core_pattern", signal.SIGINT),
        ("arm core_pattern", signal.SIGHUP),
        ("crashes", signal.SIGTERM),
    ],
)
def test_interrupted(moment: str, number: signal.Signals) -> None:
    before = read_settings_at_rest()
    with demo() as process:
        assert process.stdout is not None
        output = read_until(process.stdout, moment)
        os.killpg(process.pid, number)
        output += process.stdout.read()
        assert process.wait(DEADLINE) == 130, output
    assert_as_before(before, output)
    assert f"Interrupted by {number.name}" in output


def test_guard_that_dies() -> None:
    before = read_settings_at_rest()
    with demo() as process:
        assert process.stdout is not None
        output = read_until(process.stdout, "arm core_pattern")
        os.kill(guard_of(process.pid), signal.SIGKILL)
        output += process.stdout.read()
        assert process.wait(DEADLINE) == 1, output
    assert "FAILED: wait for the endpoint" in output
    assert "guard.log" in output
    assert_as_before(before, output)


def test_killed_demo_is_put_right_by_the_next() -> None:
    before = read_settings_at_rest()
    with demo() as process:
        assert process.stdout is not None
        killed = read_until(process.stdout, "arm core_pattern")
        process.kill()
        process.wait(DEADLINE)
    with demo() as process:
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output
    assert_as_before(before, killed + output)
