"""The log's words for a store that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coredump_shim import beneath
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.trouble import said


def of(root: Path, *names: str) -> str:
    """Return the words for what cannot be opened."""
    with pytest.raises(OSError) as error, beneath.directory(str(root), *names):
        raise AssertionError("it can be opened")
    return said(error.value)


def test_what_is_not_there_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "demo" / "uid").mkdir(parents=True)
    away = "is the store mounted, and its file server up?"
    assert of(tmp_path / "away") == f"{tmp_path}/away: No such file or directory; {away}"
    assert of(tmp_path / "file") == f"{tmp_path}/file: Not a directory; {away}"
    assert of(tmp_path, "demo", "uid", "app") == f"demo/uid/app: No such file or directory; {away}"


@pytest.mark.parametrize(
    ("number", "remedy"), [(13, "must be able to write"), (30, "read-only"), (28, "full")]
)
def test_what_is_refused_says_what_the_controller_needs(number: int, remedy: str) -> None:
    assert remedy in said(OSError(number, os.strerror(number), "demo"))


def test_other_words_stay_as_they_are() -> None:
    assert said(Doubt("another cluster's")) == "another cluster's"
    assert said(OSError("it broke")) == "it broke"
