"""This machine as a throw-away: what commands change in its files, users and processes ends with it.

Not here: the network, which is the caller's thread's; and core_pattern, of which there is one.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed.cluster.program import Program
from testbed.waiting import wait_for

# An overlay of the whole root: the lower files are ours, every change goes into memory. Directories that have
# file systems of their own are not part of it; those that are wanted are put in by hand.
_BEGIN = """
set -eu
top=$1
shift
mount -t tmpfs tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
mount --rbind /dev "$top/root/dev"
mount -t proc proc "$top/root/proc"
mount -t tmpfs tmpfs "$top/root/run"
for shared; do
    mkdir -p "$top/root$shared"
    mount --bind "$shared" "$top/root$shared"
done
touch "$top/root/run/begun"
# As a first process must, bash waits for whoever ends and has nobody else to wait for it.
exec chroot "$top/root" bash -c 'sleep infinity & wait'
"""


@contextlib.contextmanager
def sandbox(directory: Path, shared: list[Path]) -> Iterator[Sandbox]:
    """Have such a machine, with directories of ours that it sees as they are; its own are in `directory`."""
    top = directory / "sandbox"
    top.mkdir()
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    program = Program(
        "sandbox", [*namespaces, "bash", "-c", _BEGIN, "bash", top, *shared], directory / "sandbox.log"
    )
    try:
        program.start()
        yield Sandbox(program)
    finally:
        program.kill()


class Sandbox:
    """One that runs; sandbox() makes one."""

    def __init__(self, program: Program) -> None:
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        self._first = wait_for("the sandbox's first process", lambda: children.read_text().strip())
        wait_for("the sandbox has begun", (self.root / "run/begun").exists)

    @property
    def root(self) -> Path:
        """Where its files are to be found from outside."""
        return Path(f"/proc/{self._first}/root")

    def run(self, commands: str, environment: Mapping[str, str], seconds: float = 60) -> str:
        """Run commands by bash, in a shell that ends at the first failure, and return what they print.

        Raises AssertionError. What they leave in the background goes on.
        """
        # Not a pipe: what goes on in the background may hold it for ever.
        inside = ["nsenter", "--target", self._first, "--mount", "--pid", "--root", "--wd"]
        done = subprocess.run(
            [*inside, "bash", "-euo", "pipefail", "-c", commands],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment),
            timeout=seconds,
        )
        assert done.returncode == 0, f"exit {done.returncode} of\n{commands}\n{done.stdout}"
        return done.stdout
