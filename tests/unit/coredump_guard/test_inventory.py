"""What a person asks for: the spool's dumps, one of them, and what became of the others."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import inventory, journal
from coredump_guard.config import Config
from coredump_guard.inventory import NoSuchDump
from coredump_guard.journal import Entry
from coredump_guard.record import Identity, Record
from coredump_guard.spool import Spool

from .conftest import IDENTITY, Spooled

HOSTILE = "/x\n\x1b[2Jforged"


def note(config: Config, event: str, **values: str) -> None:
    os.makedirs(config.state, exist_ok=True)
    journal.append(config.state, Entry("2026-01-01T00:00:00Z", "b", event, **values))  # type: ignore[arg-type]


def rewrite(spool: Spool, record: Record) -> None:
    Path(spool.path(record.id), "info.json").write_text(record.to_json())


def test_the_spool_and_the_states_of_its_dumps(config: Config, spool: Spool, spooled: Spooled) -> None:
    first, second, third = (spooled(when=1_600_000_000 + number) for number in range(3))
    aside = spool.set_aside(second.id)
    os.rename(aside, f"{aside}.1")  # it was set aside before
    os.rename(spool.path(third.id), f"{spool.root}/incoming/{third.id}")
    Path(spool.root, "incoming", third.id, "info.json").write_text("")
    os.makedirs(f"{spool.root}/incoming/nothing of ours")
    found = inventory.dumps(config)
    assert [(dump["id"], dump["state"]) for dump in found] == [
        (first.id, "waiting"),
        (f"{second.id}.1", "set aside"),
        (third.id, "being captured"),
    ]
    assert (found[0]["whose"], found[0]["signal"]) == ("demo/web/app", "SIGSEGV")
    assert found[0]["bytes"] >= 4096
    assert (found[2]["whose"], found[2]["signal"], found[2]["time"]) == ("", "", "")
    head, *rows = inventory.table(found).splitlines()
    assert head.split() == ["STATE", "SIZE", "SIGNAL", "WHOSE", "ID"]
    assert [row.split()[-1] for row in rows] == [dump["id"] for dump in found]
    assert "-  " in rows[2]


def test_a_dump_that_is_being_removed_was_delivered(config: Config, spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    os.rename(spool.path(record.id), f"{spool.root}/incoming/{record.id}.delivered")
    (dump,) = inventory.dumps(config)
    assert (dump["id"], dump["state"]) == (record.id, "delivered, being removed")


def test_an_empty_spool(config: Config) -> None:
    assert inventory.dumps(config) == []
    assert inventory.table([]) == "The spool is empty.\n"


def test_one_dump_by_the_beginning_of_its_id(config: Config, spooled: Spooled) -> None:
    record, other = spooled(when=1_600_000_000), spooled(when=1_700_000_000)
    note(config, "captured", dump=record.id)
    found = inventory.find(config, record.id[:8])
    assert (found["id"], found["state"], found["path"]) == (
        record.id,
        "waiting",
        f"{config.spool}/ready/{record.id}",
    )
    assert json.loads(json.dumps(found))["record"]["id"] == record.id
    assert [entry["event"] for entry in found["journal"]] == ["captured"]
    text = inventory.render(found)
    assert "demo/web/app" in text
    assert "; whole\n" in text
    assert other.id not in text


def test_a_dump_that_has_left_the_spool(config: Config) -> None:
    note(config, "captured", dump="20260101T000000Z-app-1-01234567", executable=HOSTILE)
    note(config, "delivered", dump="20260101T000000Z-app-1-01234567")
    found = inventory.find(config, "2026")
    assert (found["state"], found["path"], found["record"]) == ("delivered", "", None)
    text = inventory.render(found)
    assert text.count("\n") == 4
    assert "\x1b" not in text


def test_a_record_for_a_person_is_escaped(config: Config, spool: Spool, spooled: Spooled) -> None:
    record = spooled(identity=Identity(host=True))
    process = replace(record.process, executable=HOSTILE, cmdline=[HOSTILE, "b"])
    core = replace(record.core, truncated=HOSTILE)
    rewrite(spool, replace(record, process=process, core=core, files=[HOSTILE]))
    text = inventory.render(inventory.find(config, record.id))
    assert all(line.isprintable() for line in text.splitlines())
    assert "  forged" not in text
    assert "CUT: " in text
    assert " whose  host\n" in text


def test_a_tally_and_a_refusal(config: Config, spool: Spool, spooled: Spooled) -> None:
    record = spooled()
    rewrite(spool, replace(record, refused="a crash loop", crashes=7, until="2026-01-01T00:00:00Z"))
    text = inventory.render(inventory.find(config, record.id))
    assert 'core  NOT KEPT: "a crash loop"\n' in text
    assert "until  2026-01-01T00:00:00Z, 7 crashes\n" in text


@pytest.mark.parametrize("wanted", ["", "x", "../../etc", "20990101", "\x1b[2J"])
def test_an_id_of_nothing_names_what_there_is(config: Config, spooled: Spooled, wanted: str) -> None:
    record = spooled()
    with pytest.raises(NoSuchDump) as raised:
        inventory.find(config, wanted)
    assert f"in the spool: {record.id}; those before: coredump-guard log" in str(raised.value)
    assert str(raised.value).isprintable()


def test_an_ambiguous_id_names_the_dumps(config: Config, spooled: Spooled) -> None:
    ids = [spooled(when=1_600_000_000 + number).id for number in range(2)]
    with pytest.raises(NoSuchDump) as raised:
        inventory.find(config, ids[0][:8])
    assert str(raised.value) == f"{ids[0][:8]} is the beginning of 2 dumps: {', '.join(ids)}"


def test_the_whole_id_of_a_dump_that_was_set_aside_twice(
    config: Config, spool: Spool, spooled: Spooled
) -> None:
    record = spooled()
    spool.set_aside(spooled().id if record.id not in spool.pending() else record.id)
    os.makedirs(f"{spool.root}/broken/{record.id}.1")
    assert inventory.find(config, record.id)["id"] == record.id


def test_the_log_leaves_out_what_only_the_account_needs(config: Config) -> None:
    for event in ("announced", "captured", "carried", "delivered"):
        note(config, event)
    assert [entry.event for entry in inventory.history(config)] == ["captured", "delivered"]


def test_a_line_of_the_log() -> None:
    entry = Entry("T", "b", "handed on", "to /x\n", 7, "SIGABRT", HOSTILE, "host")
    assert inventory.line(entry) == (
        'T  handed on  host  SIGABRT  "/x\\n\\u001b[2Jforged"  pid=7  "to /x\\n"'
    )
    assert inventory.line(replace(entry, dump="d", reason="", executable="/x")) == (
        "T  handed on  host  SIGABRT  /x  d"
    )


@pytest.mark.parametrize(
    ("owner", "words"),
    [(IDENTITY, "demo/web/app"), (Identity(host=True), "host"), (Identity("demo", "web"), "unidentified")],
)
def test_whose(owner: Identity, words: str) -> None:
    assert inventory.whose(owner) == words
