"""Files of created and deleted endpoints."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim.kept import Keeper, Kept

KEPT = Kept("uid", "2026-01-01T00:00:00Z", "pod-uid", {"a": "b"}, {"c": "d\n\0ü"})


def test_what_is_put_is_there_for_another_keeper(tmp_path: Path) -> None:
    Keeper(str(tmp_path)).put("demo", "web", KEPT)
    assert Keeper(str(tmp_path)).all("demo") == {"web": KEPT}
    assert Keeper(str(tmp_path)).namespaces() == ["demo"]


def test_longest_name_fits(tmp_path: Path) -> None:
    name = "a" * 253
    Keeper(str(tmp_path)).put("demo", name, KEPT)
    assert list(Keeper(str(tmp_path)).all("demo")) == [name]


def test_nothing_kept_yet(tmp_path: Path) -> None:
    keeper = Keeper(f"{tmp_path}/none/state")
    assert (keeper.namespaces(), keeper.all("demo")) == ([], {})


@given(st.one_of(st.sampled_from(["..", ".", "", "../x", "a/b", "a\0", "a" * 254, "A", ".new-x"]), st.text()))
def test_no_name_escapes(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("root")
    keeper = Keeper(str(root / "state"))
    for namespace, endpoint in ((name, "web"), ("demo", name)):
        try:
            keeper.put(namespace, endpoint, KEPT)
        except ValueError:
            continue
        assert list(keeper.all(namespace)) == [endpoint]
    assert keeper.all(name) in ({}, {"web": KEPT})
    assert os.listdir(root) in ([], ["state"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        '{"uid": 5}',
        '{"labels": {"a": 1}}',
        '{"labels": []}',
        '{"hidden": [1]}',
        "[" * 100_000,
    ],
)
def test_file_that_is_broken_is_left_out(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    Keeper(str(tmp_path)).put("demo", "good", KEPT)
    (tmp_path / "demo" / "bad").write_text(text)
    assert list(Keeper(str(tmp_path)).all("demo")) == ["good"]
    assert "demo/bad" in caplog.text


def test_broken_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "bad").write_text("{")
    keeper = Keeper(str(tmp_path))
    for _ in range(5):
        assert keeper.all("demo") == {}
    assert caplog.text.count("demo/bad") == 1


@pytest.mark.parametrize("place", ["state", "state/demo", "state/demo/web"])
def test_no_symlink_is_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    Keeper(f"{tmp_path}/elsewhere/state").put("demo", "web", KEPT)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "elsewhere" / place)
    keeper = Keeper(f"{tmp_path}/state")
    assert keeper.all("demo") == {}
    with contextlib.suppress(OSError):
        keeper.put("demo", "web", Kept())
    assert Keeper(f"{tmp_path}/elsewhere/state").all("demo") == {"web": KEPT}


def test_half_written_file_is_not_seen(tmp_path: Path) -> None:
    Keeper(str(tmp_path)).put("demo", "web", KEPT)
    (tmp_path / "demo" / ".new-123").write_text("{")
    assert list(Keeper(str(tmp_path)).all("demo")) == ["web"]


def test_fields_of_later_versions_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "web").write_text('{"uid": "u", "later": 1}')
    assert Keeper(str(tmp_path)).all("demo") == {"web": Kept(uid="u")}
