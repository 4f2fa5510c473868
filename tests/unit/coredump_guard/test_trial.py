"""A trial: whatever the child does, its answer, its error or its silence comes back in time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import pytest

from coredump_guard import trial

from .conftest import descriptors


def test_what_the_child_returns() -> None:
    before = descriptors()
    assert trial.within(30, lambda: {"pid": os.getpid()} != {"pid": 0}) is True
    assert trial.within(30, lambda: ["x" * 100_000]) == ["x" * 100_000]
    assert descriptors() == before


def fail() -> None:
    raise FileNotFoundError(2, "No such file or directory")


def doubt() -> None:
    raise ValueError("not a record")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "said"), [(fail, "No such file or directory"), (doubt, "not a record"), (die, "it died")]
)
def test_what_the_child_fails_at(work: object, said: str) -> None:
    with pytest.raises(OSError, match=said):
        trial.within(30, work)  # type: ignore[arg-type]


def test_a_child_that_hangs_is_given_up_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    real = os.fork

    def fork() -> int:
        children.append(real())
        return children[-1]

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(TimeoutError, match="does not answer"):
        trial.within(0.1, lambda: time.sleep(600))
    with contextlib.suppress(ChildProcessError):  # a busy machine takes longer to end it than we wait
        os.waitpid(children[0], 0)
    assert not os.path.exists(f"/proc/{children[0]}")


def test_the_child_says_nothing_where_we_print(capfd: pytest.CaptureFixture[str]) -> None:
    trial.within(30, lambda: os.write(1, b"noise"))
    assert capfd.readouterr() == ("", "")


def test_a_program_is_started_as_the_kernel_does_it() -> None:
    code = "import os, sys; sys.exit(f'{os.getcwd()} {dict(os.environ)}')"
    said = trial.start([sys.executable, "-I", "-S", "-c", code], 30)
    assert said.startswith("/ {")
    assert "PATH" not in said
    assert trial.start([sys.executable, "-I", "-S", "-c", ""], 30) == ""
    assert trial.start([sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"], 30) == "exit status 3"
    assert "does not end" in trial.start(["/bin/sleep", "600"], 0.1)
    with pytest.raises(FileNotFoundError):
        trial.start(["/nowhere/python"], 30)
