"""The ConfigMap about the front proxy, and how it is followed; cluster/test_access.py has a real one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coredump_shim import trust
from coredump_shim.trust import Front, Trust
from testbed.waiting import wait_for

from .test_cluster import server

CA = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
DATA = {
    "client-ca-file": "another",
    "requestheader-client-ca-file": CA,
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-username-headers": '["X-Remote-User"]',
    "requestheader-uid-headers": '["X-Remote-Uid"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
}


class ConfigMap:
    """One whose data a test changes; None: it cannot be read."""

    def __init__(self) -> None:
        self.data: Any = dict(DATA)
        self.reads = 0
        self.published: list[str] = []

    def answer(self, asked: str, _body: bytes) -> tuple[int, bytes]:
        assert asked == f"GET {trust.CONFIGMAP}"
        self.reads += 1
        return (403, b"no") if self.data is None else (200, json.dumps({"data": self.data}).encode())


@pytest.fixture
def configmap() -> ConfigMap:
    return ConfigMap()


@pytest.fixture
def followed(tmp_path: Path, configmap: ConfigMap) -> Iterator[Trust]:
    with server(tmp_path, configmap.answer) as cluster:
        yield Trust(cluster, configmap.published.append)


def test_parse() -> None:
    assert trust.parse(DATA) == Front(
        CA,
        frozenset({"front-proxy-client"}),
        ("x-remote-user",),
        ("x-remote-uid",),
        ("x-remote-group",),
        ("x-remote-extra-",),
    )


@pytest.mark.parametrize(
    "data", [{}, {"requestheader-client-ca-file": ""}, {"requestheader-client-ca-file": "x"}]
)
def test_without_a_ca_nobody_is_trusted(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="requestheader-client-ca-file"):
        trust.parse({**DATA, "requestheader-client-ca-file": "", **data})


@pytest.mark.parametrize("text", ["", "x", "null", "{}", '"front-proxy-client"', "[1]"])
def test_names_that_cannot_be_read_do_not_become_any_name(text: str) -> None:
    with pytest.raises(ValueError, match="requestheader-allowed-names is not a JSON list"):
        trust.parse({**DATA, "requestheader-allowed-names": text})


def test_an_empty_prefix_is_none() -> None:
    assert trust.parse({**DATA, "requestheader-extra-headers-prefix": '[""]'}).extra_prefixes == ()


def test_before_it_is_read_nobody_is_trusted(configmap: ConfigMap, followed: Trust) -> None:
    configmap.data = None
    followed.read()
    assert followed.front is None
    assert followed.allows("front-proxy-client") is None
    assert configmap.published == []


def test_names(configmap: ConfigMap, followed: Trust) -> None:
    followed.read()
    assert followed.allows("front-proxy-client") is followed.front is not None
    assert followed.allows("") is None
    assert followed.allows("other") is None
    configmap.data["requestheader-allowed-names"] = "[]"
    followed.read()
    assert followed.allows("other") is not None


def test_an_unknown_name_has_it_read_again_but_not_each_time(
    configmap: ConfigMap, followed: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.read()
    configmap.data["requestheader-allowed-names"] = '["new"]'
    for _ in range(10):
        assert followed.allows("new") is None
    assert configmap.reads == 1
    monkeypatch.setattr(trust, "AT_LEAST", 0.0)
    assert followed.allows("new") is not None


@pytest.mark.parametrize(
    "data", [None, {}, {**DATA, "requestheader-allowed-names": "x"}, {"requestheader-client-ca-file": "x"}]
)
def test_what_cannot_be_read_changes_nothing_and_is_said_once(
    configmap: ConfigMap, followed: Trust, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    followed.read()
    configmap.data = data
    with caplog.at_level(logging.ERROR, "coredump_shim.trust"):
        followed.read()
        followed.read()
    assert [
        line for line in caplog.messages if "extension-apiserver-authentication" in line
    ] == caplog.messages
    assert len(caplog.messages) == 1
    assert followed.allows("front-proxy-client") is not None


def test_is_followed_until_the_end(
    configmap: ConfigMap, followed: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "EVERY", 0.01)
    followed.start()
    assert configmap.published[0] == CA
    configmap.data = ["nonsense"]
    before = configmap.reads
    wait_for("it is read again and again", lambda: configmap.reads > before + 2)
    configmap.data = {**DATA, "requestheader-client-ca-file": CA + CA}
    wait_for("the new one is published", lambda: CA + CA in configmap.published)
    followed.end()
