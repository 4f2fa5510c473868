"""A program of the cluster: started, stopped, killed, halted; it never outlives the process that started it.

Not here: which programs there are (controlplane, product, node).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from testbed.waiting import wait_for

TOOL = Path(__file__).parents[2] / "tools/kubernetes"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 60
"""How long a program may take to be ready: this machine may be busy with others' runs."""

_running: dict[int, Program] = {}


def running() -> set[int]:
    """Return the ids of the programs that run now, without their children."""
    return set(_running)


def tails(lines: int = 6) -> dict[str, str]:
    """Return the end of the log of each program that runs, by its name."""
    return {each.name: each.tail(lines) for each in _running.values()}


@cache
def built(name: str) -> Path:
    """Return kube-apiserver, kube-controller-manager, kubelet or kubectl, built if the cache lacks it."""
    done = subprocess.run([TOOL], check=True, stdout=subprocess.PIPE, text=True, timeout=3600)
    return Path(done.stdout.strip()) / name


class Program:
    """One program with its log; start() after a stop() or kill() starts it anew."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[], object] = lambda: True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`ready` is asked until it says something true."""
        self.name, self.log = name, log
        self.command = [str(word) for word in command]
        self.environment = dict(environment or {"PATH": PATH})
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id. Raises RuntimeError if it has not been started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready. Raises RuntimeError with the end of its log if it ends."""
        # PR_SET_PDEATHSIG: whatever becomes of us, it dies too. A session of its own: Ctrl-C is for us, who
        # end things in their order.
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self.environment,
            )
        _running[self._process.pid] = self
        try:
            wait_for(f"{self.name} is ready ({self.log})", self._is_ready, SECONDS)
        except BaseException:
            self.kill()
            raise

    def stop(self, seconds: float = 20) -> None:
        """Ask it to end, and wait; what does not end in time is killed."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            self.kill()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            del _running[self._process.pid]
            self._process = None

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Let it be dead, and afterwards start it again."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let it stand still (SIGSTOP), and afterwards go on."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _is_ready(self) -> object:
        if not self.alive():
            code = self._process.returncode if self._process else None
            raise RuntimeError(f"{self.name} ended with status {code}:\n{self.tail()}")
        return self._ready()
