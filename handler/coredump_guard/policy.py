"""The policy: whether a crash's core is kept, only noted, or only counted; decided before it is drained.

In the order of the rules: namespaces, the pod's own wish, the largest core, crash loops, room in the spool.
Not here: how a loop is damped (damping), the spool's bounds (room), and a core that proves too large (drain).
"""

from __future__ import annotations

import contextlib
import threading
from fnmatch import fnmatchcase
from typing import NamedTuple

from coredump_guard import identity, log, loops, tally
from coredump_guard.capture import boot_id
from coredump_guard.config import Config
from coredump_guard.damping import Loop, Pace
from coredump_guard.loops import Loops
from coredump_guard.pattern import Crash
from coredump_guard.record import Identity, Record
from coredump_guard.room import SLACK, Room, group
from coredump_guard.spool import Spool
from coredump_guard.verdict import Verdict

SETTLE_SECONDS = 5.0
"""How far the tallies in the spool and the memory of loops may be behind."""


def refusal(owner: Identity, config: Config) -> str | None:
    """Say which setting speaks against this owner's cores, or None.

    Rules for namespaces are about those that are known: what cannot be named is kept, for root's eyes.
    """
    name = owner.namespace
    denied = next((glob for glob in config.deny if name and fnmatchcase(name, glob)), None)
    if denied is not None:
        return f"[policy] deny = {denied}: no cores of namespace {name} are kept"
    if owner.capture == identity.NEVER:
        return "COREDUMP_CAPTURE = never: the pod's spec wants no cores"
    allowed = not name or owner.capture == identity.ALWAYS or any(fnmatchcase(name, g) for g in config.allow)
    if not allowed:
        wish = "a pod may ask for it with COREDUMP_CAPTURE=always"
        return f"[policy] allow = {' '.join(config.allow)}: namespace {name} is not among them; {wish}"
    return "[policy] largest_core = 0: no cores are kept" if config.largest_core == 0 else None


def loop_name(owner: Identity, executable: str) -> str:
    """Name the crash loop that a crash belongs to; restarts change a container's id, but not its name."""
    if owner.host:
        return f"host {executable}"
    if owner.complete:
        return f"{owner.namespace}/{owner.poduid}/{owner.container}"
    return owner.container_id or owner.poduid


class _Case(NamedTuple):
    """What a tally is begun with."""

    crash: Crash
    owner: Identity
    executable: str


class Policy:
    """The rules with what they have to remember, for several workers at once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pace = Pace(config.loop_newest, config.loop_window)
        self._spool = Spool(config.spool)
        self._room = Room(config)
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._loops = Loops(config.state, boot_id(), config.loop_window)
        self._trouble = ""
        self._dirty = True  # tallies of a guard that died may be behind
        with contextlib.suppress(OSError), loops.locked(config.state):
            self._loops.read()

    def judge(self, crash: Crash, owner: Identity, executable: str, too_large: str = "") -> Verdict:
        """Decide what becomes of a crash; too_large says why its core cannot be kept after all."""
        refused = too_large or refusal(owner, self._config)
        name, now = loop_name(owner, executable), loops.now()
        case = _Case(crash, owner, executable)
        with self._lock:
            self._dirty = True
            loop = self._loops.crashed(name or "unidentified", now)
            if not refused and loop.too_large and not loop.refusals.due(now, self._pace):
                refused = loop.too_large  # most likely it is again
            else:
                loop.too_large = too_large
            if refused:
                return self._note(loop, case, refused)
            # Crashes of which nothing at all is known are no loop: they may be anybody's.
            grant = loop.cores.take(now, self._pace) if name else None
            if name and grant is None:
                return self._count(loop, case, self._damped())
            full = self._room.refusal(group(owner))
            if not full:
                room = self._room.allot(group(owner))
                return Verdict(room=room, loop=loop, ring=loop.cores, grant=grant)
            if grant:
                loop.cores.settle(grant, None)
            return self._note(loop, case, full)

    def _note(self, loop: Loop, case: _Case, refused: str) -> Verdict:
        """Let a refused crash have a record, unless there are enough of them or no room even for that."""
        grant = loop.refusals.take(loops.now(), self._pace)
        if grant and not self._room.refusal(group(case.owner), SLACK):
            return Verdict(refused, loop=loop, ring=loop.refusals, grant=grant)
        if grant:
            loop.refusals.settle(grant, None)
        return self._count(loop, case, refused)

    def _count(self, loop: Loop, case: _Case, reason: str) -> Verdict:
        sentence = f"crash loop: {reason}"
        # Crashes of which nothing is known are not known to be of one program either.
        death = loop.death if loop_name(case.owner, case.executable) else None
        if loop.tally:
            loop.tally = tally.count(loop.tally, case.crash, case.executable, sentence, death)
        else:
            node = self._config.node
            loop.tally = tally.begin(case.crash, case.owner, case.executable, sentence, node, death)
        return Verdict(sentence, loop.tally.id)

    def _damped(self) -> str:
        newest, window = self._pace.newest, self._pace.window
        kept = "its first core is kept"
        if newest:
            kept = f"its first core and the newest {newest} are kept, one in {window / newest:.0f} s"
        return f"{kept}; the rest are counted ([policy] loop_newest = {newest}, loop_window = {window:.0f})"

    def done(self, verdict: Verdict, record: Record | None) -> None:
        """Say what came of a verdict that was not a count: a dump's record, or None for nothing."""
        if verdict.room:
            verdict.room.close()
        with self._lock:
            self._dirty = True
            if verdict.ring and verdict.grant:
                verdict.ring.settle(verdict.grant, record.id if record else None)
            if verdict.loop and record:
                verdict.loop.learn(record)

    def settle(self) -> None:
        """Write down what is new: the tallies into the spool, the loops into the state directory.

        To be called every SETTLE_SECONDS and at the end. What cannot be written now is tried the next time.
        """
        with self._settling:
            try:
                if self._dirty:
                    with loops.locked(self._config.state):
                        self._write()
                self._trouble = ""
            except OSError as error:
                if str(error) != self._trouble:
                    log.warning("crash loops cannot be written down", state=self._config.state, error=error)
                self._trouble = str(error)

    def _write(self) -> None:
        with self._lock:
            self._loops.read()
            untold = [(loop, loop.tally) for loop in self._loops.untold() if loop.tally]
        trouble: OSError | None = None
        for loop, record in untold:
            try:
                self._spool.rewrite(record)
                loop.written = record.crashes
            except OSError as error:  # the others, and the memory, may still be written
                trouble = trouble or error
        with self._lock:
            self._loops.expire(loops.now())
            self._loops.write()
            self._dirty = bool(self._loops.untold())
        if trouble:
            raise trouble
