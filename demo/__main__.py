"""`make demo`: a process in a real containerd pod dies, and `kubectl get --raw …/dump` returns its core.

Not here: installing what that needs (tools/install).
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from demo import story
from demo.stage import check_machine, stage
from demo.steps import StepError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """One of INTERRUPTS came; no Exception, so that nothing takes it for a step's failure."""


def main() -> int:
    """Run the demo; returns the exit status."""
    started = time.monotonic()
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    try:
        check_machine()
        with stage() as standing:
            program = story.crash(standing.runtime)
            story.look(standing)
            story.fetch(standing.place)
            story.backtrace(program, story.unpack(standing.place))
    except StepError as failure:
        failure.show()
        return 1
    except Interrupted as interrupted:
        print(f"\nInterrupted by {interrupted}: what was started has ended, and core_pattern is what it was.")
        return 130
    print(f"{time.monotonic() - started:7.2f} s  in all; the dump is in {standing.place.unpacked}")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Unwind, once: putting things back is not to be interrupted."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


sys.exit(main())
