"""When dumps are delivered: in order, for ever, and never holding up the guard's end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import debugstore, journal, machine, pickup, store
from coredump_guard import deliver as deliver_module
from coredump_guard import deliverer as module
from coredump_guard.config import Config
from coredump_guard.deliver import Delivery
from coredump_guard.deliverer import Deliverer
from coredump_guard.pickup import LocalError
from coredump_guard.record import Record
from coredump_guard.spool import Spool
from testbed.waiting import wait_for

from .conftest import IDENTITY, Spooled, fail_at

NEWEST, OLDEST, MIDDLE = 1_800_000_000, 1_600_000_000, 1_700_000_000


@contextmanager
def running(deliverer: Deliverer) -> Iterator[None]:
    thread = threading.Thread(target=deliverer.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        deliverer.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of what is being delivered, by the real delivery."""
    ids: list[str] = []

    def noting(spool: Spool, dump_id: str, config: Config) -> Delivery:
        ids.append(dump_id)
        return deliver_module.deliver(spool, dump_id, config)

    monkeypatch.setattr(module, "deliver", noting)
    return ids


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


def test_dumps_are_delivered_in_the_order_of_their_crashes(
    config: Config, spooled: Spooled, spool: Spool, order: list[str]
) -> None:
    ids = {when: spooled(when=when).id for when in (NEWEST, OLDEST, MIDDLE)}
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("three deliveries", lambda: deliverer.progress.delivered == 3)
    assert order == [ids[OLDEST], ids[MIDDLE], ids[NEWEST]]
    assert spool.pending() == []
    assert deliverer.progress.last == ids[NEWEST]
    assert deliverer.progress.current == ""


def test_a_bug_in_the_delivery_of_executables_ends_nothing(
    config: Config, spooled: Spooled, waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [NameError("a bug")]

    def deliver(_: Config) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(debugstore, "deliver", deliver)
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the failure", lambda: not failures)
        spooled()
        deliverer.wake()
        wait_for("the delivery", lambda: deliverer.progress.delivered == 1)


def test_waking_delivers_what_is_new(config: Config, spooled: Spooled, spool: Spool) -> None:
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("a look at the spool", lambda: not deliverer._wake.is_set())
        spooled()
        deliverer.wake()
        wait_for("the delivery", lambda: deliverer.progress.delivered == 1)
    assert spool.pending() == []


def test_what_a_guard_before_left_is_delivered(config: Config, spooled: Spooled) -> None:
    first = Deliverer(config)
    first.stop()
    spooled()
    first.run()
    assert first.progress.delivered == 0
    second = Deliverer(config)
    with running(second):
        wait_for("the delivery", lambda: second.progress.delivered == 1)


def test_a_store_that_is_away_is_tried_until_it_is_back(
    config: Config, spooled: Spooled, order: list[str], waits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    os.rename(config.store, config.store + ".away")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("three attempts", lambda: len(order) >= 3)
        assert set(order) == {first}
        assert "is it mounted" in deliverer.progress.error
        assert deliverer.progress.failing_since > 0
        os.rename(config.store + ".away", config.store)
        wait_for("both deliveries", lambda: deliverer.progress.delivered == 2)
    assert order[-2:] == [first, second]
    assert (deliverer.progress.error, deliverer.progress.failing_since) == ("", 0.0)
    said = capsys.readouterr().err
    assert said.count("the store takes no dumps; they wait in the spool") == 1
    assert said.count("the store takes dumps again") == 1


def test_one_bad_path_holds_up_nothing_else(
    config: Config,
    spooled: Spooled,
    spool: Spool,
    order: list[str],
    waits: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = spooled(when=OLDEST, identity=replace(IDENTITY, namespace="bad")).id
    good = [spooled(when=when).id for when in (MIDDLE, NEWEST)]
    in_the_way = Path(config.store, "bad")
    in_the_way.write_text("")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the bad one's fourth attempt", lambda: order.count(bad) >= 4)
        assert order[:4] == [bad, *good, bad]
        assert (deliverer.progress.delivered, spool.pending()) == (2, [bad])
        assert deliverer.progress.error == "bad in the store is not a directory"
        assert deliverer.progress.failing_since > 0
        in_the_way.unlink()
        wait_for("its delivery", lambda: deliverer.progress.delivered == 3)
    assert (deliverer.progress.error, deliverer.progress.failing_since) == ("", 0.0)
    said = capsys.readouterr().err
    assert said.count("the store takes no dumps; they wait in the spool") == 1
    assert said.count("the store takes dumps again") == 1


def test_a_dump_that_somebody_removed_is_no_failure_any_more(
    config: Config, spooled: Spooled, spool: Spool, waits: None
) -> None:
    bad = spooled().id
    Path(config.store, "demo").write_text("")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("a failure", lambda: deliverer.progress.error)
        spool.remove(bad)
        wait_for("the failure's end", lambda: not deliverer.progress.failing_since)


@pytest.mark.parametrize("code", [errno.EROFS, errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_store_that_fails_as_a_whole_is_not_asked_for_every_dump(
    config: Config, spooled: Spooled, order: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    first, second = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    deliverer = Deliverer(config)

    def stop(_seconds: float) -> bool:
        deliverer.stop()
        return True

    monkeypatch.setattr(deliverer._stop, "wait", stop)
    fail_at(monkeypatch, "pwrite", 1, OSError(code, os.strerror(code)))
    deliverer.run()
    assert order == [first]
    assert deliverer._spool.pending() == [first, second]


def test_nothing_is_left_in_the_store_of_dumps_that_are_not_delivered(
    config: Config, spooled: Spooled
) -> None:
    incoming = Path(config.store, store.incoming(config.node, machine.identifier(config.state)))
    left = incoming / store.dump_id(OLDEST, "/bin/gone", 1, "boot", 1)
    left.mkdir(parents=True)
    (left / "core.gz").write_bytes(b"half")
    broken = spooled(when=OLDEST).id
    Path(config.spool, "ready", broken, store.CORE).write_bytes(b"rubbish")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("setting aside", lambda: deliverer.progress.broken == 1)
    assert os.listdir(incoming) == []
    assert os.listdir(f"{config.spool}/broken") == [broken]


def test_waits_double_up_to_the_longest(
    config: Config, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled()
    os.rmdir(config.store)
    deliverer = Deliverer(config)
    waited: list[float] = []
    monkeypatch.setattr(module, "_now", lambda: sum(waited))

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 12:
            deliverer.stop()
        return False

    monkeypatch.setattr(deliverer._stop, "wait", wait)
    deliverer.run()
    assert waited == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_after_a_success_the_waits_begin_anew(
    config: Config, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(when=OLDEST)
    deliverer = Deliverer(config)
    waited: list[float] = []
    monkeypatch.setattr(module, "_now", lambda: sum(waited))

    def away(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 3:
            os.mkdir(config.store)
        if len(waited) == 5:
            deliverer.stop()
        return False

    def idle(_seconds: float) -> bool:
        os.rename(config.store, config.store + ".away")
        spooled(when=NEWEST)
        return True

    os.rmdir(config.store)
    monkeypatch.setattr(deliverer._stop, "wait", away)
    monkeypatch.setattr(deliverer._wake, "wait", idle)
    deliverer.run()
    assert waited == [1, 2, 4, 1, 2]


def test_stopping_does_not_wait_for_the_back_off(config: Config, spooled: Spooled) -> None:
    spooled()
    os.rmdir(config.store)
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("a failure", lambda: deliverer.progress.error)


def test_a_broken_dump_is_set_aside_and_the_next_is_delivered(
    config: Config, spooled: Spooled, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, good = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    Path(spool.path(broken), store.CORE).write_bytes(b"rubbish")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the delivery", lambda: deliverer.progress.delivered == 1)
    assert (deliverer.progress.broken, deliverer.progress.last) == (1, good)
    assert os.listdir(f"{config.spool}/broken") == [broken]
    assert spool.pending() == []
    assert f"set aside dump={broken}" in capsys.readouterr().err


def test_a_bug_of_ours_sets_one_dump_aside_and_ends_nothing(
    config: Config, spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, good = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    real = deliver_module.deliver

    def deliver(spool: Spool, dump_id: str, settings: Config) -> Delivery:
        if dump_id == odd:
            raise KeyError("nobody thought of this")
        return real(spool, dump_id, settings)

    monkeypatch.setattr(module, "deliver", deliver)
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the delivery", lambda: deliverer.progress.delivered == 1)
    assert (deliverer.progress.broken, deliverer.progress.last) == (1, good)


def test_stopping_ends_after_the_dump_at_hand(
    config: Config, spooled: Spooled, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    deliverer = Deliverer(config)
    blocked, go_on = threading.Event(), threading.Event()
    real: Callable[..., int] = os.pwrite

    def blocking(*arguments: int) -> int:
        blocked.set()
        assert go_on.wait(10)
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", blocking)
    with running(deliverer):
        assert blocked.wait(10)
        assert deliverer.progress.current == first
        assert deliverer.progress.current_since > 0
        deliverer.stop()
        go_on.set()
    assert deliverer.progress.delivered == 1
    assert spool.pending() == [second]


def test_each_reason_is_logged_once(
    config: Config,
    spooled: Spooled,
    waits: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spooled()
    with monkeypatch.context() as patched:
        for _ in range(3):
            fail_at(patched, "pwrite", 1, OSError(116, "Stale file handle"))
        deliverer = Deliverer(config)
        with running(deliverer):
            wait_for("the delivery", lambda: deliverer.progress.delivered == 1)
    assert capsys.readouterr().err.count("Stale file handle") == 1


def test_a_new_dump_does_not_wait_for_one_that_is_stuck(
    config: Config, spooled: Spooled, order: list[str]
) -> None:
    bad = spooled(when=OLDEST, identity=replace(IDENTITY, namespace="bad")).id
    Path(config.store, "bad").write_text("")
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("a failure", lambda: deliverer.progress.error)
        deliverer._retry = float("inf")
        good = spooled(when=NEWEST).id
        deliverer.wake()
        wait_for("the other's delivery", lambda: deliverer.progress.delivered == 1)
    assert order[-1] == good
    assert bad in deliverer._refused


def test_no_room_for_one_is_no_reason_not_to_try_a_smaller_one(
    config: Config, spooled: Spooled, order: list[str], waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    deliverer = Deliverer(config)
    fail_at(monkeypatch, "pwrite", 1, OSError(errno.ENOSPC, "No space left on device"))
    with running(deliverer):
        wait_for("both deliveries", lambda: deliverer.progress.delivered == 2)
    assert order == [large, small, large]


def test_what_the_nodes_own_disk_says_is_not_said_of_the_store(
    config: Config, spooled: Spooled, waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = spooled(when=OLDEST).id, spooled(when=NEWEST).id
    real = pickup.prepared

    def prepared(spool: Spool, dump_id: str) -> Record:
        if dump_id == bad and not mended.is_set():
            raise LocalError(5, "Input/output error")
        return real(spool, dump_id)

    mended = threading.Event()
    monkeypatch.setattr(pickup, "prepared", prepared)
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the other's delivery", lambda: deliverer.progress.last == good)
        assert deliverer.progress.spool_error == "Input/output error"
        assert (deliverer.progress.error, deliverer.progress.failing_since) == ("", 0.0)
        mended.set()
        wait_for("its delivery", lambda: deliverer.progress.delivered == 2)
        wait_for("the error's end", lambda: not deliverer.progress.spool_error)


def test_what_became_of_each_dump_is_in_the_journal(config: Config, spooled: Spooled, spool: Spool) -> None:
    old = spooled(when=OLDEST)
    broken = spooled(when=MIDDLE).id
    Path(spool.path(broken), store.CORE).write_bytes(b"rubbish")
    new = spooled(when=NEWEST)
    Path(spool.path(new.id), store.INFO).write_text(replace(new, replaces=old.id).to_json())
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("both deliveries", lambda: deliverer.progress.delivered == 2)
        wait_for("the journal", lambda: len(list(journal.entries(config.state))) == 4)
    found = [(entry.event, entry.dump) for entry in journal.entries(config.state)]
    assert found == [("delivered", old.id), ("set aside", broken), ("delivered", new.id), ("evicted", old.id)]
    first = next(iter(journal.entries(config.state)))
    assert (first.pid, first.signal, first.whose) == (4711, "SIGSEGV", "demo/web/app")
    assert deliverer.progress.evicted == 1


def test_a_namespace_near_its_quota_is_warned_of_once(
    config: Config, spooled: Spooled, capsys: pytest.CaptureFixture[str]
) -> None:
    for when in (OLDEST, MIDDLE, NEWEST):
        spooled(when=when)
    deliverer = Deliverer(replace(config, quota=4000))
    with running(deliverer):
        wait_for("three deliveries", lambda: deliverer.progress.delivered == 3)
    assert deliverer.progress.nearly_full["demo"].startswith("namespace demo uses ")
    assert capsys.readouterr().err.count("the store's quota is nearly used up") == 1


def test_another_machine_of_our_name_is_told_once(
    config: Config, spooled: Spooled, capsys: pytest.CaptureFixture[str]
) -> None:
    other = store.incoming(config.node, "0123abcd")
    os.makedirs(f"{config.store}/{other}")
    spooled(when=OLDEST)
    deliverer = Deliverer(config)
    with running(deliverer):
        wait_for("the namesake", lambda: deliverer.progress.namesakes)
        spooled(when=NEWEST)
        deliverer.wake()
        wait_for("both deliveries", lambda: deliverer.progress.delivered == 2)
    assert deliverer.progress.namesakes == [os.path.basename(other)]
    assert capsys.readouterr().err.count("another machine delivers by this node's name") == 1
