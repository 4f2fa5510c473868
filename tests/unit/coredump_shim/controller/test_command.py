"""The controller's options; what it does is in tests/cluster/test_controller.py."""

from __future__ import annotations

import argparse

import pytest

from coredump_shim.controller import command


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_options(parser)
    return parser.parse_args(["--in-cluster", "--store", "/srv", *arguments])


def test_whoever_runs_it_is_called_after_the_host() -> None:
    assert parsed().identity
    assert parsed("--identity", "gateway-1").identity == "gateway-1"


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "x" * 101])
def test_a_name_that_no_lease_may_hold_is_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=r"--identity.* must be 1 to 100 characters"):
        parsed("--identity", name)


@pytest.mark.parametrize("seconds", ["", "0", "-1", "1.5", "86401", "soon"])
@pytest.mark.parametrize("option", ["--resync", "--lease-seconds"])
def test_times_are_whole_seconds(option: str, seconds: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=f"{option}.* must be whole seconds, from 1 to 86400"):
        parsed(f"{option}={seconds}")
