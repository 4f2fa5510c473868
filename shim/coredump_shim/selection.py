"""Which dumps, and which bytes of their archive, a request's query asks for.

Not here: finding dumps (catalog) and making the archive (archive).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coredump_guard import store
from coredump_shim import rfc3339
from coredump_shim.catalog import Dump, crash_time
from coredump_shim.etag import ETag
from coredump_shim.status import ApiError, bad_request, not_found, shown

_NUMBER = re.compile(r"[0-9]{1,18}\Z")
SHOWN = 5
"""How many of the dumps that there are an error names."""


@dataclass(frozen=True)
class Selection:
    """A query, parsed. None and False stand for what it does not mention."""

    container: str | None = None
    id: str | None = None
    since: int | None = None
    """Only crashes at this time or later, in microseconds since the epoch."""
    latest: bool = False
    """Only the newest of what the others leave."""
    poduid: str | None = None
    """An earlier pod of this name."""
    offset: int | None = None
    length: int | None = None
    etag: ETag | None = None

    def at(self, etag: ETag) -> Selection:
        """Return the same, asked at the time of an archive that there was."""
        return dataclasses.replace(self, etag=etag)

    def choose(self, dumps: Sequence[Dump]) -> Sequence[Dump]:
        """Return those of a pod's dumps, sorted by id, that are asked for.

        Raises ApiError 404, with what there is instead, if that is none.
        """
        if self.etag is not None:
            dumps = [dump for dump in dumps if dump.arrived <= self.etag.cutoff]
        if not dumps:
            raise not_found("there are no dumps of this pod")
        dumps = _narrow(dumps, self.container, lambda dump: dump.container, "container")
        dumps = _narrow(dumps, self.id, lambda dump: dump.id, "id")
        # A tally changes with every crash of its loop and spoils downloads: it is there if nothing else is.
        dumps = [dump for dump in dumps if not dump.is_tally] or dumps
        if self.since is not None:
            dumps = _since(dumps, self.since)
        return [_newest(dumps)] if self.latest else dumps


def parse(query: Iterable[tuple[str, str]]) -> Selection:
    """Read a query's parameters. Raises ApiError 400 naming the parameter that is wrong."""
    values: dict[str, object] = {}
    for name, text in query:
        if name not in _PARAMETERS:
            known = ", ".join(_PARAMETERS)
            raise ApiError(400, f"there is no parameter {shown(name)}; there are {known}")
        if name in values:
            raise bad_request(name, "is given more than once")
        try:
            values[name] = _PARAMETERS[name](text)
        except ValueError as error:
            raise bad_request(name, f"{shown(text)} {error}") from None
    return Selection(**values)  # type: ignore[arg-type]


def _newest(dumps: Sequence[Dump]) -> Dump:
    """Return the last crash. Not the last id: within a second, ids sort by the executable's name."""
    return max(dumps, key=lambda dump: (crash_time(dump), dump.arrived, dump.id))


def _since(dumps: Sequence[Dump], since: int) -> Sequence[Dump]:
    chosen = [dump for dump in dumps if crash_time(dump) >= since]
    if not chosen:
        raise not_found(f"since: there is no dump since then; the newest is {_newest(dumps).id}")
    return chosen


def _narrow(
    dumps: Sequence[Dump], wanted: str | None, value: Callable[[Dump], str], parameter: str
) -> Sequence[Dump]:
    if wanted is None:
        return dumps
    chosen = [dump for dump in dumps if value(dump) == wanted]
    if not chosen:
        there = sorted({value(dump) for dump in dumps}, reverse=True)
        listed = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
        raise not_found(f"{parameter}: there is no dump of {shown(wanted)}; there is {listed}")
    return chosen


def _named(is_valid: Callable[[str], bool], what: str) -> Callable[[str], str]:
    def parse_name(text: str) -> str:
        if not is_valid(text):
            raise ValueError(f"is not {what}")
        return text

    return parse_name


def _true(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text == "true"


def _count(text: str) -> int:
    if _NUMBER.match(text) is None:
        raise ValueError("is not a number of bytes")
    return int(text)


def _positive(text: str) -> int:
    count = _count(text)
    if not count:
        raise ValueError("is not a number of bytes above 0")
    return count


_PARAMETERS: dict[str, Callable[[str], object]] = {
    "container": _named(store.is_container, "the name of a container"),
    "id": _named(store.is_dump_id, "the id of a dump"),
    "since": rfc3339.microseconds,
    "latest": _true,
    "poduid": _named(store.is_poduid, "the UID of a pod"),
    "offset": _count,
    "length": _positive,
    "etag": ETag.parse,
}
