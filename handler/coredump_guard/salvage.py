"""Salvage: what a capture that was cut off has left becomes a dump that says so.

Whatever moment its writer died at: what has arrived is kept, and never shown as whole. Not here: which drafts
those are (spool).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from coredump_guard import deflate, log, store
from coredump_guard.drain import Deflated
from coredump_guard.record import Core, Record, RecordError
from coredump_guard.spool import Draft, Spool

CUT_OFF = "the capture was cut off when its guard died"
_NEW = ".new"
_STEP = 4096
"""Bytes that are inflated at once: what a damaged step holds is lost."""


def salvage(spool: Spool, dump_id: str) -> Record | None:
    """Bring a draft whose writer died to the dumps that wait; None, and it is removed, if it has no record.

    Raises OSError: BlockingIOError if its writer lives.
    """
    try:
        with spool.adopt(dump_id) as draft:
            record = _salvaged(draft, dump_id)
    except RecordError as error:
        spool.discard(dump_id)
        log.warning("a capture was cut off before anything was known", dump=dump_id, reason=error)
        return None
    log.warning(
        "a capture was cut off", dump=dump_id, bytes=record.core.bytes, truncated=record.core.truncated
    )
    return record


def _salvaged(draft: Draft, dump_id: str) -> Record:
    record = _record(draft, dump_id)
    for name in draft.names - {store.INFO, store.CORE, store.RAW_CORE, *record.files}:
        draft.unlink(name)  # also what an attempt before this one has left
    if record.refused is None:
        record = replace(record, core=_core(draft, record.core))
    draft.write(store.INFO + _NEW, record.to_json().encode())
    draft.rename(store.INFO + _NEW, store.INFO)
    return record


def _record(draft: Draft, dump_id: str) -> Record:
    try:
        with os.fdopen(draft.open(store.INFO), "rb") as file:
            record = Record.from_json(file.read())
    except FileNotFoundError as error:
        raise RecordError(str(error)) from None
    if record.id != dump_id:
        raise RecordError(f"its record is that of {record.id}")
    return record


def _core(draft: Draft, known: Core) -> Core:
    """Return what there is of the core, and see that its file is valid."""
    if store.RAW_CORE in draft.names:
        size = stored = _size(draft, store.RAW_CORE)
    elif store.CORE in draft.names and (whole := _measured(draft)) is not None:
        size, stored = whole, _size(draft, store.CORE)
    else:
        size, stored = _mended(draft)
    cut = known.truncated if known.bytes == size else CUT_OFF
    return Core(size, stored, cut)


def _size(draft: Draft, name: str) -> int:
    with os.fdopen(draft.open(name), "rb") as file:
        return os.fstat(file.fileno()).st_size


def _measured(draft: Draft) -> int | None:
    """Return the size of a core whose file is a valid one, or None."""
    with os.fdopen(draft.open(store.CORE), "rb") as file:
        inflated = _Inflated(file, deflate.PIECE)
        size = sum(map(len, inflated))
        return size if inflated.whole else None


def _mended(draft: Draft) -> tuple[int, int]:
    """Store anew what can be inflated: a kill or the machine's end may tear the last piece."""
    crc = size = 0
    out = draft.create(store.CORE + _NEW)
    try:
        sink = Deflated(out)
        for piece in _pieces(draft) if store.CORE in draft.names else ():
            crc, size = deflate.crc32(piece, crc), size + len(piece)
            sink.append(sink.pack(memoryview(piece)), size, crc)
        size, stored = sink.close()
    finally:
        os.close(out)
    draft.rename(store.CORE + _NEW, store.CORE)
    return size, stored


def _pieces(draft: Draft) -> Iterator[bytes]:
    piece = bytearray()
    with os.fdopen(draft.open(store.CORE), "rb") as file:
        for part in _Inflated(file, _STEP):
            piece += part
            if len(piece) >= deflate.PIECE:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


class _Inflated:
    """The parts of a stored core, up to where it is torn; `whole` says afterwards that it was not."""

    def __init__(self, file: BinaryIO, step: int) -> None:
        self._file, self._step = file, step
        self.whole = False

    def __iter__(self) -> Iterator[bytes]:
        inflate = deflate.decompressobj(31)
        while data := self._file.read(self._step):
            while data:
                try:
                    part = inflate.decompress(data, deflate.PIECE)
                except deflate.error:
                    return
                if part:
                    yield part
                data = inflate.unconsumed_tail
        self.whole = bool(inflate.eof) and not inflate.unused_data
