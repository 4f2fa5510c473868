"""A namespace's quota: decided by one node at a time, never exceeded by two."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import deliver, quota, store, tree
from coredump_guard.config import Config
from coredump_guard.quota import Usage
from coredump_guard.record import Record
from coredump_guard.spool import Spool

from .conftest import IDENTITY, Spooled

HANDLER = os.path.dirname(os.path.dirname(quota.__file__))
# A store that takes its time between the decision and the dump being seen: what is no race then is none.
DELIVER_ALL = """
import sys, time
from dataclasses import replace
from coredump_guard import config, deliver, quota, spool
settings = replace(config.load(sys.argv[1]), node=sys.argv[2], spool=sys.argv[3], quota=int(sys.argv[4]))
waiting = spool.Spool(settings.spool)
show = deliver._show
deliver._show = lambda *arguments: (time.sleep(0.02), show(*arguments))
print("ready", flush=True)
sys.stdin.readline()
for dump in waiting.pending():
    deliver.deliver(waiting, dump, settings)
"""
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def records(config: Config) -> list[Record]:
    found = Path(config.store, "demo").rglob(store.INFO)
    return [Record.from_json(path.read_bytes()) for path in found]


def bytes_with_cores(config: Config) -> int:
    cores = Path(config.store, "demo").rglob(store.CORE)
    return sum(path.stat().st_size for core in cores for path in core.parent.iterdir())


def deliver_at_once(config: Config, spools: list[Spool]) -> None:
    """Let one process for each spool deliver everything in it, all at the same time."""
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", DELIVER_ALL, config.path, f"n{at}", spool.root, str(config.quota)],
            env={"PYTHONPATH": HANDLER},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for at, spool in enumerate(spools)
    ]
    try:
        for node in nodes:
            assert node.stdout is not None
            assert node.stdout.readline() == b"ready\n"
        for node in nodes:
            assert node.stdin is not None
            node.stdin.write(b"go\n")
            node.stdin.flush()
        for node in nodes:
            assert node.wait(timeout=60) == 0
    finally:
        for node in nodes:
            node.kill()
            node.communicate()


@pytest.mark.parametrize("room", [1, 7, 13])
def test_two_nodes_that_deliver_at_once_never_exceed_it(
    config: Config, spooled: Spooled, spool: Spool, tmp_path: Path, room: int
) -> None:
    size = 0
    spools = [Spool(f"{tmp_path}/spool{node}") for node in range(2)]
    for each in spools:
        each.prepare()
        for number in range(12):
            record = spooled(os.urandom(60_000), when=1_700_000_000 + number)
            size = record.core.stored_bytes + 4096
            os.rename(spool.path(record.id), each.path(record.id))
    ids = {name for each in spools for name in each.pending()}
    for at, each in enumerate(spools):  # the same crashes, of two pods
        for name in each.pending():
            info = Path(each.path(name), store.INFO)
            info.write_text(info.read_text().replace(IDENTITY.poduid, f"{at}{IDENTITY.poduid[1:]}"))
    config = replace(config, quota=room * size)
    deliver_at_once(config, spools)
    found = records(config)
    assert len(found) == 2 * len(ids) == 24
    whole = [record for record in found if record.refused is None]
    assert bytes_with_cores(config) <= config.quota
    assert 0 < len(whole) < 24
    assert {
        record.refused for record in found if record.refused and "its quota of" not in record.refused
    } == set()
    assert sum(each.pending() == [] for each in spools) == 2


def test_a_core_beyond_it_is_refused_and_the_crash_is_known(
    config: Config, spooled: Spooled, spool: Spool
) -> None:
    config = replace(config, quota=9000)
    first, second = spooled(os.urandom(6000)), spooled(os.urandom(6000), when=1_800_000_000)
    kept = deliver.deliver(spool, first.id, config)
    assert kept.record.refused is None
    assert kept.usage is not None
    refused = deliver.deliver(spool, second.id, config)
    assert refused.record.refused is not None
    assert refused.record.refused.startswith("namespace demo uses 7.")
    assert refused.record.refused.endswith(" of its quota of 8.8 KiB ([store] quota)")
    assert (refused.record.core.bytes, refused.record.core.stored_bytes) == (0, 0)
    place = Path(config.store, "demo", IDENTITY.poduid, "app", second.id)
    assert sorted(os.listdir(place)) == ["info.json", "maps"]
    assert Record.from_json((place / store.INFO).read_bytes()) == refused.record
    assert spool.pending() == []


def replacing(spool: Spool, record: Record, older: Record) -> Record:
    """Let a dump in the spool replace an older one of its crash loop."""
    record = replace(record, replaces=older.id)
    Path(spool.path(record.id), store.INFO).write_text(record.to_json())
    return record


def test_a_core_that_has_no_room_even_with_the_old_one_gone_evicts_nothing(
    config: Config, spooled: Spooled, spool: Spool
) -> None:
    config = replace(config, quota=9000)
    first = spooled(os.urandom(6000))
    deliver.deliver(spool, first.id, config)
    second = replacing(spool, spooled(os.urandom(9000), when=1_800_000_000), first)
    delivery = deliver.deliver(spool, second.id, config)
    assert delivery.evicted is None
    assert delivery.record.refused is not None
    assert delivery.record.refused.startswith("namespace demo uses 7.")
    assert Path(config.store, "demo", IDENTITY.poduid, "app", first.id, store.CORE).exists()


def test_a_crash_loop_near_its_quota_goes_on_to_get_its_newest_core(
    config: Config, spooled: Spooled, spool: Spool
) -> None:
    config = replace(config, quota=9000)
    older = spooled(os.urandom(6000))
    deliver.deliver(spool, older.id, config)
    for number in range(3):
        newer = replacing(spool, spooled(os.urandom(6000), when=1_800_000_000 + number), older)
        delivery = deliver.deliver(spool, newer.id, config)
        assert (delivery.record.refused, delivery.evicted and delivery.evicted.id) == (None, older.id)
        assert [record.id for record in records(config)] == [newer.id]
        assert delivery.usage is not None
        with tree.root(config.store) as root:
            used = quota.used(root, "demo")
        assert abs(delivery.usage.used - used) < 256
        assert used <= config.quota
        older = newer


@pytest.mark.parametrize("spoil", ["another node's", "another container's"])
def test_only_what_really_goes_makes_room(config: Config, spooled: Spooled, spool: Spool, spoil: str) -> None:
    config = replace(config, quota=9000)
    owner = replace(IDENTITY, container="other") if spoil == "another container's" else IDENTITY
    first = spooled(os.urandom(6000), identity=owner)
    delivered = deliver.deliver(spool, first.id, config).record
    if spoil == "another node's":
        info = Path(config.store, "demo", IDENTITY.poduid, "app", first.id, store.INFO)
        info.write_text(replace(delivered, node="node-2").to_json())
    second = replacing(spool, spooled(os.urandom(6000), when=1_800_000_000), first)
    delivery = deliver.deliver(spool, second.id, config)
    assert (delivery.record.refused is None, delivery.evicted) == (False, None)


def test_the_old_core_goes_before_another_node_may_decide(
    config: Config, spooled: Spooled, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, first = replace(config, quota=9000), spooled(os.urandom(6000))
    deliver.deliver(spool, first.id, config)
    second, seen = replacing(spool, spooled(os.urandom(6000), when=1_800_000_000), first), []
    real = quota.decided

    @contextmanager
    def decided(root: int, namespace: str, bound: int, group: int) -> Iterator[Usage]:
        with real(root, namespace, bound, group) as usage:
            yield usage
            seen.append([record.id for record in records(config)])

    monkeypatch.setattr(quota, "decided", decided)
    deliver.deliver(spool, second.id, config)
    assert seen == [[first.id], [second.id]]


def test_what_is_delivered_makes_the_usage_known(config: Config, spooled: Spooled, spool: Spool) -> None:
    usage = deliver.deliver(spool, spooled(os.urandom(6000)).id, replace(config, quota=100_000)).usage
    assert usage is not None
    with tree.root(config.store) as root:
        assert abs(usage.used - quota.used(root, "demo")) < 256
    assert not usage.nearly_full
    assert replace(usage, quota=usage.used).nearly_full


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(
    config: Config, spooled: Spooled, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PATIENCE", 0.1)
    lock = Path(config.store, store.QUOTA, "demo")
    lock.parent.mkdir()
    lock.touch()
    record = spooled()
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(quota.Busy, match="another node is deciding on the quota of namespace demo"):
            deliver.deliver(spool, record.id, replace(config, quota=1 << 30))
        holder.communicate(b"\n", timeout=30)
    assert deliver.deliver(spool, record.id, replace(config, quota=1 << 30)).record.refused is None


def test_a_store_without_locks_still_has_quotas(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    with tree.root(config.store) as root, quota.decided(root, "demo", 10, -1) as usage:
        assert usage == Usage("demo", 0, 10)
    assert "the store has no locks" in capsys.readouterr().err


def test_what_is_planted_in_the_store_is_neither_followed_nor_waited_for(
    config: Config, tmp_path: Path
) -> None:
    dump = Path(config.store, "demo", "uid", "app", "dump")
    deeper = dump / "a" / "b"
    deeper.mkdir(parents=True)
    (dump / "core.gz").write_bytes(bytes(1000))
    (deeper / "unseen").write_bytes(bytes(1000))
    (tmp_path / "big").write_bytes(bytes(1 << 20))
    (dump / "link").symlink_to(tmp_path / "big")
    (dump.parent / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(dump / "fifo")
    with tree.root(config.store) as root:
        links = len(str(tmp_path / "big")) + len(str(tmp_path))
        assert quota.used(root, "demo") == 1000 + links
        assert quota.used(root, "nobody") == 0


@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_planted_in_place_of_the_lock_is_an_error(config: Config, plant: object) -> None:
    os.mkdir(f"{config.store}/{store.QUOTA}")
    plant(f"{config.store}/{store.QUOTA}/demo")  # type: ignore[operator]
    with tree.root(config.store) as root, pytest.raises(OSError, match=r"demo|directory|symbolic"):  # noqa: SIM117
        with quota.decided(root, "demo", 10, -1):
            pass
