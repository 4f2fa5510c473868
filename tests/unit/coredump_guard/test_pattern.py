"""core_pattern of ours: what is built is what comes back, through the kernel's own rules of expansion."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import pattern
from coredump_guard.pattern import Crash, is_ours, parse_arguments, pipe_pattern, socket_pattern

INTERPRETER, DOORMAN = "/usr/bin/python3", "/run/coredump-guard/doorman.py"


def expanded(core_pattern: str, values: dict[str, str]) -> list[str]:
    """Return the arguments of the doorman as format_corename in fs/coredump.c makes them, since Linux 5.3."""
    words = core_pattern.removeprefix("|").split(" ")
    return [re.sub("%(.)", lambda found: values.get(found[1], ""), word) for word in words][4:]


def kernels(**values: str) -> dict[str, str]:
    given = {
        "P": "300",
        "I": "301",
        "s": "11",
        "t": "1700000000",
        "d": "1",
        "c": "0",
        "F": "3",
        "h": "web",
        "e": "app",
    }
    return {**given, **values}


ONE = Crash(300, 301, 11, 1_700_000_000.0, 1, 0, "web", "app")


def test_what_the_kernel_makes_of_the_pattern_is_parsed_back() -> None:
    assert parse_arguments(expanded(pipe_pattern(INTERPRETER, DOORMAN), kernels())) == ONE


def test_no_position_shifts_where_the_kernel_knows_no_pidfd() -> None:
    values = kernels()
    del values["F"]
    assert parse_arguments(expanded(pipe_pattern(INTERPRETER, DOORMAN), values)) == ONE


def test_unlimited_rlimit_core_comes_back() -> None:
    crash = parse_arguments(expanded(pipe_pattern(INTERPRETER, DOORMAN), kernels(c=str((1 << 64) - 1))))
    assert crash.rlimit_core == pattern.UNLIMITED


NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=64)


@given(hostname=NAME, comm=NAME)
def test_hostile_names_shift_nothing(hostname: str, comm: str) -> None:
    crash = parse_arguments(expanded(pipe_pattern(INTERPRETER, DOORMAN), kernels(h=hostname, e=comm)))
    assert (crash.pid, crash.tid, crash.signal, crash.dumpable) == (300, 301, 11, 1)
    assert (crash.hostname, crash.comm) == (hostname, comm)


@pytest.mark.parametrize("comm", ["a b) c", "1 2 3", "%P %h", "F", "\n", "-I", "a\udcff"])
def test_cve_2021_25682_comm_with_spaces_and_brackets_before_linux_5_3(comm: str) -> None:
    """Older kernels split after the expansion: a comm of several words comes as several arguments."""
    line = " ".join(expanded(pipe_pattern(INTERPRETER, DOORMAN), kernels(e=comm)))
    crash = parse_arguments(line.split(" "))
    assert (crash.pid, crash.signal, crash.hostname, crash.comm) == (300, 11, "web", comm)


def test_names_may_be_empty() -> None:
    assert parse_arguments(expanded(pipe_pattern(INTERPRETER, DOORMAN), kernels(e=""))).comm == ""
    assert parse_arguments(["1", "1", "6", "5", "1", "0", "F", ""]).hostname == ""


def test_a_time_of_zero_is_now() -> None:
    assert parse_arguments(["1", "1", "6", "0", "1", "0", "F", "h", "c"]).time > 1_700_000_000


def test_the_mode_is_kept() -> None:
    assert parse_arguments(["1", "1", "6", "5", "1", "0", "F", "h", "c"], mode="alone").mode == "alone"


@given(st.lists(st.text(max_size=30), max_size=12))
def test_whatever_arguments_raise_nothing_but_value_error(arguments: list[str]) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_arguments(arguments), Crash)


@given(st.integers(0, 5), st.text(max_size=30))
def test_one_bad_number_raises_nothing_but_value_error(position: int, bad: str) -> None:
    arguments = ["1", "1", "6", "5", "1", "0", "F", "h", "c"]
    arguments[position] = bad
    try:
        assert isinstance(parse_arguments(arguments), Crash)
    except ValueError as error:
        assert len(str(error)) < 500


@pytest.mark.parametrize("bad", ["", "-1", "1.5", "1e3", " 1", "٣", "²", "9" * 21, "0x1"])
def test_what_is_no_number_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a number from core_pattern"):
        parse_arguments([bad, "1", "6", "5", "1", "0", "F", "h", "c"])


def test_too_few_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="7 arguments from core_pattern"):
        parse_arguments(["1", "1", "6", "5", "1", "0", "F"])


def test_an_argument_without_its_f_is_refused() -> None:
    with pytest.raises(ValueError, match="should begin with F, is '3'"):
        parse_arguments(["1", "1", "6", "5", "1", "0", "3", "h", "c"])


def test_the_longest_pattern_has_127_characters() -> None:
    room = pattern.MAX_LENGTH - len(pipe_pattern("/p", "/" + pattern.DOORMAN))
    longest = pipe_pattern("/p", "/" + "d" * room + pattern.DOORMAN)
    assert len(longest) == 127
    with pytest.raises(ValueError, match="would be 128 characters long, at most 127"):
        pipe_pattern("/p", "/d" + "d" * room + pattern.DOORMAN)
    with pytest.raises(ValueError, match="at most 127"):
        pipe_pattern("/p", "/" + "é" * room + pattern.DOORMAN)


@pytest.mark.parametrize(
    ("interpreter", "doorman"),
    [
        ("/my python", DOORMAN),
        (INTERPRETER, "/a b/doorman.py"),
        ("/opt/%e/python3", DOORMAN),
        (INTERPRETER, "/run/coredump-guard%P/doorman.py"),
    ],
)
def test_a_path_that_the_kernel_would_split_or_expand_is_refused(interpreter: str, doorman: str) -> None:
    with pytest.raises(ValueError, match="cannot hold a path with a space or a '%': /"):
        pipe_pattern(interpreter, doorman)


@pytest.mark.parametrize("path", ["/a b/kernel.sock", "/run/coredump-guard-%h/kernel.sock"])
def test_a_socket_that_the_kernel_would_expand_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot hold a path with a space or a '%': /"):
        socket_pattern(path)


def test_the_kernels_socket() -> None:
    assert socket_pattern("/run/coredump-guard/kernel.sock") == "@@/run/coredump-guard/kernel.sock"


@pytest.mark.parametrize("path", ["", "kernel.sock", "/" + "x" * 105])
def test_what_the_kernel_would_not_connect_to_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path that the kernel would connect to"):
        socket_pattern(path)


@pytest.mark.parametrize(
    "ours",
    [
        pipe_pattern(INTERPRETER, DOORMAN),
        pipe_pattern(INTERPRETER, DOORMAN) + "\n",
        pipe_pattern("/opt/python3.9/bin/python3.9", "/tmp/x/coredump-guard-test/doorman.py"),
        "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py",
        "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py %P %an_older_version",
        socket_pattern("/run/coredump-guard/kernel.sock"),
        "@/run/coredump-guard/kernel.sock",
        "@@/tmp/coredump-guard7/kernel.sock\n",
    ],
)
def test_is_ours(ours: str) -> None:
    assert is_ours(ours)


@pytest.mark.parametrize(
    "foreign",
    [
        "core",
        "",
        "core.%p",
        "/var/cores/coredump-guard/doorman.py",
        "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h %d %F",
        "@@/run/systemd/coredump",
        "|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -F%F -- %E",
        "|/usr/share/coredump-guard/doorman.py %P",
        "|/usr/bin/python3 /run/coredump-guard/doorman.py",
        "|/bin/false",
        "|/usr/bin/python3 -I -S /run/other/doorman.py %P",
        "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.pyc",
        "|/bin/log -I -S x /run/coredump-guard/doorman.py",
        "@@/run/coredump-guard/other.sock",
        "x|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py",
    ],
)
def test_is_not_ours(foreign: str) -> None:
    assert not is_ours(foreign)


@given(st.text())
def test_any_text_is_judged_without_exception(text: str) -> None:
    assert is_ours(text) in (True, False)
