"""Headers as they came, through a real waitress parser; cluster/test_access.py has the servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from coredump_shim import rawheaders
from coredump_shim.channels import FairChannel
from coredump_shim.front import FrontChannel
from coredump_shim.rawheaders import RawParser, values

ADJ = Adjustments()


def received(*lines: bytes) -> RawParser:
    parser = RawParser(ADJ)
    parser.received(b"\r\n".join((b"GET / HTTP/1.1", *lines, b"", b"")))
    return parser


def test_a_group_with_a_comma_stays_one() -> None:
    parser = received(b"X-Remote-Group: a, system:masters", b"x-remote-group: b")
    assert parser.headers["X_REMOTE_GROUP"] == "a, system:masters, b"
    assert values(parser.raw_headers, "X-Remote-Group") == [b"a, system:masters", b"b"]


def test_what_is_kept_is_bytes() -> None:
    assert values(received("X-Remote-User: ünï".encode()).raw_headers, "X-Remote-User") == ["ünï".encode()]


@pytest.mark.parametrize("name", [b"X_Remote_User", b"X-Remote_User", b"_"])
def test_names_with_underscores_are_dropped(name: bytes) -> None:
    parser = received(name + b": admin", b"X-Remote-Group: a")
    assert [found for found, _ in parser.raw_headers] == ["x-remote-group"]


def test_a_folded_line_is_one_value() -> None:
    assert values(received(b"X-Remote-User: a", b" X-Remote-Group: b").raw_headers, "X-Remote-Group") == []


@pytest.mark.parametrize(
    "line", [b"X-Remote-User : admin", b"no header", b"X: a\x00b", b"X: a\nY: b", b"X: \x7f"]
)
def test_what_is_no_header_is_refused(line: bytes) -> None:
    assert received(line).error is not None


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9%-]{1,8}", fullmatch=True), st.binary(max_size=8))))
def test_agrees_with_waitress(pairs: list[tuple[str, bytes]]) -> None:
    parser = received(b"X-Remote-User: u", *(name.encode() + b": " + value for name, value in pairs))
    if parser.error or not parser.completed:
        return
    folded: dict[str, str] = {}
    for name, value in parser.raw_headers:
        key, text = name.upper().replace("-", "_"), value.decode("latin-1")
        folded[key] = f"{folded[key]}, {text}" if key in folded else text
    expected = dict(parser.headers)
    assert {key: folded[key] for key in expected} == expected


def test_both_processes_know_them() -> None:
    for channel in (FrontChannel, FairChannel):
        assert issubclass(channel.parser_class, RawParser)
        assert issubclass(channel.task_class, rawheaders.RawTask)


def test_an_environment_without_them_has_none() -> None:
    assert rawheaders.of({"HTTP_X_REMOTE_USER": "admin"}) == ()
