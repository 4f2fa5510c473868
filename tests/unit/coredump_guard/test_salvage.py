"""What a capture that was cut off has left: kept, valid, and never shown as whole."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import deflate, store
from coredump_guard.config import Config
from coredump_guard.deliver import deliver
from coredump_guard.record import Core, Record
from coredump_guard.salvage import CUT_OFF, salvage
from coredump_guard.spool import Spool

from .conftest import Spooled

CORE = os.urandom(1 << 20) + bytes(1 << 20) + b"end" * 1000

compressed = pytest.mark.skipif(not deflate.FAST, reason="cores are raw without isal")


@contextmanager
def cut_off(spool: Spool, record: Record) -> Iterator[Path]:
    """Yield the directory of a dump that stands where a capture left it when its writer died."""
    draft = Path(spool.root, "incoming", record.id)
    os.rename(spool.path(record.id), draft)
    yield draft


def provisional(draft: Path, record: Record) -> Record:
    """Let the record be the one that stands there before the core is."""
    early = replace(record, core=Core(0, 0, CUT_OFF))
    (draft / store.INFO).write_text(early.to_json())
    return early


def core_of(spool: Spool, record: Record) -> bytes:
    return gzip.decompress(Path(spool.path(record.id), store.CORE).read_bytes())


def salvaged(spool: Spool, record: Record) -> Record:
    """Salvage the one dump and see that it waits, whole in itself."""
    assert spool.abandoned() == [record.id]
    found = salvage(spool, record.id)
    assert found is not None
    assert spool.pending() == [record.id]
    assert spool.abandoned() == os.listdir(f"{spool.root}/incoming") == []
    assert spool.record(record.id) == found
    return found


def test_a_core_that_was_being_drained(spool: Spool, spooled: Spooled, config: Config) -> None:
    record = spooled(CORE)
    with cut_off(spool, record) as draft:
        provisional(draft, record)
    found = salvaged(spool, record)
    assert (found.core.bytes, found.core.truncated) == (len(CORE), CUT_OFF)
    assert core_of(spool, record) == CORE
    assert delivered(spool, record, config).core.truncated == CUT_OFF


def test_a_dump_that_was_whole_already_stays_so(spool: Spool, spooled: Spooled) -> None:
    record = spooled(CORE)
    with cut_off(spool, record):
        pass
    assert salvaged(spool, record) == record


def delivered(spool: Spool, record: Record, config: Config) -> Record:
    """Deliver the dump, which verifies it, and return the record that the store has of it."""
    os.makedirs(config.state)
    deliver(spool, record.id, config)
    assert spool.pending() == []
    path = Path(config.store, store.directory(record.identity, record.node), record.id)
    return Record.from_json((path / store.INFO).read_bytes())


ENDS = [0, 1, 9, 10, 19, 20, 100, 1 << 20, (1 << 20) + 200, -1000, -11, -10, -9, -1]


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_torn_file_is_mended_up_to_the_tear(
    spool: Spool, spooled: Spooled, config: Config, end: int, final: bool
) -> None:
    """A kill in mid-write leaves part of a piece; the machine's end may leave less than was written."""
    record = spooled(CORE)
    with cut_off(spool, record) as draft:
        if not final:
            provisional(draft, record)
        whole = (draft / store.CORE).read_bytes()
        (draft / store.CORE).write_bytes(whole[:end])
    found = salvaged(spool, record)
    core = core_of(spool, record)
    assert found.core.bytes == len(core)
    assert core == CORE[: len(core)]
    assert (found.core.truncated is None) == (final and len(core) == len(CORE))
    assert len(core) >= min(len(CORE), len(whole[:end]) - 5000)
    delivered(spool, record, config)


def test_a_tail_of_zeros_is_no_core(spool: Spool, spooled: Spooled) -> None:
    """What a file system may leave where data was not on disk yet."""
    record = spooled(CORE)
    with cut_off(spool, record) as draft:
        provisional(draft, record)
        whole = (draft / store.CORE).read_bytes()
        (draft / store.CORE).write_bytes(whole[: 1 << 19] + bytes(1 << 19))
    salvaged(spool, record)
    core = core_of(spool, record)
    assert core == CORE[: len(core)]
    assert len(core) >= (1 << 19) - 5000


def test_no_core_yet(spool: Spool, spooled: Spooled, config: Config) -> None:
    record = spooled(CORE)
    with cut_off(spool, record) as draft:
        provisional(draft, record)
        (draft / store.CORE).unlink()
    assert salvaged(spool, record).core.truncated == CUT_OFF
    assert core_of(spool, record) == b""
    delivered(spool, record, config)


def test_a_raw_core(spool: Spool, spooled: Spooled, config: Config) -> None:
    record = spooled(CORE, raw=True)
    with cut_off(spool, record) as draft:
        provisional(draft, record)
        os.truncate(draft / store.RAW_CORE, 5000)
    assert salvaged(spool, record).core == Core(5000, 5000, CUT_OFF)
    assert delivered(spool, record, config).core.bytes == 5000


def test_a_refused_crash_has_no_core(spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    with cut_off(spool, record) as draft:
        refused = replace(record, core=Core(0, 0), refused="[policy] largest_core = 0: no cores are kept")
        (draft / store.INFO).write_text(refused.to_json())
        (draft / store.CORE).unlink()
    assert salvaged(spool, record) == refused
    assert sorted(os.listdir(spool.path(record.id))) == [store.INFO, "maps"]


def test_what_the_record_does_not_name_goes(spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    with cut_off(spool, record) as draft:
        for name in ("info.json.new", "core.gz.new", "half"):
            (draft / name).write_bytes(b"x")
    salvaged(spool, record)
    assert sorted(os.listdir(spool.path(record.id))) == [store.CORE, store.INFO, "maps"]


@pytest.mark.parametrize("text", [None, "", "{", '{"schema": 1}', "another's"])
def test_what_has_no_record_is_removed_and_logged(
    spool: Spool, spooled: Spooled, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    record = spooled()
    with cut_off(spool, record) as draft:
        (draft / store.INFO).unlink()
        if text == "another's":
            text = replace(record, id="20231114T221320Z-app-1-00000000").to_json()
        if text is not None:
            (draft / store.INFO).write_text(text)
    assert salvage(spool, record.id) is None
    assert spool.pending() == os.listdir(f"{spool.root}/incoming") == []
    assert f"a capture was cut off before anything was known dump={record.id}" in capsys.readouterr().err


def test_a_capture_that_lives_is_left_alone(spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    with spool.draft(f"{record.id[:-8]}00000000") as draft:
        draft.write("maps", b"")
        with pytest.raises(BlockingIOError):
            salvage(spool, f"{record.id[:-8]}00000000")
    assert len(spool.pending()) == 2


@compressed
def test_killed_again_in_the_middle_it_can_be_repeated(
    spool: Spool, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spooled(CORE)
    with cut_off(spool, record) as draft:
        provisional(draft, record)
        os.truncate(draft / store.CORE, 10_000)
    for step in range(1, 9):
        with monkeypatch.context() as patched:
            _die_at(patched, step)
            try:
                salvage(spool, record.id)
            except KeyboardInterrupt:
                assert spool.pending() == []
    assert spool.pending() == [record.id]
    assert len(core_of(spool, record)) > 5000


def _die_at(patched: pytest.MonkeyPatch, step: int) -> None:
    """End everything at a step that changes the disk, as a kill does."""
    left = [step]
    for name in ("rename", "unlink", "pwrite", "fsync"):
        real = getattr(os, name)

        def dying(*arguments: object, _real: object = real, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return _real(*arguments, **named)  # type: ignore[operator]

        patched.setattr(os, name, dying)
