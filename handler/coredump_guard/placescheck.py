"""The doctor's checks of the places where dumps lie, and of the clock that names them.

Whatever may hang is tried in a child. Not here: what a delivery does (deliver).
"""

from __future__ import annotations

import calendar
import contextlib
import os
import time

from coredump_guard import deliver, log, machine, mount, store, tree, trial
from coredump_guard.config import UNLIMITED, Config
from coredump_guard.finding import Finding, fail, ok, warning
from coredump_guard.room import Room
from coredump_guard.spool import Spool
from coredump_guard.words import counted, size

PATIENCE = 5.0
"""Seconds that spool and store may take to answer."""
OLD = 900.0
"""Seconds that a dump may wait for delivery without being mentioned."""
NEARLY_FULL = 90
"""Per cent of the spool's bound."""
SANE = (2026, 2100)
"""Years in which this may run."""
_PROBE = ".doctor"


def spool(config: Config) -> Finding:
    """Check that the spool takes files."""
    check = "spool"
    if not os.path.isdir(config.spool):
        return warning(check, f"{config.spool} is not there yet", "start the guard, which makes it")
    try:
        trial.within(PATIENCE, lambda: _write(config.spool))
    except OSError as error:
        return fail(
            check, f"{config.spool} takes no file: {error}", "mend it, or choose another [guard] spool"
        )
    return ok(check, f"{config.spool} takes files")


def _write(directory: str) -> None:
    path = f"{directory}/{_PROBE}-{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"x" * 4096)
        os.fsync(fd)
    finally:
        os.close(fd)
        os.unlink(path)


def room(config: Config) -> Finding:
    """Check that a core finds room in the spool."""
    full = Room(config).refusal(store.UNIDENTIFIED)
    remedy = "see why the store takes nothing, or change that setting"
    if full:
        return fail("room", full, remedy)
    with contextlib.suppress(FileNotFoundError):
        used = Spool(config.spool).usage()
        if config.spool_size != UNLIMITED and used * 100 >= config.spool_size * NEARLY_FULL:
            found = f"{size(used)} of [spool] size = {size(config.spool_size)} are taken"
            return warning("room", found, remedy)
    return ok("room", "for another core")


def waiting(config: Config) -> Finding:
    """Check that dumps do not wait for long."""
    try:
        pending = Spool(config.spool).pending()
    except FileNotFoundError:
        pending = []
    if not pending:
        return ok("waiting", "nothing")
    found = f"{counted(len(pending), 'dump')}, the oldest {pending[0]}"
    if time.time() - crash_time(pending[0]) > OLD:
        return warning("waiting", found, "coredump-guard status says why they are not delivered")
    return ok("waiting", found)


def crash_time(dump_id: str) -> float:
    """Return when the crash was by whose time a dump is named, in seconds since the epoch."""
    return calendar.timegm(time.strptime(dump_id[:16], "%Y%m%dT%H%M%SZ"))


def reachable(config: Config) -> Finding:
    """Check that the store takes files as deliveries bring them, and that nobody else goes by our name."""
    wait = "dumps wait in the spool; is it mounted, and may this node write there?"
    try:
        others = trial.within(PATIENCE, lambda: _bring(config))
    except TimeoutError:
        return warning("store", f"{config.store} does not answer within {PATIENCE:g} s", wait)
    except OSError as error:
        found = str(error)
        return warning("store", found if config.store in found else f"{config.store}: {found}", wait)
    if others:
        found = f"other machines deliver as {config.node}: {', '.join(map(log.safe, others))}"
        return warning("store", found, "give each machine a name of its own, [guard] node")
    return ok("store", f"{config.store} takes files")


def _bring(config: Config) -> list[str]:
    """Bring a file as a delivery does, and return who else does so by our name; raises OSError."""
    names = store.incoming(config.node, machine.identifier(config.state)).split("/")
    mounted = mount.mounted(config.store, config.state)
    with mounted as root, tree.entered(root, names, config.group) as drafts:
        tree.write(drafts, _PROBE, b"x" * 4096, config.group)
        tree.remove(drafts, _PROBE)
    return deliver.namesakes(config)


def clock(config: Config, now: float | None = None) -> Finding:
    """Check that the clock, by which dumps are named and removed, is not far off."""
    now = time.time() if now is None else now
    remedy = "set the clock: timedatectl, chronyc tracking"
    year = time.gmtime(now).tm_year
    if not SANE[0] <= year <= SANE[1]:
        return warning("clock", f"the year is {year}", remedy)
    with contextlib.suppress(FileNotFoundError):
        newest = max(Spool(config.spool).pending(), default="")
        if newest and crash_time(newest) > now + 60:
            return warning("clock", f"{newest} is of the future", remedy)
    return ok("clock", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))
