"""The kernel's announcements: refusals in words, and no more of pyroute2 than is needed.

What the kernel announces: tests/integration/test_account.py.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import connector
from coredump_guard.connector import Connector, Unavailable

roots = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the kernel speaks to nobody else")
TRY = """
import sys
from coredump_guard import connector
try:
    connector.Connector().close()
    print("connected", "pyroute2.iproute" in sys.modules)
except connector.Unavailable as error:
    print(error)
"""


def tried(*wrapper: str) -> str:
    """Connect in a process of its own and return what it says."""
    handler = Path(connector.__file__).parents[1]
    command = [*wrapper, sys.executable, "-c", TRY]
    environment = {**os.environ, "PYTHONPATH": str(handler)}
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True, env=environment)
    return done.stdout


@pytest.fixture
def connected() -> Iterator[Connector]:
    """Return a connection to the kernel."""
    made = Connector()
    yield made
    made.close()


@roots
def test_it_connects_without_the_rest_of_pyroute2() -> None:
    assert tried() == "connected False\n"


@roots
@pytest.mark.parametrize("namespace", ["--net", "--pid", "--user"])
def test_in_another_namespace_it_says_why_not(namespace: str) -> None:
    said = tried("unshare", namespace, "--fork")
    assert said.startswith("the process connector ")
    assert said.endswith(": the kernel's speaks to root in init's own namespaces only\n")


@roots
def test_without_privilege_it_says_why_not() -> None:
    said = tried("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert "the process connector refuses us (Operation not permitted): " in said


def test_without_pyroute2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyroute2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=r"pyroute2 is not installed: install .* extra 'node'"):
        Connector()


def test_a_pyroute2_that_is_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise SyntaxError("too new")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(Unavailable, match="pyroute2 cannot be imported: SyntaxError: too new"):
        Connector()


@roots
def test_reading_ends_in_time(connected: Connector) -> None:
    began = time.monotonic()
    connected.read(0.2)
    assert time.monotonic() - began >= 0.19
    assert connected.lost_at == 0
