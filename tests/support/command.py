"""The command `coredump-shim serve` as people start it, and kubectl against it.

Not here: dumps to serve (dumps), and a shim whose processes a test looks into (serving).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.ending import end
from testbed.waiting import wait_for

DEADLINE = 30


@contextlib.contextmanager
def serve(store: Path, log: Path, *options: str) -> Iterator[str]:
    """Run the command on a free port; yield its URL; afterwards it is ended."""
    listen = ("serve", "--standalone", "--store", str(store), "--listen", "127.0.0.1:0", *options)
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "coredump_shim", *listen], stderr=stderr)
    try:
        yield wait_for("the shim serves", lambda: _url(process, log), DEADLINE)
    finally:
        end(process, DEADLINE)


def _url(process: subprocess.Popen[bytes], log: Path) -> str | None:
    text = log.read_text()
    if process.poll() is not None:
        raise AssertionError(f"the shim ended: {text}")
    match = re.search(r"serving .* on (http://\S+)", text)
    return match[1] if match else None


@dataclass(frozen=True)
class Kubectl:
    """A kubectl that knows of one server, and of no cluster of its user's."""

    program: Path
    server: str
    cache: Path

    def __call__(self, *arguments: str, code: int = 0, stdin: str | None = None) -> str:
        """Run it, check its exit status and return what it prints: of a failure, the error."""
        done = subprocess.run(
            self.command(*arguments),
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=self.environment,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    def command(self, *arguments: str) -> list[str]:
        """Return the command line."""
        return [str(self.program), f"--server={self.server}", f"--cache-dir={self.cache}", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: no kubeconfig, and an editor that changes an annotation."""
        editor = "sed -i s/before-editing/after-editing/"
        return {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": "/dev/null",
            "HOME": str(self.cache),
            "KUBE_EDITOR": editor,
        }


def kubectls() -> list[Path]:
    """Return the kubectls to test with: that in PATH, and those that $KUBECTLS lists, separated by colons."""
    in_path = (Path(place, "kubectl") for place in os.environ["PATH"].split(":"))
    more = (Path(each) for each in os.environ.get("KUBECTLS", "").split(":") if each)
    first = next((path for path in in_path if os.access(path, os.X_OK)), None)
    return [*([first] if first else []), *more]
