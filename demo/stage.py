"""What has to stand while the story is told: containerd, guard, shim, core_pattern.

Each is put away afterwards, whatever happened. Not here: what the demo shows (story)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from demo.place import RUNTIME, Place, new_place
from demo.service import service, wait_for_service
from demo.steps import run, step
from testbed.containerd import Containerd, containerd
from testbed.kernel import LOCK, SETTINGS, core_settings, read_settings

PROGRAMS = ("containerd", "ctr", "runc", "gcc", "gdb", "kubectl", "setpriv", "sha256sum", "tar")
WHAT_IT_SAYS = "the end of its log, below, says why"


def check_machine() -> None:
    """See that everything the demo needs is there."""
    with step("look at the machine", "run `make demo` as root, which installs what is missing") as details:
        if os.geteuid() != 0:
            raise RuntimeError("containers and core_pattern need root")
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise RuntimeError(f"missing: {', '.join(missing)}")
        details += [f"Linux {os.uname().release}", f"Python {sys.version.split()[0]}"]


@dataclass(frozen=True)
class Stage:
    """What stands: where the files are, the runtime for pods, the guard's process."""

    place: Place
    runtime: Containerd
    guard: subprocess.Popen[bytes]


@contextmanager
def stage() -> Iterator[Stage]:
    """Set everything up, and put it away afterwards."""
    with ExitStack() as stack:
        with step("hold the core settings", f"wait for the run that holds {LOCK}, or end it") as details:
            before = stack.enter_context(core_settings(seconds=300))
            details.append(f"core_pattern is {_text(before[SETTINGS[0]])!r}")
        place = new_place()
        with step("start containerd", "`tools/install demo` installs Debian's") as details:
            runtime = stack.enter_context(containerd())
            details.append(str(runtime.state))
        stack.callback(shutil.rmtree, RUNTIME, ignore_errors=True)
        with step("start the guard", WHAT_IT_SAYS, place.guard_log):
            guard = stack.enter_context(service(place.guard("run"), place.guard_log))
            wait_for_service(guard, "the guard listens", lambda: " ready" in place.guard_log.read_text())
        with step("start the stand-alone shim", WHAT_IT_SAYS, place.shim_log) as details:
            shim = stack.enter_context(service(place.shim, place.shim_log))
            wait_for_service(shim, "the shim answers", lambda: answers(f"{place.server}/healthz"))
            details.append(place.server)
        stack.enter_context(_armed(place))
        yield Stage(place, runtime, guard)


def answers(address: str) -> bool:
    """Whether a GET of this address succeeds."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):  # noqa: S310  our own http://
        return True
    return False


@contextmanager
def _armed(place: Place) -> Iterator[None]:
    before = read_settings()
    try:
        with step("arm core_pattern", WHAT_IT_SAYS, place.guard_log) as details:
            run(place.guard("arm"))
            details.append(_text(SETTINGS[0].read_bytes()))
        yield
    finally:
        with step("put core_pattern back", WHAT_IT_SAYS, place.guard_log) as details:
            run(place.guard("disarm"))
            after = read_settings()
            if after != before:
                raise RuntimeError(f"it was {before}, and is now {after}")
            details.append(f"{_text(after[SETTINGS[0]])!r}")


def _text(setting: bytes) -> str:
    return setting.decode(errors="replace").strip()
