"""Which bytes of which archive an answer carries: all, a Range, or the part that the query names.

Not here: what the query says (selection) and making the archive (its plan is asked for here).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response
from werkzeug.datastructures import Range

from coredump_shim.archive import Plan
from coredump_shim.etag import ETag
from coredump_shim.selection import Selection
from coredump_shim.status import ApiError, bad_request

Planning = Callable[[Selection], Plan]
"""Makes the archive of a selection, or raises ApiError."""


@dataclass(frozen=True)
class Part:
    """Bytes start to stop of an archive; `code` is HTTP's."""

    plan: Plan
    start: int
    stop: int
    code: int


class RangeError(ApiError):
    """416: nothing of the archive is asked for; the answer says how long it is."""

    def __init__(self, parameter: str, length: int) -> None:
        super().__init__(416, f"{parameter}: begins at or behind the archive's end, at {length} bytes")
        self.length = length

    def response(self) -> Response:
        """Return the HTTP response, with the header from which `curl -C -` sees that it has everything."""
        response = super().response()
        response.headers["Content-Range"] = f"bytes */{self.length}"
        return response


def queried(asked: Selection, planning: Planning) -> Part | None:
    """Return the part that the query names, None if it names none. Raises ApiError 400 or 412, RangeError."""
    if asked.offset is None and asked.length is None and asked.etag is None:
        return None
    if asked.offset and asked.etag is None:
        raise bad_request("etag", "is needed with an offset: the ETag header of the answer to the first part")
    plan = planning(asked) if asked.etag is None else _again(asked, asked.etag, planning)
    if plan is None:
        raise ApiError(
            412,
            "etag: the archive is no longer the one that the first part came from, for instance because a "
            "dump in it was deleted; begin again without etag and offset",
        )
    start = asked.offset or 0
    if start >= plan.length:
        raise RangeError("offset", plan.length)
    stop = plan.length if asked.length is None else min(start + asked.length, plan.length)
    return Part(plan, start, stop, 200)


def ranged(asked: Selection, wanted: Range | None, if_range: str | None, planning: Planning) -> Part:
    """Return what the headers Range and If-Range ask for (RFC 9110), or the whole. Raises RangeError.

    Several ranges at once, which nobody needs here, get the whole archive, as the RFC allows.
    """
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return _whole(planning(asked))
    plan = planning(asked) if if_range is None else _tagged(asked, if_range, planning)
    if plan is None:
        return _whole(planning(asked))
    span = wanted.range_for_length(plan.length)
    if span is None:
        raise RangeError("Range", plan.length)
    return Part(plan, span[0], span[1], 206)


def _whole(plan: Plan) -> Part:
    return Part(plan, 0, plan.length, 200)


def _tagged(asked: Selection, if_range: str, planning: Planning) -> Plan | None:
    try:
        etag = ETag.parse(if_range)
    except ValueError:
        return None
    return _again(asked, etag, planning)


def _again(asked: Selection, etag: ETag, planning: Planning) -> Plan | None:
    """Make the archive with this tag again; None if that cannot be done any more."""
    try:
        plan = planning(asked.at(etag))
    except ApiError as error:
        if error.code != 404:
            raise
        return None
    return plan if plan.etag == etag else None
