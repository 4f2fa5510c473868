"""Executables on their way to the store: by build-id, never in another's place, whatever interrupts it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from coredump_guard import copying, debugstore, machine
from coredump_guard.config import Config

from .conftest import fail_at, wait_for_log

ID = "ab" * 20


def put(config: Config, data: bytes, build_id: str = ID) -> str:
    """Let a file wait in the spool and return its sum's digits."""
    directory = Path(config.spool, copying.DIRECTORY)
    (directory / copying.STORED).mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()[:16]
    (directory / f"{build_id}.{digest}").write_bytes(data)
    return digest


def waiting(config: Config) -> list[str]:
    return [path.name for path in Path(config.spool, copying.DIRECTORY).iterdir() if path.is_file()]


def place(config: Config) -> Path:
    return Path(config.store, ".debug", ".build-id", ID[:2])


def stored(config: Config) -> dict[str, bytes]:
    return (
        {path.name: path.read_bytes() for path in place(config).iterdir()} if place(config).exists() else {}
    )


def test_a_file_gets_where_gdb_looks(config: Config) -> None:
    digest = put(config, b"program")
    debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program"}
    assert waiting(config) == []
    assert os.listdir(f"{config.spool}/debug/stored") == [f"{ID}.{digest}"]
    assert (place(config) / ID[2:]).stat().st_mode & 0o777 == 0o640


def test_without_anything_to_do(config: Config) -> None:
    debugstore.deliver(config)
    assert not Path(config.store, ".debug").exists()


def test_the_same_file_twice(config: Config) -> None:
    for _ in range(2):
        put(config, b"program")
        debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program"}
    assert waiting(config) == []


def test_another_file_with_the_same_build_id_gets_a_name_of_its_own(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    put(config, b"program")
    debugstore.deliver(config)
    for _ in range(2):
        digest = put(config, b"forged!")
        debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program", f"{ID[2:]}.{digest}": b"forged!"}
    assert waiting(config) == []
    assert wait_for_log(capsys, "two different files claim one build-id").count("two different files") == 1


@pytest.mark.parametrize("draft", [True, False])
def test_a_planted_link_is_not_followed(config: Config, tmp_path: Path, draft: bool) -> None:
    name = f".{ID[2:]}.{machine.identifier(config.state)}" if draft else ID[2:]
    secret = tmp_path / "secret"
    secret.write_bytes(b"program")
    place(config).mkdir(parents=True)
    (place(config) / name).symlink_to(secret)
    digest = put(config, b"program")
    debugstore.deliver(config)
    assert (place(config) / name).is_symlink() != draft
    assert secret.read_bytes() == b"program"
    copy = place(config) / (ID[2:] if draft else f"{ID[2:]}.{digest}")
    assert not copy.is_symlink()
    assert copy.read_bytes() == b"program"


def test_a_planted_directory_link_is_not_entered(config: Config, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(config.store, ".debug").symlink_to(tmp_path / "elsewhere")
    put(config, b"program")
    with pytest.raises(NotADirectoryError):
        debugstore.deliver(config)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(waiting(config)) == 1


@pytest.mark.parametrize("name", ["fsync", "link", "sendfile", "mkdir", "unlink"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_whatever_fails_the_next_time_it_is_done(
    config: Config, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    put(config, b"program")
    with monkeypatch.context() as patched:
        fail_at(patched, name, call)
        try:
            debugstore.deliver(config)
        except OSError:
            assert stored(config).get(ID[2:], b"program") == b"program"
    debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program"}
    assert waiting(config) == []


def test_where_a_file_system_has_no_links_it_is_renamed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    put(config, b"program")
    debugstore.deliver(config)
    digest = put(config, b"forged!")
    debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program", f"{ID[2:]}.{digest}": b"forged!"}


def test_what_the_store_had_long_ago_is_asked_again(config: Config) -> None:
    digest = put(config, b"program")
    debugstore.deliver(config)
    marker = Path(config.spool, copying.DIRECTORY, copying.STORED, f"{ID}.{digest}")
    debugstore.deliver(config)
    assert marker.exists()
    old = time.time() - debugstore.BELIEVED - 1
    os.utime(marker, (old, old))
    debugstore.deliver(config)
    assert not marker.exists()


def test_a_store_that_is_away(config: Config) -> None:
    put(config, b"program")
    os.rmdir(config.store)
    with pytest.raises(OSError, match="is it mounted"):
        debugstore.deliver(config)
    assert len(waiting(config)) == 1


def test_one_that_cannot_be_stored_keeps_none_behind_it(config: Config) -> None:
    put(config, b"program")
    bad = Path(config.spool, copying.DIRECTORY, f"00ff.{'0' * 16}")
    bad.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program"}
    assert waiting(config) == [bad.name]


def test_without_room_for_a_marker_it_is_delivered_all_the_same(config: Config) -> None:
    digest = put(config, b"program")
    Path(config.spool, copying.DIRECTORY, copying.STORED, f"{ID}.{digest}").mkdir()
    debugstore.deliver(config)
    assert stored(config) == {ID[2:]: b"program"}
    assert waiting(config) == []
