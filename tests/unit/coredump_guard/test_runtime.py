"""The runtime directory leads to this installation, and what is no socket is not taken for one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from coredump_guard import doorman, runtime
from coredump_guard.config import Config


def test_the_links_lead_to_the_doorman_and_the_configuration(config: Config) -> None:
    for _ in range(2):
        runtime.link(config)
    assert os.path.samefile(config.doorman, doorman.__file__)
    assert os.readlink(f"{config.runtime}/guard.conf") == config.path
    assert sorted(os.listdir(config.runtime)) == ["doorman.py", "guard.conf"]


def test_what_lies_in_the_place_of_a_link_gives_way(config: Config) -> None:
    os.makedirs(config.runtime)
    Path(config.doorman).write_text("not ours")
    Path(f"{config.doorman}.new").symlink_to("/nowhere")
    runtime.link(config)
    assert os.path.samefile(config.doorman, doorman.__file__)


def test_is_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 characters at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    assert runtime.is_socket("socket")
    Path("file").touch()
    Path("link").symlink_to("socket")
    assert not any(map(runtime.is_socket, ("file", "link", "nothing")))
