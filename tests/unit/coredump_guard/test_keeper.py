"""The keeper: when a change is repaired, and when somebody is told that it is no use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import arming, keeper, sysctl
from coredump_guard.arming import ArmingError
from coredump_guard.config import Config
from coredump_guard.keeper import AT_ONCE, CALM, LONGEST_PAUSE, Changes, Keeper
from coredump_guard.sysctl import Settings
from testbed.waiting import wait_for

OURS = Settings("|/ours", "0", "2")
THEIRS = replace(OURS, core_pattern="theirs\n\x1b")


def changed(times: list[float]) -> Changes:
    changes = Changes()
    for now in times:
        changes = changes.another(now)
    return changes


def test_the_first_changes_are_repaired_at_once() -> None:
    for count in range(1, AT_ONCE + 1):
        changes = changed([100.0] * count)
        assert changes.due == 100.0
        assert not changes.contested(100.0)


def test_the_next_ones_later_and_later_and_somebody_is_told() -> None:
    pauses = [changed([100.0] * count).due - 100.0 for count in range(AT_ONCE + 1, 2000)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert changed([100.0] * (AT_ONCE + 1)).contested(100.0)


def test_a_contest_goes_on_as_long_as_each_repair_is_undone() -> None:
    changes = changed([1.0] * 50)
    assert changes.another(changes.due).count == 51


def test_it_is_calm_again_after_a_time_without_changes() -> None:
    changes = changed([1.0] * 50)
    assert changes.contested(1.0 + CALM - 1)
    assert not changes.contested(1.0 + CALM)
    assert changes.another(1.0 + CALM) == Changes(1, 1.0 + CALM, 1.0 + CALM)


class Machine:
    """Stands for arming: what is in force, and how often it was put back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = OURS
        self.armed = True
        self.repairs = 0
        self.error: Exception | None = None
        monkeypatch.setattr(arming, "is_armed", lambda _: self.armed)
        monkeypatch.setattr(arming, "drift", lambda _, now: [] if now == OURS else [now.core_pattern])
        monkeypatch.setattr(arming, "repair", self.repair)

    def repair(self, _: Config) -> bool:
        if self.error:
            raise self.error
        self.now = OURS
        self.repairs += 1
        return True

    def read(self) -> Settings:
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_change_is_repaired_logged_and_counted(
    config: Config, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Keeper(config)
    kept.look(1.0, machine.read)
    assert kept.report() == {"repairs": 0, "last_repair": "", "changed_to": "", "contested": None}
    machine.now = THEIRS
    kept.look(2.0, machine.read)
    assert (machine.now, kept.report()["repairs"]) == (OURS, 1)
    assert kept.report()["changed_to"] == r"theirs\n\x1b"
    assert r"now they are ours again was=theirs\n\x1b" in capsys.readouterr().err


def test_nothing_is_repaired_unless_armed(config: Config, machine: Machine) -> None:
    machine.armed, machine.now = False, THEIRS
    kept = Keeper(config)
    kept.look(1.0, machine.read)
    assert (machine.repairs, kept.report()["changed_to"]) == (0, "")


def test_a_contest_is_told_once_for_each_change_and_not_fought(
    config: Config, machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock)  # type: ignore[attr-defined]
    kept = Keeper(config)
    for _ in range(1000):  # a second's looks, each of which finds it changed
        machine.now = THEIRS
        kept.look(clock, machine.read)
        clock += 0.001
    assert machine.repairs == AT_ONCE
    assert kept.report()["contested"] == rf"changed {AT_ONCE + 1} times in 0 seconds, last to theirs\n\x1b"
    assert capsys.readouterr().err.count("CONTESTED") == 1
    clock += CALM
    assert kept.report()["contested"] is None


def test_a_kernel_that_cannot_be_written_is_tried_less_and_less(
    config: Config, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.error, machine.now = ArmingError("read-only"), THEIRS
    kept = Keeper(config)
    for second in range(600):
        kept.look(float(second), machine.read)
    said = capsys.readouterr().err
    assert said.count("cannot be repaired error=read-only") < 15
    assert "CONTESTED" in said


def test_it_begins_ends_and_survives_what_it_cannot_read(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sysctl, "ROOT", str(tmp_path / "nothing"))
    monkeypatch.setattr(keeper, "EVERY", 0.01)
    kept = Keeper(config)
    kept.start()
    seen: list[str] = []

    def look() -> bool:
        seen.append(capsys.readouterr().err)
        return "".join(seen).count("cannot be watched") > 1

    wait_for("two complaints", look)
    kept.stop()
    assert not kept._thread.is_alive()
