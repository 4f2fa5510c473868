"""What one caller may have under way."""

from __future__ import annotations

import pytest

from coredump_shim.shares import Shares, share
from coredump_shim.status import ApiError


def test_one_caller_leaves_room_for_others() -> None:
    shares = Shares(2, "downloads")
    ends = [shares.take("alice"), shares.take("alice")]
    with pytest.raises(ApiError, match="you have 2 downloads under way") as caught:
        shares.take("alice")
    assert (caught.value.code, caught.value.retry_after) == (429, 1)
    shares.take("bob")
    ends.pop()()
    ends.append(shares.take("alice"))
    with pytest.raises(ApiError):
        shares.take("alice")


def test_who_has_none_under_way_takes_no_room() -> None:
    shares = Shares(1, "downloads")
    for number in range(10):
        shares.take(f"caller-{number}")()
    assert not shares._held


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 1), (64, 48), (128, 96)])
def test_a_share(limit: int, most: int) -> None:
    assert share(limit) == most
