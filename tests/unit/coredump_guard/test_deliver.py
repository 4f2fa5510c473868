"""Delivery of one dump: verified, invisible until whole, and safe to repeat after any interruption."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import deflate, drain, machine, store
from coredump_guard.config import Config
from coredump_guard.deliver import Vanished, deliver, namesakes, tidy
from coredump_guard.pickup import BrokenDump, LocalError
from coredump_guard.record import Core, Identity, Record
from coredump_guard.spool import Spool
from tests.support import dying

from .conftest import IDENTITY, Spooled, fail_at

CORE = b"\x7fELF" + bytes(range(256)) * 40


def visible(config: Config) -> list[Path]:
    """Return what readers of the store see as dumps."""
    root = Path(config.store)
    places = (top for top in root.iterdir() if not top.name.startswith("."))
    return [path for top in places for path in top.rglob("*") if store.is_dump_id(path.name)]


def drafts(config: Config) -> Path:
    return Path(config.store, store.incoming(config.node, machine.identifier(config.state)))


def announced(config: Config) -> dict[str, str]:
    inbox = Path(config.store, store.INBOX)
    return {path.name: path.read_text() for path in inbox.iterdir()} if inbox.exists() else {}


def assert_whole(path: Path, core: bytes = CORE) -> Record:
    record = Record.from_json((path / store.INFO).read_bytes())
    stored = (path / store.CORE).read_bytes()
    assert gzip.decompress(stored) == core
    assert record.core.stored_sha256 == hashlib.sha256(stored).hexdigest()
    assert record.core.sha256 == hashlib.sha256(core).hexdigest()
    assert sorted(os.listdir(path)) == ["core.gz", "info.json", "maps"]
    assert record.delivered is not None
    return record


def assert_complete(path: Path) -> None:
    """See that a dump is whole, with a core or without one."""
    record = Record.from_json((path / store.INFO).read_bytes())
    assert record.id == path.name
    if record.refused is None:
        assert_whole(path)
    else:
        assert sorted(os.listdir(path)) == ["info.json", "maps"]


def rewrite(spool: Spool, record: Record) -> Record:
    """Replace a waiting dump's record as a tally's next crash does, by one rename."""
    info = Path(spool.path(record.id), store.INFO)
    new = info.with_suffix(".new")
    new.write_text(record.to_json())
    new.replace(info)
    return record


def refuse(spool: Spool, record: Record, crashes: int = 1, until: str | None = None) -> Record:
    """Make a waiting dump one without a core."""
    for name in (store.CORE, store.RAW_CORE):
        Path(spool.path(record.id), name).unlink(missing_ok=True)
    refused = replace(record, refused="because", crashes=crashes, until=until, core=Core(0, 0))
    return rewrite(spool, refused)


def assert_delivered_once(spool: Spool, config: Config, dump_id: str, core: bytes = CORE) -> None:
    place = f"demo/{IDENTITY.poduid}/app/{dump_id}"
    assert visible(config) == [Path(config.store, place)]
    assert_whole(visible(config)[0], core)
    assert announced(config) == {dump_id: place + "\n"}
    assert os.listdir(drafts(config)) == []
    assert spool.pending() == []


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("core", [CORE, b"", bytes(3 * deflate.PIECE + 1)])
def test_delivered(spool: Spool, spooled: Spooled, config: Config, raw: bool, core: bytes) -> None:
    record = spooled(core, raw=raw)
    delivered = deliver(spool, record.id, config).record
    assert_delivered_once(spool, config, record.id, core)
    assert delivered == assert_whole(visible(config)[0], core)
    assert replace(delivered, core=record.core, delivered=None) == record


def test_a_raw_core_is_compressed_into_the_stored_form(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    raw = deliver(spool, spooled(CORE, raw=True).id, config)
    packed = deliver(spool, spooled(CORE, when=1_800_000_000).id, config)
    assert raw.record.core == packed.record.core


def test_modes_and_group(spool: Spool, spooled: Spooled, config: Config) -> None:
    group = os.getgid() if os.geteuid() else 4242
    deliver(spool, spooled().id, replace(config, group=group))
    for path in Path(config.store).rglob("*"):
        status = path.lstat()
        assert status.st_gid == group
        assert status.st_mode & 0o777 & ~(0o750 if path.is_dir() else 0o640) == 0


def test_a_dump_that_cannot_be_named_is_filed_as_unidentified(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = spooled(identity=Identity(container_id="c" * 64))
    deliver(spool, record.id, config)
    assert visible(config) == [Path(config.store, "_unidentified", "c" * 64, record.id)]


class Crash(BaseException):
    """The guard dies here: nothing of its own cleans up."""


STEPS = [
    (name, call)
    for name, calls in {
        "fsync": 20,
        "rename": 4,
        "replace": 1,
        "mkdir": 10,
        "fchmod": 8,
        "pwrite": 6,
        "unlink": 12,
    }.items()
    for call in range(1, calls + 1)
]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(("name", "call"), STEPS)
def test_a_crash_at_any_step_loses_nothing_and_shows_nothing_partial(
    spool: Spool,
    spooled: Spooled,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
    raw: bool,
) -> None:
    record = spooled(CORE, raw=raw)
    with monkeypatch.context() as patched:
        fail_at(patched, name, call, Crash())
        try:
            deliver(spool, record.id, config)
        except Crash:
            for path in visible(config):
                assert_whole(path)
            assert visible(config) or spool.pending() == [record.id]
            assert not announced(config) or visible(config)
    if spool.pending():
        deliver(spool, record.id, config)
    spool.abandoned()
    assert_delivered_once(spool, config, record.id)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["raw core", "quota", "tally"])
def test_killed_at_any_step_it_ends_in_one_whole_dump(
    spool: Spool, spooled: Spooled, config: Config, kind: str, after: bool
) -> None:
    config = replace(config, group=os.getgid(), quota=1 << 30 if kind == "quota" else config.quota)
    older = spooled(CORE, when=1_600_000_000)
    deliver(spool, older.id, config)
    for step in count(1):
        newer = spooled(CORE, when=1_700_000_000 + step, raw=kind == "raw core")
        if kind == "tally":
            newer = refuse(spool, newer, crashes=2)
        newer = rewrite(spool, replace(newer, replaces=older.id))
        died = dying.dies(partial(deliver, spool, newer.id, config), step, after=after)
        for path in visible(config):
            assert_complete(path)
        assert Path(config.store, announced(config).get(newer.id, ".").strip()).exists()
        spool.abandoned()
        if spool.pending():
            deliver(spool, newer.id, config)
        tidy(config, spool.pending())
        assert [path.name for path in visible(config)] == [newer.id]
        assert_complete(visible(config)[0])
        assert list(announced(config)) == [newer.id]
        assert os.listdir(drafts(config)) == spool.pending() == []
        older = newer
        if not died:
            break
    assert step > 15


def test_the_steps_above_reach_beyond_the_last(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a step which is added is crashed at as well."""
    calls = dict.fromkeys((name for name, _ in STEPS), 0)

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **named)

        return count

    for name in calls:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    record = spooled(raw=True)
    before = dict(calls)
    deliver(spool, record.id, config)
    for name, number in calls.items():
        assert 0 < number - before[name] <= max(call for step, call in STEPS if step == name), name


@pytest.mark.parametrize("error", [OSError(28, "No space left"), OSError(116, "Stale file handle")])
def test_a_store_that_fails_raises_and_a_repeat_delivers(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    record = spooled(CORE)
    with monkeypatch.context() as patched:
        fail_at(patched, "pwrite", 1, error)
        with pytest.raises(OSError, match=error.strerror):
            deliver(spool, record.id, config)
    assert spool.pending() == [record.id]
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)


def test_a_half_written_delivery_of_another_time_is_cleaned_up(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = spooled(CORE)
    draft = drafts(config) / record.id
    draft.mkdir(parents=True)
    (draft / "core.gz").write_bytes(b"half")
    (draft / "old").write_bytes(b"")
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)


def test_a_dump_that_the_store_has_already_is_announced_only(
    spool: Spool, spooled: Spooled, config: Config, tmp_path: Path
) -> None:
    record = spooled(CORE)
    shutil.copytree(spool.path(record.id), tmp_path / "kept")
    deliver(spool, record.id, config)
    inode = visible(config)[0].stat().st_ino
    Path(config.store, store.INBOX, record.id).unlink()
    shutil.copytree(tmp_path / "kept", spool.path(record.id))
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)
    assert visible(config)[0].stat().st_ino == inode


def test_a_missing_store_is_never_made(spool: Spool, spooled: Spooled, config: Config) -> None:
    record = spooled()
    os.rmdir(config.store)
    with pytest.raises(FileNotFoundError, match="is it mounted"):
        deliver(spool, record.id, config)
    assert not os.path.exists(config.store)
    assert spool.pending() == [record.id]


def truncate(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, (path / name).stat().st_size - 1)


def flip(name: str, at: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[at] ^= 0x10
        (path / name).write_bytes(data)

    return change


def rename_in_record(path: Path) -> None:
    info = path / store.INFO
    info.write_text(info.read_text().replace('"id": "2023', '"id": "../../2023'))


BREAKS = {
    "core cut": truncate("core.gz"),
    "core flipped": flip("core.gz", 40),
    "core's header flipped": flip("core.gz", 0),
    "core's end flipped": flip("core.gz", -1),
    "core empty": lambda path: os.truncate(path / "core.gz", 0),
    "core missing": lambda path: os.unlink(path / "core.gz"),
    "record cut": truncate("info.json"),
    "record empty": lambda path: os.truncate(path / "info.json", 0),
    "record missing": lambda path: os.unlink(path / "info.json"),
    "record of another dump": rename_in_record,
}


@pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS)
def test_corrupted_in_the_spool_is_broken(
    spool: Spool, spooled: Spooled, config: Config, damage: Callable[[Path], None]
) -> None:
    record = spooled(CORE)
    damage(Path(spool.path(record.id)))
    if damage is BREAKS["record cut"]:  # the last byte is a newline
        truncate("info.json")(Path(spool.path(record.id)))
    with pytest.raises(BrokenDump):
        deliver(spool, record.id, config)
    assert visible(config) == []
    assert announced(config) == {}
    assert spool.pending() == [record.id]


@pytest.mark.parametrize("damage", [truncate("core"), lambda path: os.unlink(path / "core")])
def test_a_raw_core_corrupted_in_the_spool_is_broken(
    spool: Spool, spooled: Spooled, config: Config, damage: Callable[[Path], None]
) -> None:
    record = spooled(CORE, raw=True)
    damage(Path(spool.path(record.id)))
    with pytest.raises(BrokenDump):
        deliver(spool, record.id, config)
    assert visible(config) == []


def test_a_core_that_inflates_to_another_size_is_broken(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = spooled(CORE)
    wrong = replace(record, core=replace(record.core, bytes=record.core.bytes + 1))
    Path(spool.path(record.id), store.INFO).write_text(wrong.to_json())
    with pytest.raises(BrokenDump, match=f"inflates to {len(CORE)} bytes, its record says {len(CORE) + 1}"):
        deliver(spool, record.id, config)


@pytest.mark.parametrize("at", [0, 40, -1])
def test_corrupted_on_the_way_is_tried_again(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    record = spooled(CORE)
    real = os.pwrite

    def bad(out: int, data: memoryview, offset: int) -> int:
        sent = real(out, data, offset)
        if os.readlink(f"/proc/self/fd/{out}").endswith("core.gz"):
            real(out, b"\xaa", (at + sent) % sent)
        return sent

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", bad)
        with pytest.raises(OSError, match="read back from the store differs"):
            deliver(spool, record.id, config)
    assert visible(config) == []
    assert announced(config) == {}
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)


def test_no_room_to_compress_is_tried_again(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spooled(CORE, raw=True)
    with monkeypatch.context() as patched:
        patched.setattr(drain, "write_all", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match=r"No space|no room"):
            deliver(spool, record.id, config)
    assert spool.record(record.id) == record
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)


@pytest.mark.parametrize(
    "planted",
    [".incoming", "DRAFTS", ".inbox", "demo", f"demo/{IDENTITY.poduid}", "PLACE"],
)
def test_cve_2019_7307_symlinks_planted_in_the_store_are_not_followed(
    spool: Spool, spooled: Spooled, config: Config, tmp_path: Path, planted: str
) -> None:
    record = spooled(CORE)
    names = {"DRAFTS": f".incoming/{drafts(config).name}", "PLACE": f"demo/{IDENTITY.poduid}/app"}
    outside = tmp_path / "outside"
    # What a delivery that followed the link would remove: a directory of the draft's name.
    for victim in (record.id, f"{drafts(config).name}/{record.id}"):
        (outside / victim).mkdir(parents=True)
        (outside / victim / "precious").write_text("")
    before = sorted(outside.rglob("*"))
    link = Path(config.store, names.get(planted, planted))
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(OSError, match=r"not a directory|symbolic link"):
        deliver(spool, record.id, config)
    assert sorted(outside.rglob("*")) == before
    assert spool.pending() == [record.id]
    assert gzip.decompress(Path(spool.path(record.id), store.CORE).read_bytes()) == CORE


def test_a_symlink_to_the_spool_does_not_make_delivery_remove_it(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = spooled(CORE)
    Path(config.store, ".incoming").mkdir()
    drafts(config).symlink_to(spool.ready)
    with pytest.raises(OSError, match="not a directory"):
        deliver(spool, record.id, config)
    assert spool.record(record.id) == record


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_place_of_the_dump_gives_way(
    spool: Spool, spooled: Spooled, config: Config, tmp_path: Path, dangling: bool
) -> None:
    record = spooled(CORE)
    place = Path(config.store, "demo", IDENTITY.poduid, "app")
    place.mkdir(parents=True)
    if not dangling:
        shutil.copytree(spool.path(record.id), tmp_path / "elsewhere")
    (place / record.id).symlink_to(tmp_path / "elsewhere")
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)
    assert dangling or sorted(os.listdir(tmp_path / "elsewhere")) == ["core.gz", "info.json", "maps"]


def test_an_empty_directory_in_place_of_the_dump_is_not_the_dump(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = spooled(CORE)
    Path(config.store, "demo", IDENTITY.poduid, "app", record.id).mkdir(parents=True)
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)


@pytest.mark.parametrize("crash_at", [None, 1, 2, 3, 4])
def test_a_directory_without_a_record_gives_way_to_the_dump(
    spool: Spool,
    spooled: Spooled,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    crash_at: int | None,
) -> None:
    record = spooled(CORE)
    place = Path(config.store, "demo", IDENTITY.poduid, "app", record.id)
    place.mkdir(parents=True)
    (place / store.CORE).write_bytes(b"half")
    (tmp_path / "precious").write_text("")
    (place / "link").symlink_to(tmp_path)
    if crash_at is not None:
        with monkeypatch.context() as patched, pytest.raises(Crash):
            fail_at(patched, "rename", crash_at, Crash())
            deliver(spool, record.id, config)
    deliver(spool, record.id, config)
    spool.abandoned()
    assert_delivered_once(spool, config, record.id)
    assert (tmp_path / "precious").exists()


def test_tidying_removes_what_is_not_pending_and_follows_no_link(config: Config, tmp_path: Path) -> None:
    incoming, outside = drafts(config), tmp_path / "outside"
    gone, kept, linked = (store.dump_id(when, "/bin/app", 1, "boot", 1) for when in (1e9, 2e9, 3e9))
    for directory in (incoming / gone, incoming / kept, incoming / f"{gone}.incomplete", outside):
        directory.mkdir(parents=True)
        (directory / "core.gz").write_bytes(b"")
    (incoming / gone / "link").symlink_to(outside)
    (incoming / linked).symlink_to(outside)
    (incoming / f"{gone}.inbox").write_text("")
    tidy(config, [kept])
    assert os.listdir(incoming) == [kept]
    assert os.listdir(outside) == ["core.gz"]


@pytest.mark.parametrize("parents", [0, 1])
def test_tidying_follows_no_link_on_its_way(config: Config, tmp_path: Path, parents: int) -> None:
    gone = store.dump_id(1e9, "/bin/app", 1, "boot", 1)
    for name in (gone, f"{drafts(config).name}/{gone}"):
        (tmp_path / "outside" / name).mkdir(parents=True)
    link = [drafts(config), drafts(config).parent][parents]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "outside")
    before = sorted((tmp_path / "outside").rglob("*"))
    with pytest.raises(NotADirectoryError):
        tidy(config, [])
    assert sorted((tmp_path / "outside").rglob("*")) == before


@pytest.mark.parametrize("name", [".inbox", "demo", ".incoming"])
def test_a_file_in_place_of_a_directory_is_told(
    spool: Spool, spooled: Spooled, config: Config, name: str
) -> None:
    Path(config.store, name).write_text("")
    with pytest.raises(NotADirectoryError, match=f"{name} in the store is not a directory"):
        deliver(spool, spooled().id, config)


def test_a_crash_without_a_core_is_delivered_like_any_other(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    record = refuse(spool, spooled())
    delivered = deliver(spool, record.id, config).record
    assert_complete(visible(config)[0])
    assert replace(delivered, delivered=None) == record
    assert list(announced(config)) == [record.id]
    assert spool.pending() == []


def put_back(spool: Spool, spooled: Spooled, crashes: int) -> Record:
    """Put the same tally into the spool again, for more crashes or fewer."""
    return refuse(spool, spooled(), crashes, f"2023-11-14T22:13:{crashes:02}.000000Z")


def test_a_tally_that_went_on_takes_the_place_of_the_older_one(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    for crashes in (3, 40, 7):
        tally = put_back(spool, spooled, crashes)
        Path(config.store, store.INBOX, tally.id).unlink(missing_ok=True)
        delivered = deliver(spool, tally.id, config).record
        stored = Record.from_json((visible(config)[0] / store.INFO).read_bytes())
        assert delivered == stored
        assert stored.crashes == max(3, crashes, 40 if crashes == 7 else 0)
        assert list(announced(config)) == [tally.id]
        assert spool.pending() == os.listdir(drafts(config)) == []


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_a_tally_is_brought_up_to_date(
    spool: Spool, spooled: Spooled, config: Config, after: bool
) -> None:
    deliver(spool, put_back(spool, spooled, 1).id, config)
    for step in count(1):
        tally = put_back(spool, spooled, 1 + step)
        died = dying.dies(partial(deliver, spool, tally.id, config), step, after=after)
        assert_complete(visible(config)[0])
        spool.abandoned()
        if spool.pending():
            deliver(spool, tally.id, config)
        tidy(config, [])
        assert Record.from_json((visible(config)[0] / store.INFO).read_bytes()).crashes == 1 + step
        assert os.listdir(drafts(config)) == []
        if not died:
            break
    assert step > 5


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_tally_that_goes_on_while_it_is_delivered_stays_in_the_spool(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    tally = put_back(spool, spooled, 2)
    newer = replace(tally, crashes=9)
    real, left = os.rename, [call]

    def rename(*arguments: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            try:
                rewrite(spool, newer)
            except FileNotFoundError:  # it is being removed: a capture begins the tally anew
                with spool.draft(tally.id) as draft:
                    draft.write(store.INFO, newer.to_json().encode())
        real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        superseded = deliver(spool, tally.id, config).superseded
    assert superseded == (spool.pending() == [tally.id])
    if spool.pending():
        assert spool.record(tally.id) == newer
        deliver(spool, tally.id, config)
        assert Record.from_json((visible(config)[0] / store.INFO).read_bytes()).crashes == 9
    else:
        assert left[0] > 0


def test_a_whole_dump_never_gives_way_to_a_record_alone(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    whole = spooled(CORE)
    deliver(spool, whole.id, config)
    deliver(spool, put_back(spool, spooled, 5).id, config)
    assert_delivered_once(spool, config, whole.id)


def replaced_by(spool: Spool, spooled: Spooled, replaces: str) -> Record:
    return rewrite(spool, replace(spooled(CORE, when=1_800_000_000), replaces=replaces))


def test_the_dump_that_is_replaced_goes_after_the_new_one_came(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    old = spooled(CORE)
    deliver(spool, old.id, config)
    new = replaced_by(spool, spooled, old.id)
    evicted = deliver(spool, new.id, config).evicted
    assert evicted is not None
    assert evicted.id == old.id
    assert_delivered_once(spool, config, new.id)


@pytest.mark.parametrize(
    "replaces", ["", "..", "../../../../precious", "/etc", "20231114T221320Z-gone-1-00000000"]
)
def test_nothing_else_is_ever_evicted(spool: Spool, spooled: Spooled, config: Config, replaces: str) -> None:
    new = replaced_by(spool, spooled, replaces)
    Path(config.store).with_name("precious").mkdir()
    assert deliver(spool, new.id, config).evicted is None
    assert Path(config.store).with_name("precious").exists()
    assert_delivered_once(spool, config, new.id)


@pytest.mark.parametrize(
    "spoil", ["another node's", "no record", "another id", "a link", "another container"]
)
def test_only_this_nodes_own_dump_of_the_same_container_is_evicted(
    spool: Spool, spooled: Spooled, config: Config, tmp_path: Path, spoil: str
) -> None:
    owner = replace(IDENTITY, container="other") if spoil == "another container" else IDENTITY
    old = spooled(CORE, identity=owner)
    deliver(spool, old.id, config)
    place = visible(config)[0]
    info = place / store.INFO
    if spoil == "another node's":
        info.write_text(replace(old, node="node-2").to_json())
    elif spoil == "another id":
        info.write_text(replace(old, id=old.id + "0").to_json())
    elif spoil == "no record":
        info.unlink()
    elif spoil == "a link":
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
        place = tmp_path / "moved"
    new = replaced_by(spool, spooled, old.id)
    assert deliver(spool, new.id, config).evicted is None
    assert gzip.decompress((place / store.CORE).read_bytes()) == CORE


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_dump_that_vanishes_meanwhile_is_no_error(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Its crash loop went on, and a newer dump took its place in the spool."""
    record = spooled(CORE)
    real, left = os.pwrite, [call]

    def pwrite(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] == 0:
            shutil.rmtree(spool.path(record.id))
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    if call < 3:
        with pytest.raises(Vanished):
            deliver(spool, record.id, config)
        tidy(config, [])
        assert visible(config) == []
        assert os.listdir(drafts(config)) == []
    else:
        deliver(spool, record.id, config)
        assert_delivered_once(spool, config, record.id)


def hostile(plant: str, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if plant == "fifo":
        os.mkfifo(path)
    elif plant == "directory":
        (path / "below").mkdir(parents=True)
    elif plant == "link":
        path.symlink_to(tmp_path / "outside" / "precious")
    elif plant == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes(b'{"id": ' * 1000)


@pytest.mark.parametrize("plant", ["fifo", "directory", "link", "huge", "rubbish"])
@pytest.mark.parametrize("where", ["info.json", "core.gz", "draft", "draft/core.gz", "announcement", "tally"])
def test_a_hostile_store_gets_no_hold_of_a_delivery(
    spool: Spool, spooled: Spooled, config: Config, tmp_path: Path, plant: str, where: str
) -> None:
    record = spooled(CORE)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    place = Path(config.store, "demo", IDENTITY.poduid, "app", record.id)
    if where == "core.gz":
        place.mkdir(parents=True)
        (place / store.INFO).write_text(record.to_json())
    paths = {
        "info.json": place / store.INFO,
        "core.gz": place / store.CORE,
        "draft": drafts(config) / record.id,
        "draft/core.gz": drafts(config) / record.id / store.CORE,
        "announcement": drafts(config) / f"{record.id}.inbox",
        "tally": drafts(config) / f"{record.id}.incomplete",
    }
    hostile(plant, paths[where], tmp_path)
    deliver(spool, record.id, config)
    assert_delivered_once(spool, config, record.id)
    assert (tmp_path / "outside" / "precious").read_text() == "precious"


def test_two_machines_of_one_name_keep_out_of_each_others_drafts(
    spool: Spool, spooled: Spooled, config: Config
) -> None:
    theirs = Path(config.store, store.incoming(config.node, "0123abcd"))
    others = [theirs.with_name(name) for name in ("node-10.0123abcd", "node-1.x.0123abcd", "node-1.old")]
    assert namesakes(config) == []
    for directory in (theirs, *others):
        (directory / spooled().id).mkdir(parents=True)
        spool.remove(spool.pending()[0])
    record = spooled(CORE)
    deliver(spool, record.id, config)
    tidy(config, [])
    assert_delivered_once(spool, config, record.id)
    assert all(os.listdir(directory) for directory in (theirs, *others))
    assert namesakes(config) == [theirs.name]
    os.utime(theirs, (0, 0))
    assert namesakes(config) == []


def test_the_spools_own_disk_is_told_from_the_store(
    spool: Spool, spooled: Spooled, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spooled(CORE)
    with monkeypatch.context() as patched:
        fail_at(patched, "listdir", 1)
        with pytest.raises(LocalError, match="Input/output"):
            deliver(spool, record.id, config)
    with monkeypatch.context() as patched:
        fail_at(patched, "pwrite", 1)
        with pytest.raises(OSError, match="Input/output") as raised:
            deliver(spool, record.id, config)
        assert not isinstance(raised.value, LocalError)
