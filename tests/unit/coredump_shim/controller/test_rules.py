"""The rules' options, and what they decide."""

from __future__ import annotations

import argparse
import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import store
from coredump_shim.controller import rules
from coredump_shim.controller.rules import DAY, Rules


def parsed(*arguments: str) -> Rules:
    parser = argparse.ArgumentParser()
    rules.add_options(parser)
    return rules.parse(parser.parse_args(arguments))


def test_defaults_are_the_documented_ones() -> None:
    assert parsed() == Rules(gc_threshold=DAY, max_age=None, namespace_quota=None, unowned_age=30 * DAY)


def test_every_option_is_heard() -> None:
    said = ("--gc-threshold", "90s", "--max-age=7d", "--namespace-quota=10Gi", "--unowned-max-age=none")
    assert parsed(*said) == Rules(90, 7 * DAY, 10 << 30, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("24h", DAY), ("2w", 14 * DAY)]
)
def test_durations(text: str, seconds: float) -> None:
    assert rules.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("5k", 5000), ("1M", 10**6), ("2G", 2 * 10**9), ("1Ki", 1024), ("3Ti", 3 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert rules.size(text) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "90s"), (7199, "120m"), (90064, "25h"), (7 * DAY, "7d"), (30 * DAY, "30d")],
)
def test_durations_are_worded_as_they_are_said(seconds: float, text: str) -> None:
    assert rules.worded(seconds) == text
    assert abs(rules.duration(text) - seconds) <= seconds / 50


@pytest.mark.parametrize("option", ["--gc-threshold", "--max-age", "--namespace-quota", "--unowned-max-age"])
@pytest.mark.parametrize("text", ["", "-1d", "1", "1.5h", "10GB", "1 d", "1d ", "٣d", "1e9s", "x"])
def test_what_cannot_be_names_the_option(option: str, text: str) -> None:
    if option == "--namespace-quota" and text == "1":
        return
    with pytest.raises(ValueError, match=f"^{option}: .*such as"):
        parsed(f"{option}={text}")


@pytest.mark.parametrize("option", ["--max-age=0s", "--unowned-max-age=0d", "--namespace-quota=0"])
def test_what_would_remove_everything_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="would remove every dump"):
        parsed(option)


def test_a_threshold_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="--gc-threshold"):
        parsed("--gc-threshold=none")


@given(st.lists(st.integers(0, 4 * 10**9)), st.integers(1, 10**9), st.integers(0, 4 * 10**9))
def test_older_are_those_whose_time_is_before_the_limit(times: list[int], limit: int, now: int) -> None:
    ids = sorted(store.dump_id(when, "web", 1, "boot", number) for number, when in enumerate(times))
    expected = [id for id in ids if store.crash_of(id)[0] < max(0, now - limit)]
    assert list(rules.older(ids, limit, now)) == expected


def test_without_a_limit_nothing_is_too_old() -> None:
    when = calendar.timegm((2026, 1, 1, 0, 0, 0))
    assert list(rules.older([store.dump_id(0, "web", 1, "b", 1)], None, when)) == []


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 100), min_size=1), st.integers(0, 1000))
def test_as_many_go_as_must_and_no_more(where: list[int], sizes: list[int], bound: int) -> None:
    """Of dumps that lie in four directories, as if they were in one."""
    taken = [sizes[at % len(sizes)] for at in range(len(where))]
    directories: list[tuple[list[str], list[int]]] = [([], []) for _ in range(4)]
    for at, directory in enumerate(where):
        directories[directory][0].append(f"{at:04}")
        directories[directory][1].append(taken[at])
    counts = rules.excess(directories, bound)
    count = sum(counts)
    assert sum(taken[count:]) <= bound
    assert count == 0 or sum(taken[count - 1 :]) > bound
    assert counts == [where[:count].count(directory) for directory in range(4)], "the oldest of all"
