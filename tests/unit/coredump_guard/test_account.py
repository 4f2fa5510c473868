"""The account: announcements and ends meet, in whatever order and over whatever gaps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import account
from coredump_guard.account import ANNOUNCED, CARRIED, ENDS, Ledger, seconds
from coredump_guard.journal import Entry

BOOT = "this boot"


def line(event: str, pid: int = 1, second: int = 0, boot_id: str = BOOT) -> Entry:
    return Entry(f"2026-01-01T00:{second // 60:02}:{second % 60:02}.500000Z", boot_id, event, pid=pid)


def ledger(*lines: Entry) -> Ledger:
    made = Ledger(BOOT)
    for each in lines:
        made.add(each)
    return made


def pending(made: Ledger) -> list[tuple[int, str]]:
    return [(entry.pid, entry.time) for entry in made.pending()]


@pytest.mark.parametrize("end", ENDS)
def test_a_crash_ends(end: str) -> None:
    made = ledger(line(ANNOUNCED), line(ANNOUNCED, pid=2), line(end))
    assert (made.announced, made.counts[end]) == (2, 1)
    assert [pid for pid, _ in pending(made)] == [2]


def test_the_pipe_dates_an_end_by_whole_seconds() -> None:
    end = Entry("2026-01-01T00:00:00.000000Z", BOOT, "captured", pid=1)
    assert pending(ledger(line(ANNOUNCED), end)) == []
    assert pending(ledger(end, line(ANNOUNCED))) == []


def test_a_reused_pid_is_matched_by_time() -> None:
    first, second = line(ANNOUNCED, second=0), line(ANNOUNCED, second=30)
    assert pending(ledger(first, second, line("captured", second=30))) == [(1, first.time)]
    assert pending(ledger(first, second, line("captured", second=10))) == [(1, second.time)]


def test_a_clock_that_was_set_back_is_matched_by_order() -> None:
    first, second = line(ANNOUNCED, second=100), line(ANNOUNCED, second=110)
    assert pending(ledger(first, second, line("captured", second=5))) == [(1, second.time)]


def test_an_end_without_announcement_was_a_crash_too() -> None:
    """ENOBUFS, or a doorman alone while no guard ran."""
    made = ledger(line("captured"), line("captured", pid=2))
    assert (made.announced, pending(made)) == (2, [])


def test_an_announcement_that_comes_late_is_of_the_crash_that_has_ended() -> None:
    made = ledger(line("captured", second=1), line(ANNOUNCED, second=0))
    assert (made.announced, pending(made)) == (1, [])
    made.add(line(ANNOUNCED, second=1))  # the next of this PID is another
    assert (made.announced, len(pending(made))) == (2, 1)


def test_what_was_given_up_too_early_is_not_missed_any_more() -> None:
    made = ledger(line(ANNOUNCED), line("missed"), line("captured", second=9))
    assert made.announced == 1
    assert (made.counts["missed"], made.counts["captured"]) == (0, 1)


def test_what_was_missed_twice_is_two_crashes() -> None:
    assert ledger(line("missed"), line("missed", second=9)).counts["missed"] == 2


def test_another_boots_lines_do_not_count() -> None:
    made = ledger(line("captured", boot_id="x"), line(ANNOUNCED, boot_id="x"))
    assert (made.announced, sum(made.counts.values())) == (0, 0)


def test_what_was_carried_stands_for_all_before() -> None:
    carried = Entry("t", BOOT, CARRIED, counts={"captured": 7, "delivered": 3})
    made = ledger(line("captured"), line(ANNOUNCED, pid=9), carried, line("captured", pid=9))
    assert (made.counts["captured"], made.counts["delivered"], made.announced) == (8, 3, 8)


def test_dumps_are_counted_and_are_no_crashes() -> None:
    made = ledger(line("delivered"), line("set aside"), line("evicted"))
    assert (made.announced, made.counts["delivered"]) == (0, 1)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "MAX_PENDING", 3)
    made = Ledger(BOOT)
    assert [made.add(line(ANNOUNCED, pid)) for pid in range(5)] == [True] * 3 + [False] * 2
    for pid in range(5000):
        made.add(line("missed", pid))
    assert len(made._early) == len(made._missed) == account._REMEMBERED
    assert (made.announced, pending(made)) == (5000, [])


EVENTS = st.lists(
    st.tuples(st.sampled_from([ANNOUNCED, *ENDS]), st.integers(1, 3), st.integers(0, 20)), max_size=40
)


@given(EVENTS)
def test_nothing_gets_lost_and_no_number_goes_backwards(events: list[tuple[str, int, int]]) -> None:
    """A missed crash may turn out captured; all the others only grow, and the sum is that of its parts."""
    made, numbers = Ledger(BOOT), []
    for event in events:
        made.add(line(*event))
        assert made.announced == sum(made.counts[end] for end in ENDS) + len(pending(made))
        assert min(made.counts.values(), default=0) >= 0
        numbers.append((made.announced, made.counts["captured"]))
    assert all(a <= b and c <= d for (a, c), (b, d) in itertools.pairwise(numbers))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.250000Z", 1.25),
        ("1970-01-01T01:00:01+01:00", 1.0),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-02", 86400.0),
    ],
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "Z", "yesterday", "1970-13-01T00:00:00Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        seconds(text)
    assert ledger(Entry(text, BOOT, ANNOUNCED, pid=1), line("captured")).announced == 1
