"""A clock that is wrong, whosever it is, has nothing removed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from coredump_shim.controller import clocks
from coredump_shim.controller.doubt import Doubt

RIGHT = {"the controller's": 1e9, "kube-apiserver's": 1e9 + 10, "the store's": 1e9 - 10}


def test_clocks_that_agree() -> None:
    clocks.check(RIGHT)


@pytest.mark.parametrize("whose", RIGHT)
@pytest.mark.parametrize("off", [-3600, 3600])
def test_one_that_is_wrong_is_named(whose: str, off: int) -> None:
    with pytest.raises(Doubt, match=f"{whose} clock.*NTP"):
        clocks.check(RIGHT | {whose: RIGHT[whose] + off})


def test_one_that_cannot_be_read_is_no_clock() -> None:
    with pytest.raises(Doubt, match="kube-apiserver's clock cannot be read"):
        clocks.check(RIGHT | {"kube-apiserver's": None})


def test_the_store_tells_its_time_and_keeps_nothing(tmp_path: Path) -> None:
    assert abs(clocks.of_store(str(tmp_path)) - time.time()) < 60
    assert [path.name for path in tmp_path.rglob("*")] == [".gone"]


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".gone").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"\.gone"):
        clocks.of_store(str(tmp_path))
