"""What a token says of itself."""

from __future__ import annotations

import base64
import json

import pytest

from coredump_shim.bearer import Claims, claims


def token(**said: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmVk"


def test_a_service_accounts() -> None:
    found = claims(
        token(sub="system:serviceaccount:coredump-system:coredump-shim", exp=1795000000, aud=["x"])
    )
    assert found is not None
    assert found.expires == 1795000000.0
    assert found.account() == ("coredump-system", "coredump-shim")


def test_a_secrets_has_no_end() -> None:
    assert claims(token(sub="system:serviceaccount:a:b")) == Claims("system:serviceaccount:a:b", None)


@pytest.mark.parametrize("subject", ["alice", "system:serviceaccount:a", "system:node:a:b", "a:b:c:d", ""])
def test_others_are_no_service_accounts(subject: str) -> None:
    found = claims(token(sub=subject, exp=1))
    assert found is not None
    assert found.account() is None


@pytest.mark.parametrize("text", ["", "secret", "a.b", "a.b.c", "a.W10.c", "a.MQ.c", "a.\u00e9.c", "a.b.c.d"])
def test_what_is_no_jwt_says_nothing(text: str) -> None:
    assert claims(text) is None


def test_an_end_that_is_no_time_says_nothing() -> None:
    assert claims(token(exp="soon")) is None
    assert claims(token(exp=[1])) is None
