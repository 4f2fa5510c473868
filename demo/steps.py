"""How the demo tells what it does: one line a step with its time, and on failure what to do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TAIL = 15
"""Lines of a log that a failure shows."""
WIDTH = 300
"""Characters of each such line: containerd's can be pages long."""
INDENT = " " * 11


class StepError(Exception):
    """A step that failed: what it was, why, what to do, and the end of the log that may say more."""

    def __init__(self, what: str, why: Exception, remedy: str, log: Path | None) -> None:
        super().__init__(f"{what}: {why}")
        self._text = f"\nFAILED: {what}\n  {why}\n  What to do: {remedy}."
        if log is not None and log.exists():  # read now: some logs go when things are put back
            lines = [line[:WIDTH] for line in log.read_text(errors="replace").splitlines()[-TAIL:]]
            self._text += "".join(f"\n{INDENT}{line}" for line in [f"The end of {log}:", *lines])

    def show(self) -> None:
        """Print it, after the failure it followed, if putting things back failed too."""
        earlier = self.__context__
        while earlier is not None and not isinstance(earlier, StepError):
            earlier = earlier.__context__
        if earlier is not None:
            earlier.show()
        print(self._text)


@contextmanager
def step(what: str, remedy: str, log: Path | None = None) -> Iterator[list[str]]:
    """Do one step; what is put into the list it yields is told on the step's line.

    Raises StepError for whatever a step can run into.
    """
    details: list[str] = []
    started = time.monotonic()
    try:
        yield details
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        raise StepError(what, error, remedy, log) from error
    print(
        f"{time.monotonic() - started:7.2f} s  {what}{': ' if details else ''}{', '.join(details)}",
        flush=True,
    )


def run(
    command: Sequence[str],
    output: IO[bytes] | None = None,
    directory: Path | None = None,
    seconds: float = 60,
) -> str:
    """Run a command and return what it prints, or have it print into output.

    Raises RuntimeError with its words if it fails, OSError or SubprocessError if it does not start or end.
    """
    done = subprocess.run(
        command,
        check=False,
        cwd=directory,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the demo, which needs some of them to put things back
    )
    words = (done.stdout or b"").decode(errors="replace")
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip() or words.strip()
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n  {error}")
    return words


def show(text: str) -> None:
    """Print a command's output below its step."""
    for line in text.rstrip().splitlines():
        print(f"{INDENT}{line}", flush=True)
