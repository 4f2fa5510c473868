"""The policy: each rule refuses with a sentence of its own, nothing grows without bound, all is counted."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coredump_guard import loops, room, store, tally
from coredump_guard.config import Config
from coredump_guard.pattern import Crash
from coredump_guard.policy import Policy, loop_name, refusal
from coredump_guard.record import Identity, Record, Signal
from coredump_guard.spool import Spool
from coredump_guard.verdict import Verdict

from .conftest import IDENTITY, Spooled

CRASH = Crash(4711, 4711, 11, 1_700_000_000.0, comm="app")
HOST = Identity(host=True)
ASK = "a pod may ask for it with COREDUMP_CAPTURE=always"


class Clock:
    """Time as the policy sees it; it stands still unless it is told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(loops, "now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def made(name: str, **facts: Any) -> Record:
    """Return the record of a dump that came of a crash."""
    return replace(tally.begin(CRASH, IDENTITY, "/bin/app", "", "node-1"), id=name, **facts)


def judged(
    policy: Policy, owner: Identity = IDENTITY, executable: str = "/bin/app", name: str = ""
) -> Verdict:
    """Judge a crash and say that its dump was made."""
    verdict = policy.judge(CRASH, owner, executable)
    if not verdict.tally:
        policy.done(verdict, made(name or f"dump-{id(verdict)}"))
    return verdict


def kinds(policy: Policy, count: int, owner: Identity = IDENTITY) -> str:
    """Judge so many crashes: k for a core that is kept, r for a record without one, c for a count."""
    verdicts = [judged(policy, owner, name=f"{number:04}") for number in range(count)]
    return "".join("c" if v.tally else "r" if v.refused else "k" for v in verdicts)


@pytest.mark.parametrize(
    ("given_", "owner", "said"),
    [
        ({}, {}, None),
        ({"deny": ("kube-*", "demo")}, {}, "[policy] deny = demo: no cores of namespace demo are kept"),
        ({"deny": ("d*",)}, {"capture": "always"}, "[policy] deny = d*: no cores of namespace demo are kept"),
        ({"deny": ("other",)}, {}, None),
        (
            {"allow": ("shop", "prod-*")},
            {},
            f"[policy] allow = shop prod-*: namespace demo is not among them; {ASK}",
        ),
        ({"allow": ("shop",)}, {"capture": "always"}, None),
        ({"allow": ("d?mo",)}, {}, None),
        ({}, {"capture": "never"}, "COREDUMP_CAPTURE = never: the pod's spec wants no cores"),
        ({"largest_core": 0}, {}, "[policy] largest_core = 0: no cores are kept"),
        ({"largest_core": 0}, {"capture": "always"}, "[policy] largest_core = 0: no cores are kept"),
    ],
)
def test_rules(config: Config, given_: dict[str, object], owner: dict[str, str], said: str | None) -> None:
    assert refusal(replace(IDENTITY, **owner), replace(config, **given_)) == said  # type: ignore[arg-type]


@pytest.mark.parametrize("owner", [HOST, Identity(), Identity(container_id="c" * 64)])
def test_rules_of_namespaces_are_about_known_ones(config: Config, owner: Identity) -> None:
    assert refusal(owner, replace(config, allow=("shop",), deny=("*",))) is None
    assert refusal(owner, replace(config, largest_core=0))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (IDENTITY, f"demo/{IDENTITY.poduid}/app"),
        (replace(IDENTITY, container_id="d" * 64, restarts=7), f"demo/{IDENTITY.poduid}/app"),
        (Identity(poduid="u", container_id="c" * 64), "c" * 64),
        (Identity(poduid="u"), "u"),
        (HOST, "host /bin/app"),
        (Identity(), ""),
    ],
)
def test_a_restart_is_the_same_loop(owner: Identity, name: str) -> None:
    assert loop_name(owner, "/bin/app") == name


def test_a_loop_is_damped_and_all_is_counted(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(config)
    assert kinds(policy, 10) == "kkkkcccccc"
    clock.now += 1200
    assert kinds(policy, 3) == "kcc"
    policy.settle()
    (waiting,) = spool.pending()
    counted = spool.record(waiting)
    assert (counted.crashes, counted.identity, counted.core.bytes) == (8, IDENTITY, 0)
    assert counted.refused == (
        "crash loop: its first core and the newest 3 are kept, one in 1200 s; the rest are counted "
        "([policy] loop_newest = 3, loop_window = 3600)"
    )


def test_what_the_socket_does_not_tell_of_a_counted_crash_its_loops_last_dump_does(
    config: Config, spool: Spool, clock: Clock
) -> None:
    policy, silent = Policy(replace(config, loop_newest=0)), replace(CRASH, signal=None)
    process = replace(made("").process, uid=1000, gid=100)
    verdict = policy.judge(silent, IDENTITY, "/bin/app")
    policy.done(verdict, made("0001", process=process, signal=Signal(6, "SIGABRT")))
    policy.settle()
    for executable, name, uid in (
        ("/bin/app", "SIGABRT", 1000),
        ("/bin/other", "signal 0", -1),
        ("/bin/app", "SIGABRT", 1000),
    ):
        policy = Policy(replace(config, loop_newest=0))  # it is remembered over restarts
        assert policy.judge(silent, IDENTITY, executable).tally
        policy.settle()
        counted = spool.record(spool.pending()[-1])
        assert (counted.signal.name, counted.process.uid) == (name, uid)
        assert counted.process.executable == executable


def test_an_unnamed_crash_learns_nothing_from_another(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(replace(config, largest_core=0, loop_newest=0))
    silent, nobody = replace(CRASH, signal=None), Identity()
    policy.done(policy.judge(silent, nobody, "/bin/app"), made("0001"))
    assert policy.judge(silent, nobody, "/bin/app").tally
    policy.settle()
    assert [spool.record(dump).signal.number for dump in spool.pending()] == [0]


def test_other_containers_are_loops_of_their_own(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(config)
    assert kinds(policy, 5) == "kkkkc"
    assert kinds(policy, 5, replace(IDENTITY, container="sidecar")) == "kkkkc"
    assert kinds(policy, 1, replace(IDENTITY, container_id="e" * 64, restarts=1)) == "c"


def test_a_loop_that_is_over_begins_again(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(config)
    kinds(policy, 5)
    clock.now += 3601
    assert kinds(policy, 5) == "kkkkc"
    policy.settle()
    assert [spool.record(dump).crashes for dump in spool.pending()] == [1]


def test_what_is_not_known_at_all_is_not_damped(config: Config, spool: Spool, clock: Clock) -> None:
    assert kinds(Policy(config), 20, Identity()) == "k" * 20


def test_refusals_are_bounded_too(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(replace(config, deny=("demo",)))
    assert kinds(policy, 7) == "rrrrccc"
    assert kinds(policy, 6, replace(IDENTITY, namespace="other")) == "kkkkcc"
    policy.settle()
    sentences = Counter(spool.record(dump).refused for dump in spool.pending())
    assert "crash loop: [policy] deny = demo: no cores of namespace demo are kept" in sentences


def test_a_refusal_never_takes_a_cores_place(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(config)
    kinds(policy, 4)
    clock.now += 1200
    verdict = policy.judge(CRASH, IDENTITY, "/bin/app")
    assert verdict.replaces == "0001"
    policy.done(verdict, None)  # it proved too large
    again = policy.judge(CRASH, IDENTITY, "/bin/app", "[policy] largest_core = 1: the core has 2 bytes")
    assert (again.refused, again.replaces) == ("[policy] largest_core = 1: the core has 2 bytes", None)
    policy.done(again, made("0100"))
    clock.now += 1200
    assert judged(policy).replaces == "0001"


def test_a_loop_of_cores_that_are_too_large_is_not_tried_again_and_again(
    config: Config, spool: Spool, clock: Clock
) -> None:
    policy = Policy(config)
    tried = 0
    for _ in range(20):
        verdict = policy.judge(CRASH, IDENTITY, "/bin/app")
        if not verdict.refused:
            tried += 1
            policy.done(verdict, None)
            verdict = policy.judge(CRASH, IDENTITY, "/bin/app", "[policy] largest_core = 1")
        if not verdict.tally:
            policy.done(verdict, made("0001"))
    assert tried == 4
    clock.now += 1200
    assert not judged(policy).refused


def test_a_full_spool_refuses_and_then_counts(
    config: Config, spool: Spool, spooled: Spooled, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(os.urandom(3 << 20))
    policy = Policy(replace(config, spool_size=1 << 20))
    verdict = judged(policy, Identity("other", "p", "u", "c"))
    assert verdict.refused is not None
    assert verdict.refused.startswith("[spool] size = 1048576: ")
    monkeypatch.setattr(room, "SLACK", 0)
    monkeypatch.setattr("coredump_guard.policy.SLACK", 0)
    counted = judged(policy, Identity("other", "p", "u", "c"))
    assert counted.tally
    assert str(counted.refused).startswith("crash loop: [spool] size")


def test_one_namespaces_full_share_is_another_ones_room(
    config: Config, spool: Spool, spooled: Spooled, clock: Clock
) -> None:
    spooled(os.urandom(3 << 20))
    policy = Policy(replace(config, spool_size=8 << 20))
    assert str(judged(policy).refused).startswith("[spool] share = 50: dumps of demo")
    assert judged(policy, Identity("other", "p", "u", "c")).refused is None


def test_it_is_remembered_over_a_restart_and_by_doormen(config: Config, spool: Spool, clock: Clock) -> None:
    guard = Policy(config)
    assert kinds(guard, 3) == "kkk"
    guard.settle()
    doorman = Policy(config)
    assert kinds(doorman, 3) == "kcc"
    doorman.settle()
    assert kinds(guard, 1) == "k"  # it has not looked yet, and keeps one too many rather than one too few
    guard.settle()
    assert kinds(Policy(config), 1) == "c"
    assert kinds(guard, 2) == "cc"
    guard.settle()
    assert [spool.record(dump).crashes for dump in spool.pending()] == [4]


def test_a_tally_goes_on_where_it_waits_and_after_it_was_delivered(
    config: Config, spool: Spool, clock: Clock
) -> None:
    policy = Policy(config)
    kinds(policy, 6)
    policy.settle()
    (first,) = spool.pending()
    kinds(policy, 1)
    policy.settle()
    assert (spool.pending(), spool.record(first).crashes) == ([first], 3)
    spool.remove(first)
    policy.settle()
    assert spool.pending() == []
    kinds(policy, 1)
    policy.settle()
    assert (spool.pending(), spool.record(first).crashes) == ([first], 4)


def test_a_state_that_takes_nothing_costs_no_decision(
    config: Config, spool: Spool, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config.state).write_text("a file")
    policy = Policy(config)
    assert kinds(policy, 5) == "kkkkc"
    policy.settle()
    policy.settle()
    assert capsys.readouterr().err.count("crash loops cannot be written down") == 1
    Path(config.state).unlink()
    policy.settle()
    assert len(spool.pending()) == 1


def test_a_tally_that_cannot_be_written_keeps_back_no_other(
    config: Config,
    spool: Spool,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = Policy(config)
    for container in ("a", "b"):
        kinds(policy, 5, replace(IDENTITY, container=container))
    rewrite = Spool.rewrite

    def failing(spool: Spool, record: Record) -> None:
        if record.identity.container == "a":
            raise OSError(5, "Input/output error")
        rewrite(spool, record)

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "rewrite", failing)
        policy.settle()
    assert "crash loops cannot be written down" in capsys.readouterr().err
    assert [spool.record(dump).identity.container for dump in spool.pending()] == ["b"]
    assert os.path.exists(f"{config.state}/loops.json")
    policy.settle()
    assert {spool.record(dump).identity.container for dump in spool.pending()} == {"a", "b"}


def test_workers_at_once_keep_no_more_than_one(config: Config, spool: Spool, clock: Clock) -> None:
    policy = Policy(config)
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda number: judged(policy, name=str(number)), range(400)))
    assert Counter(bool(verdict.tally) for verdict in said) == {False: 4, True: 396}
    policy.settle()
    assert spool.record(spool.pending()[0]).crashes == 396


CRASHES = st.lists(
    st.tuples(st.floats(0, 4000), st.sampled_from(["a", "b"]), st.sampled_from(["kept", "large", "failed"])),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crashes=CRASHES, newest=st.integers(0, 3))
def test_all_crashes_are_kept_noted_or_counted(
    config: Config, crashes: list[tuple[float, str, str]], newest: int
) -> None:
    with tempfile.TemporaryDirectory() as new, pytest.MonkeyPatch.context() as patched:
        fresh = replace(config, spool=f"{new}/spool", state=f"{new}/state", loop_newest=newest)
        _account(Clock(patched), fresh, crashes)


def _account(clock: Clock, config: Config, crashes: list[tuple[float, str, str]]) -> None:
    spool = Spool(config.spool)
    spool.prepare()
    policy, ends = Policy(config), Counter[str]()
    for number, (gap, container, end) in enumerate(crashes):
        clock.now += gap
        owner, name = replace(IDENTITY, container=container), f"{number:04}"
        verdict = policy.judge(replace(CRASH, pid=number), owner, "")
        if end == "large" and not verdict.refused:
            policy.done(verdict, None)
            verdict = policy.judge(replace(CRASH, pid=number), owner, "", "[policy] largest_core = 1")
        if verdict.tally:
            ends["counted"] += 1
            continue
        policy.done(verdict, None if end == "failed" else made(name))
        ends["failed" if end == "failed" else "taken"] += 1
    policy.settle()
    assert sum(ends.values()) == len(crashes)
    assert sum(spool.record(dump).crashes for dump in spool.pending()) == ends["counted"]
    assert all(store.is_dump_id(dump) for dump in spool.pending())
