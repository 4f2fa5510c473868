"""The record: what is written is what is read, and a hostile store gets no further than an error."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard.record import MAX_BYTES, Capture, Core, Identity, Process, Record, RecordError, Signal

text, whole = st.text(), st.integers(-(1 << 70), 1 << 70)
maybe_text, maybe_whole = st.none() | text, st.none() | whole
identities = st.builds(Identity, text, text, text, text, text, text, maybe_whole, st.booleans())
processes = st.builds(Process, whole, maybe_whole, whole, whole, whole, text, text, st.lists(text), whole)
cores = st.builds(Core, whole, whole, maybe_text, text, text)
captures = st.builds(Capture, text, st.floats(allow_nan=False, allow_infinity=False), text)
records = st.builds(
    Record,
    id=text,
    time=text,
    node=text,
    boot_id=text,
    kernel=text,
    identity=identities,
    process=processes,
    signal=st.builds(Signal, whole, text, maybe_whole, maybe_text),
    core=cores,
    capture=captures,
    files=st.lists(text),
    delivered=maybe_text,
)

ONE = Record(
    "id", "2023-11-14T22:13:20Z", "node", "boot", "6.18", Identity("demo"), Process(1), Signal(11, "SIGSEGV"),
    Core(5, 6), Capture("pipe", 0.5, "1"),
)  # fmt: skip


@given(records)
def test_what_is_written_is_read(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record
    assert Record.from_json(record.to_json().encode()) == record


@given(
    st.text(
        st.characters(categories=["Cc", "Co"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
    )
)
def test_any_character_survives(name: str) -> None:
    """Also bytes that are no UTF-8, as surrogateescape has them."""
    record = dataclasses.replace(ONE, process=Process(1, comm=name, cmdline=[name]))
    assert record.to_json().isascii()
    assert Record.from_json(record.to_json().encode()) == record


def changed(path: str, value: object) -> str:
    data = json.loads(ONE.to_json())
    *parents, last = path.split(".")
    inner = data
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return json.dumps(data)


def test_unknown_fields_are_those_of_later_schemas() -> None:
    later = json.loads(changed("process.capabilities", ["all"]))
    later |= {"schema": 2, "extra": {"deep": [1]}}
    assert Record.from_json(json.dumps(later)) == dataclasses.replace(ONE, schema=2)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("id", 5, "info.json: id must be str, is int"),
        ("id", None, "info.json: id must be str, is NoneType"),
        ("schema", True, "info.json: schema must be int, is bool"),
        ("schema", 1.0, "info.json: schema must be int, is float"),
        ("delivered", 5, "info.json: delivered must be str, is int"),
        ("files", "maps", r"info.json: files must be list\[str\], is str"),
        ("files", ["maps", 5], r"info.json: files\[1\] must be str, is int"),
        ("identity", [], "info.json: identity must be an object"),
        ("identity.restarts", "1", "info.json: identity: restarts must be int, is str"),
        ("identity.nested", 1, "info.json: identity: nested must be bool, is int"),
        ("process.pid", "1", "info.json: process: pid must be int, is str"),
        ("process.cmdline", {"0": "a"}, r"info.json: process: cmdline must be list\[str\], is dict"),
        ("signal.address", 0, "info.json: signal: address must be str, is int"),
        ("core.truncated", False, "info.json: core: truncated must be str, is bool"),
        ("capture.seconds", "1", "info.json: capture: seconds must be float, is str"),
        ("capture.seconds", True, "info.json: capture: seconds must be float, is bool"),
        ("capture.seconds", float("nan"), "info.json: capture: seconds must be float"),
        ("capture.seconds", float("inf"), "info.json: capture: seconds must be float"),
        ("capture.seconds", 10**400, "info.json: capture: seconds must be float"),
        ("capture.seconds", -(10**4000), "info.json: capture: seconds must be float"),
    ],
)
def test_an_error_names_the_field(path: str, value: object, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        Record.from_json(changed(path, value))


@pytest.mark.parametrize("field", ["id", "process", "core", "capture"])
def test_a_missing_field_is_named(field: str) -> None:
    data = json.loads(ONE.to_json())
    del data[field]
    with pytest.raises(RecordError, match=rf"info.json: .*'{field}'"):
        Record.from_json(json.dumps(data))


def test_a_missing_field_of_a_part_is_named() -> None:
    with pytest.raises(RecordError, match=r"info.json: signal: .*'name'"):
        Record.from_json(changed("signal", {"number": 11}))


def test_whole_numbers_are_seconds_too() -> None:
    seconds = Record.from_json(changed("capture.seconds", 2)).capture.seconds
    assert (seconds, type(seconds)) == (2.0, float)


@pytest.mark.parametrize(
    "text", ["", "{", "\0", b"\xff\xfe\xff", b"\x80", "[" * 500_000, '{"a":' * 100_000, "9" * 5000, "nul"]
)
def test_what_is_no_json_is_told(text: str | bytes) -> None:
    with pytest.raises(RecordError, match=r"info.json is not JSON|info.json must be an object"):
        Record.from_json(text)


@pytest.mark.parametrize("text", ["[]", "null", "5", '"id"', "true"])
def test_what_is_no_object_is_told(text: str) -> None:
    with pytest.raises(RecordError, match=r"info\.json must be an object"):
        Record.from_json(text)


def test_a_huge_file_is_not_parsed() -> None:
    padded = ONE.to_json() + " " * (MAX_BYTES - len(ONE.to_json()))
    assert Record.from_json(padded) == ONE
    with pytest.raises(RecordError, match=f"{MAX_BYTES + 1} bytes long, more than {MAX_BYTES}"):
        Record.from_json(padded + " ")


@given(
    st.recursive(
        st.none() | st.booleans() | whole | st.floats() | text,
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["id", "process", "pid", "core", "x"]), inner)
        ),
    )
)
def test_any_json_raises_nothing_but_record_error(data: Any) -> None:
    with pytest.raises(RecordError):
        Record.from_json(json.dumps(data))


@given(
    st.sampled_from(
        ["id", "identity", "process.pid", "process.cmdline", "core.bytes", "capture.seconds", "files"]
    ),
    st.none()
    | st.booleans()
    | whole
    | st.floats()
    | text
    | st.lists(whole | text)
    | st.dictionaries(text, text),
)
def test_any_value_of_a_field_raises_nothing_but_record_error(path: str, value: object) -> None:
    try:
        record = Record.from_json(changed(path, value))
    except RecordError as error:
        assert path.rpartition(".")[2] in str(error)
    else:
        assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("missing", ["namespace", "pod", "poduid", "container"])
def test_an_identity_is_complete_with_its_four_names(missing: str) -> None:
    identity = Identity("demo", "web", "uid", "app")
    assert identity.complete
    assert not dataclasses.replace(identity, **{missing: ""}).complete  # type: ignore[arg-type]
