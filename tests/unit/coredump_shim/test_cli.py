"""The command's arguments; tests/integration/test_kubectl.py runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coredump_guard import __version__
from coredump_shim import cli


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"coredump-shim {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["serve"], ["serve", "--store", "/"], ["serve", "--standalone"]])
def test_what_is_missing_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--store", "/none"], "name the directory"),
        (["--store", "/", "--listen", "0.0.0.0:8080"], "--insecure-listen-anywhere"),
        (["--store", "/", "--listen", "8080"], "for example 127.0.0.1:8080"),
    ],
)
def test_wrong_setting_names_the_remedy(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["serve", "--standalone", "--state", str(tmp_path), *arguments]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(
    ("way", "unused"),
    [
        (["--in-cluster"], ["--listen", "127.0.0.1:8080"]),
        (["--kubeconfig", "/none"], ["--listen", ":9443"]),
        (["--in-cluster"], ["--insecure-listen-anywhere"]),
        (["--in-cluster"], ["--state", "/tmp"]),
        (["--standalone"], ["--run-dir", "/tmp"]),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    way: list[str], unused: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--store", "/", *way, *unused]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"coredump-shim: {unused[0]} is of no use here: ")
    assert "leave it out" in said
