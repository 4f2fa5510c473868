"""A crash loop: of which crashes a core is kept, and which are only counted. Pure decisions.

Not here: which crashes are one loop, and where that is remembered (loops).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from coredump_guard.record import Record


@dataclass(frozen=True)
class Pace:
    """How much of a loop is kept: the first, and the newest so many, one in window / newest seconds."""

    newest: int
    window: float


@dataclass(frozen=True)
class Grant:
    """Leave to keep one more dump, in the place of another one if there are enough."""

    replaces: str | None = None


@dataclass
class Ring:
    """What is kept of a loop: the ids of its first dump and of its newest."""

    kept: list[str] = field(default_factory=list)
    at: float = 0.0
    """When leave was last given, in seconds since boot."""
    open: int = 0
    """How many leaves wait to be settled."""

    def due(self, now: float, pace: Pace) -> bool:
        """Whether leave would be given."""
        if self._is_open(pace):
            return True
        return pace.newest > 0 and now - self.at >= pace.window / pace.newest and len(self.kept) > 1

    def _is_open(self, pace: Pace) -> bool:
        return len(self.kept) + self.open <= pace.newest

    def take(self, now: float, pace: Pace) -> Grant | None:
        """Give leave to keep one more, or None; every leave is to be settled."""
        if not self.due(now, pace):
            return None
        grant = Grant() if self._is_open(pace) else Grant(self.kept.pop(1))
        self.open += 1
        self.at = now
        return grant

    def settle(self, grant: Grant, dump_id: str | None) -> None:
        """Say which dump came of a leave; None: of nothing, and what it would have replaced stays."""
        self.open -= 1
        if dump_id is not None:
            self.kept.append(dump_id)
        elif grant.replaces is not None:
            self.kept.insert(1, grant.replaces)


@dataclass(frozen=True)
class Death:
    """How the process of a loop's last dump died: the socket announces less than that of a crash."""

    executable: str
    signal: int = 0
    """signal(7); 0 if unknown."""
    uid: int = -1
    gid: int = -1

    @classmethod
    def of(cls, record: Record) -> Death:
        """Return what a dump's record says."""
        process = record.process
        return cls(process.executable, record.signal.number, process.uid, process.gid)


@dataclass
class Loop:
    """One container's crashes."""

    last: float
    """The last crash, in seconds since boot."""
    cores: Ring = field(default_factory=Ring)
    refusals: Ring = field(default_factory=Ring)
    """Records without a core: they never take the place of a core."""
    too_large: str = ""
    """What was said of its last core, if that was too large to be kept."""
    death: Death | None = None
    """That of the last dump whose signal is known."""
    tally: Record | None = None
    """The one record of the crashes that were only counted; its `crashes` says how many."""
    written: int = 0
    """How many of them the spool has been told of."""
    shared: int = 0
    """How many of them the memory on disk held when it was last read or written."""

    @property
    def counted(self) -> int:
        """How many crashes were only counted."""
        return self.tally.crashes if self.tally else 0

    def learn(self, record: Record) -> None:
        """Take from a dump's record what later crashes may not tell."""
        if record.signal.number:
            self.death = Death.of(record)

    def merge(self, other: Loop) -> None:
        """Take over what another process has added to the memory since we last read or wrote it."""
        for ours, theirs in ((self.cores, other.cores), (self.refusals, other.refusals)):
            newest = max(ours.kept, default="")
            ours.kept += [dump for dump in theirs.kept if dump > newest]
        self.last = max(self.last, other.last)
        self.written = min(self.written, other.written)
        self.death = self.death or other.death
        if self.tally and other.tally:
            crashes = other.counted + self.counted - self.shared
            until = max(self.tally.until or "", other.tally.until or "")
            self.tally = replace(other.tally, crashes=crashes, until=until)
        else:
            self.tally = self.tally or other.tally
        self.shared = other.counted

    def to_plain(self) -> dict[str, Any]:
        """Return it for JSON. Leaves are not remembered: they end with the process they were given to."""
        return {
            "last": self.last,
            **{name: {"kept": ring.kept, "at": ring.at} for name, ring in self._rings()},
            "too_large": self.too_large,
            "death": asdict(self.death) if self.death else None,
            "tally": self.tally.to_json() if self.tally else None,
            "written": self.written,
        }

    def _rings(self) -> list[tuple[str, Ring]]:
        return [("cores", self.cores), ("refusals", self.refusals)]

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Loop:
        """Read what `to_plain` made; raises ValueError, TypeError or LookupError if it is anything else."""
        loop = cls(float(values["last"]), too_large=str(values["too_large"]), written=int(values["written"]))
        for name, ring in loop._rings():
            ring.kept = [str(dump) for dump in values[name]["kept"]]
            ring.at = float(values[name]["at"])
        loop.death = _death(values.get("death"))
        loop.tally = Record.from_json(values["tally"]) if values["tally"] else None
        loop.shared = loop.counted
        return loop


def _death(values: dict[str, Any] | None) -> Death | None:
    if not values:  # also what a guard wrote that knew none
        return None
    numbers = (int(values[name]) for name in ("signal", "uid", "gid"))
    return Death(str(values["executable"]), *numbers)
