"""The memory of crash loops: bounded, over when it is quiet, shared by processes, and never in the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard.damping import Loop, Pace
from coredump_guard.loops import MAX_LOOPS, Loops, locked, now

from .test_damping import COUNT

BOOT = "boot"


def loops(state: Path, boot_id: str = BOOT) -> Loops:
    memory = Loops(str(state), boot_id, 100)
    memory.read()
    return memory


def counted(loop: Loop, crashes: int) -> Loop:
    loop.tally = replace(COUNT, crashes=crashes)
    return loop


def test_a_loop_lasts_until_it_is_quiet(tmp_path: Path) -> None:
    memory = loops(tmp_path)
    first = memory.crashed("a", 0)
    assert memory.crashed("a", 100) is first
    assert memory.crashed("a", 200) is first
    assert memory.crashed("b", 200) is not first
    assert memory.crashed("a", 300.5) is not first


def test_the_quietest_is_forgotten_first_but_not_what_it_counted(tmp_path: Path) -> None:
    memory = loops(tmp_path)
    quiet = counted(memory.crashed("quiet", 0), 2)
    for number in range(MAX_LOOPS):
        memory.crashed(str(number), 1)
    assert len(memory) == MAX_LOOPS
    assert memory.untold() == [quiet]
    assert memory.crashed("quiet", 1) is not quiet


def test_what_is_over_is_forgotten_when_it_has_been_told(tmp_path: Path) -> None:
    memory = loops(tmp_path)
    loop = counted(memory.crashed("a", 0), 2)
    memory.expire(101)
    assert memory.untold() == [loop]
    loop.written = 2
    memory.expire(101)
    assert (len(memory), memory.untold()) == (0, [])


def test_it_is_remembered(tmp_path: Path) -> None:
    memory = loops(tmp_path)
    loop = counted(memory.crashed("a", 7), 3)
    grant = loop.cores.take(7, Pace(3, 100))
    assert grant is not None
    loop.cores.settle(grant, "dump")
    memory.write()
    again = loops(tmp_path).crashed("a", 8)
    assert (again.counted, again.cores.kept, again.cores.at) == (3, ["dump"], 7)


def test_two_processes_add_up(tmp_path: Path) -> None:
    guard = loops(tmp_path)
    counted(guard.crashed("a", 0), 5)
    guard.write()
    doorman = loops(tmp_path)
    counted(doorman.crashed("a", 1), 8)
    counted(doorman.crashed("b", 1), 1)
    doorman.write()
    counted(guard.crashed("a", 2), 7)
    guard.read()
    guard.write()
    found = loops(tmp_path)
    assert (found.crashed("a", 3).counted, found.crashed("b", 3).counted) == (10, 1)


def test_reading_what_we_wrote_changes_nothing(tmp_path: Path) -> None:
    memory = loops(tmp_path)
    counted(memory.crashed("a", 0), 5)
    memory.write()
    counted(memory.crashed("a", 0), 6)
    memory.read()
    assert memory.crashed("a", 0).counted == 6


def test_loops_of_an_earlier_boot_are_over_and_their_tallies_finished(tmp_path: Path) -> None:
    before = loops(tmp_path)
    counted(before.crashed("a", 1e9), 5)
    before.crashed("b", 1e9)
    before.write()
    memory = loops(tmp_path, "another boot")
    assert len(memory) == 0
    assert [loop.counted for loop in memory.untold()] == [5]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"boot_id": "boot"}', '{"boot_id": "boot", "loops": {"a": 1}}', "\0"]
)
def test_a_damaged_memory_is_begun_anew(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loops.json").write_text(text)
    memory = loops(tmp_path)
    assert len(memory) == 0
    assert "the memory of crash loops is damaged" in capsys.readouterr().err
    memory.crashed("a", 0)
    memory.write()
    assert len(loops(tmp_path)) == 1


def test_the_lock_makes_the_directory_and_lets_go(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(str(tmp_path / "state")):
            pass


def test_the_clock_is_the_one_that_nobody_sets() -> None:
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= now() - uptime < 60
