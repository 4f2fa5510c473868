"""Settings of a shim."""

from __future__ import annotations

from pathlib import Path

import pytest

from coredump_shim import config
from coredump_shim.config import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
        (":8080", "0.0.0.0", 8080),
    ],
)
def test_listen(text: str, host: str, port: int) -> None:
    assert config.parse_listen(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "8080", "127.0.0.1", "::1:80", "a:b", "a:65536", "a:-1", "a:80\n", "[x]:80"]
)
def test_listen_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--listen .* for example 127\.0\.0\.1:8080"):
        config.parse_listen(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert config.is_loopback(host) is expected


def test_state_lies_in_the_store_unless_told_otherwise(tmp_path: Path) -> None:
    made = config.standalone(str(tmp_path), None, "127.0.0.1:1", anywhere_allowed=False)
    assert made.state == f"{tmp_path}/.endpoints"
    told = config.standalone(str(tmp_path), f"{tmp_path}/a/state", "127.0.0.1:1", anywhere_allowed=False)
    assert told.state == f"{tmp_path}/a/state"
    assert (tmp_path / "a" / "state").is_dir()
    with pytest.raises(ConfigError, match=r"--state /proc/x: .* can be written"):
        config.standalone(str(tmp_path), "/proc/x", "127.0.0.1:1", anywhere_allowed=False)


def test_anywhere_must_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--insecure-listen-anywhere"):
        config.standalone(str(tmp_path), None, ":8080", anywhere_allowed=False)
    assert config.standalone(str(tmp_path), None, ":8080", anywhere_allowed=True).anywhere


def test_store_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--store .*/none is not a directory"):
        config.standalone(f"{tmp_path}/none", None, "127.0.0.1:1", anywhere_allowed=False)


def test_threads_are_left_for_discovery() -> None:
    made = config.Config("/store", "/state")
    assert made.threads > made.max_watches + made.max_reads + made.max_waiting
