"""Who asks, by the front proxy's headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import frontproxy
from coredump_shim.caller import Caller
from coredump_shim.frontproxy import LONGEST
from coredump_shim.status import ApiError
from coredump_shim.trust import Front

FRONT = Front(
    "", frozenset(), ("x-remote-user", "x-user"), ("x-remote-uid",), ("x-remote-group",), ("x-remote-extra-",)
)


def caller(*headers: tuple[str, bytes]) -> Caller | None:
    return frontproxy.caller(headers, FRONT)


def test_everything() -> None:
    assert caller(
        ("x-remote-user", "jörg".encode()),
        ("x-remote-uid", b"7"),
        ("x-remote-group", b"a, system:masters"),
        ("x-remote-group", b""),
        ("x-remote-group", "gruppe ü".encode()),
        ("x-remote-extra-scopes", b"one, two"),
        ("x-remote-extra-scopes", b"three"),
        ("x-remote-extra-example.org%2fk%c3%bc", b"x"),
        ("x-remote-extra-100%", b"y"),
        ("host", b"z"),
    ) == Caller(
        "jörg",
        "7",
        ("a, system:masters", "gruppe ü"),
        {"scopes": ("one, two", "three"), "example.org/kü": ("x",), "100%": ("y",)},
    )


def test_the_first_header_that_names_a_user() -> None:
    assert caller(("x-user", b"b"), ("x-remote-user", b"a")) == Caller("a")
    assert caller(("x-user", b"b"), ("x-remote-user", b"")) == Caller("b")


def test_nobody_is_named() -> None:
    assert caller() is None
    assert caller(("x-remote-user", b""), ("x-remote-group", b"system:masters")) is None


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ((("x-remote-user", b"a"), ("x-remote-user", b"a")), "x-remote-user is given more than once"),
        ((("x-remote-user", b"a"), ("x-remote-user", b"")), "more than once"),
        ((("x-remote-uid", b"1"), ("x-remote-uid", b"2")), "x-remote-uid is given more than once"),
        ((("x-remote-user", b"\xff"),), "is not UTF-8"),
        ((("x-remote-user", b"a\xc2\x85b"),), "control characters"),
        ((("x-remote-user", b"a\tb"),), "control characters"),
        ((("x-remote-group", b"a\x00"),), "x-remote-group has control characters"),
        ((("x-remote-user", b"a" * (LONGEST + 1)),), f"longer than {LONGEST} bytes"),
        ((("x-remote-extra-k%0a", b"v"),), "control characters"),
        ((("x-remote-extra-k%ff", b"v"),), "is not UTF-8"),
        ((("x-remote-extra-k", b"\xff"),), "is not UTF-8"),
    ],
)
def test_what_kube_apiserver_never_sends_is_refused(
    headers: tuple[tuple[str, bytes], ...], said: str
) -> None:
    with pytest.raises(ApiError, match=said) as caught:
        caller(
            *headers,
            *([] if any(name == "x-remote-user" for name, _ in headers) else [("x-remote-user", b"a")]),
        )
    assert caught.value.code == 400


@given(
    st.lists(st.tuples(st.sampled_from(["x-remote-user", "x-remote-group", "x-remote-extra-%"]), st.binary()))
)
def test_groups_are_values_and_nothing_else(headers: list[tuple[str, bytes]]) -> None:
    try:
        found = caller(*headers)
    except ApiError as error:
        assert error.code == 400
        return
    if found is not None:
        assert set(found.groups) <= {value.decode() for name, value in headers if name == "x-remote-group"}
