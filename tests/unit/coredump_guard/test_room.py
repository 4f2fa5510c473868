"""Room in the spool: its size, the disk's free space, each namespace's share, and what is on its way."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import copying, store
from coredump_guard import room as module
from coredump_guard.config import Config
from coredump_guard.drain import Full
from coredump_guard.record import Identity
from coredump_guard.room import LEAST, SLACK, Room, group, usage
from coredump_guard.spool import Spool

from .conftest import IDENTITY, Spooled

MIB = 1 << 20


def room(config: Config, **settings: int) -> Room:
    return Room(replace(config, **settings))  # type: ignore[arg-type]


def waiting(spooled: Spooled, mib: int, when: float = 1_700_000_000, identity: Identity = IDENTITY) -> str:
    """Put a dump into the spool that takes about so much of the disk; what is random stays as large."""
    return spooled(os.urandom(mib * MIB), when=when, identity=identity).id


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (IDENTITY, "demo"),
        (Identity(container_id="c" * 64), store.UNIDENTIFIED),
        (Identity(), store.UNIDENTIFIED),
        (Identity(host=True), store.HOST),
        (Identity("../x", "p", "u", "c"), store.UNIDENTIFIED),
    ],
)
def test_whose_share_it_is(owner: Identity, name: str) -> None:
    assert group(owner) == name


def test_an_empty_spool_has_room(config: Config, spool: Spool) -> None:
    assert room(config).refusal("demo") is None


def test_a_size_that_is_reached_refuses_with_the_figure(config: Config, spooled: Spooled) -> None:
    waiting(spooled, 2)
    used = sum(file.stat().st_blocks * 512 for file in Path(config.spool, "ready").rglob("*.*"))
    full = room(config, spool_size=3 * MIB, spool_share=100)
    said = full.refusal("other")
    assert said is not None
    assert said.startswith(f"[spool] size = {3 * MIB}: ")
    assert abs(int(said.split()[4]) - used) <= 8192
    assert full.refusal("other", slack=SLACK) is None
    assert room(config, spool_size=2 * SLACK).refusal("other") is None


def test_a_namespaces_share_refuses_nobody_else(config: Config, spooled: Spooled) -> None:
    waiting(spooled, 4)
    shared = room(config, spool_size=16 * MIB, spool_share=25)
    said = shared.refusal("demo")
    assert said is not None
    assert said.startswith("[spool] share = 25: dumps of demo ")
    assert shared.refusal("other") is None
    assert shared.refusal(store.HOST) is None


def test_free_space_is_the_disks(config: Config, spool: Spool) -> None:
    disk = os.statvfs(config.spool)
    free = disk.f_bavail * disk.f_frsize
    said = room(config, spool_free=free + 1000 * MIB).refusal("demo")
    assert said is not None
    assert said.startswith(f"[spool] keep_free = {free + 1000 * MIB}: ")
    assert room(config, spool_free=max(0, free - 1000 * MIB)).refusal("demo") is None


def test_what_waits_is_looked_at_once(
    config: Config, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [waiting(spooled, 1, when=1_700_000_000 + number) for number in range(3)]
    known = room(config, spool_size=100 * MIB, spool_share=4)
    said = known.refusal("demo")
    assert said is not None
    monkeypatch.setattr(Spool, "record", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(module, "usage", lambda _: pytest.fail("looked at again"))
    assert known.refusal("demo") == said
    shutil.rmtree(Path(config.spool, "ready", ids[0]))
    assert known.refusal("demo") is None


def test_what_was_delivered_is_room_again(config: Config, spool: Spool, spooled: Spooled) -> None:
    dump_id = waiting(spooled, 2)
    full = room(config, spool_size=3 * MIB, spool_share=100)
    assert full.refusal("demo")
    spool.remove(dump_id)
    assert full.refusal("demo") is None


def test_what_is_set_aside_takes_room_too(config: Config, spool: Spool, spooled: Spooled) -> None:
    spool.set_aside(waiting(spooled, 2))
    assert room(config, spool_size=3 * MIB, spool_share=100).refusal("demo")


def test_executables_that_wait_take_room_and_nobodys_share(config: Config, spool: Spool) -> None:
    directory = Path(config.spool, copying.DIRECTORY)
    directory.mkdir()
    shared = room(config, spool_size=4 * MIB, spool_share=50)
    assert shared.refusal("demo") is None
    (directory / f"abcd.{'0' * 16}").write_bytes(os.urandom(2 * MIB))
    (directory / ".4711").write_bytes(os.urandom(4 * MIB))  # being copied
    assert shared.refusal("demo") is None
    assert str(shared.refusal(module.DEBUG)).startswith("[spool] share = 50")
    (directory / f"abce.{'0' * 16}").write_bytes(os.urandom(2 * MIB))
    assert str(shared.refusal("demo")).startswith(f"[spool] size = {4 * MIB}: {4 * MIB} bytes")
    shutil.rmtree(directory)
    assert shared.refusal("demo") is None


def test_a_core_on_its_way_takes_room_until_it_waits(config: Config, spool: Spool) -> None:
    shared = room(config, spool_size=8 * MIB, spool_share=100)
    one, other = shared.allot("demo"), shared.allot("other")
    for _ in range(5):
        one(MIB)
    other(2 * MIB)
    with pytest.raises(Full, match=r"\[spool\] size = 8388608: 7340032 bytes"):
        other(2 * MIB)
    one.close()
    one.close()
    other(5 * MIB)
    other.close()
    assert shared.refusal("demo") is None


def test_a_core_outgrows_its_namespaces_share(config: Config, spool: Spool) -> None:
    allotment = room(config, spool_size=8 * MIB, spool_share=50).allot("demo")
    allotment(4 * MIB)
    with pytest.raises(Full, match=r"\[spool\] share = 50"):
        allotment(1)


def test_a_record_that_cannot_be_read_is_nobodys(config: Config, spooled: Spooled) -> None:
    dump_id = waiting(spooled, 4)
    Path(config.spool, "ready", dump_id, store.INFO).write_text("{")
    shared = room(config, spool_size=16 * MIB, spool_share=25)
    assert shared.refusal("demo") is None
    assert shared.refusal(store.UNIDENTIFIED)


def test_a_spool_that_is_not_there_sets_no_bound(config: Config) -> None:
    assert room(config).refusal("demo") is None


def test_usage_is_of_the_disk_and_what_vanishes_takes_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    assert usage(str(tmp_path)) == (tmp_path / "file").stat().st_blocks * 512 >= 5000
    assert usage(str(tmp_path / "gone")) == usage(str(tmp_path / "file")) == 0
    assert LEAST < SLACK
