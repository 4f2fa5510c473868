"""`make demo`: a process in a real containerd pod dies, and `kubectl get --raw …/dump` returns its core.

Not here: installing what that needs (tools/install).
"""

from __future__ import annotations

import sys
import time

from demo import interrupts, story
from demo.stage import check_machine, stage
from demo.steps import StepError


def main() -> int:
    """Run the demo; returns the exit status."""
    started = time.monotonic()
    interrupts.install()
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
    except interrupts.Interrupted as interrupted:
        print(f"\nInterrupted by {interrupted}: what was started has ended, and core_pattern is what it was.")
        return 130
    print(f"{time.monotonic() - started:7.2f} s  in all; the dump is in {standing.place.unpacked}")
    return 0


sys.exit(main())
