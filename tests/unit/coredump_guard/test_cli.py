"""The command: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coredump_guard import __version__, arming, canary, cli, config, doctor, journal, status
from coredump_guard.arming import ArmingError, Settings
from coredump_guard.cli import main
from coredump_guard.config import Config
from coredump_guard.finding import fail, ok, warning
from coredump_guard.journal import Entry


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the path of a configuration on a machine that is not armed."""
    path = tmp_path / "guard.conf"
    path.write_text(
        f"[guard]\nspool = {tmp_path}/spool\nstate = {tmp_path}/state\nruntime = {tmp_path}/coredump-guard\n"
        f"[store]\npath = {tmp_path}/store\n"
    )
    monkeypatch.setattr(arming, "current", lambda: Settings("core", "0"))
    return str(path)


def test_status_of_a_guard_that_is_not_at_work(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", conf, "status"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("     WRONG  NOT ARMED: ")
    assert err == ""


def test_status_for_machines(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", conf, "status", "--json"]) == 3
    out = capsys.readouterr().out
    assert json.loads(out)["armed"] is False
    assert out.endswith("}\n")


@pytest.mark.parametrize(
    ("armed", "guard", "code"),
    [
        (True, {"store_error": ""}, 0),
        (True, {"store_error": "Input/output error"}, 3),
        (True, None, 3),
        (False, {"store_error": ""}, 3),
        (False, None, 3),
    ],
)
def test_status_tells_by_its_exit_whether_crashes_are_captured(
    conf: str, monkeypatch: pytest.MonkeyPatch, armed: bool, guard: object, code: int
) -> None:
    monkeypatch.setattr(status, "gather", lambda _: {"armed": armed, "guard": guard})
    assert main(["--config", conf, "status", "--json"]) == code


@pytest.mark.parametrize("command", ["run", "arm", "disarm", "status"])
def test_a_bad_configuration_is_told_in_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "guard.conf"
    path.write_text("[guard]\nworkers = many\n[store]\npath = /x\n")
    assert main(["--config", str(path), command]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"coredump-guard: {path}: [guard] workers = many: must be a whole number from 1 to 16\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ArmingError("the kernel refuses"), "coredump-guard: the kernel refuses\n"),
        (
            PermissionError(13, "Permission denied", "/proc/sys/kernel/core_pattern"),
            "coredump-guard: /proc/sys/kernel/core_pattern: Permission denied; it takes root\n",
        ),
        (OSError(30, "Read-only file system", "/var/x"), "coredump-guard: /var/x: Read-only file system\n"),
        (OSError("AF_UNIX path too long"), "coredump-guard: AF_UNIX path too long\n"),
    ],
)
@pytest.mark.parametrize("command", ["arm", "disarm"])
def test_a_failure_is_told_in_one_sentence(
    conf: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    error: Exception,
    sentence: str,
) -> None:
    def fail(_: Config) -> Settings:
        raise error

    monkeypatch.setattr(arming, command, fail)
    assert main(["--config", conf, command]) == 1
    assert capsys.readouterr() == ("", sentence)


def test_a_runtime_directory_that_cannot_be_made_is_told(conf: str, tmp_path: Path) -> None:
    """By the command as it is installed, python3 -m coredump_guard."""
    (tmp_path / "coredump-guard").write_text("a file")
    command = [sys.executable, "-m", "coredump_guard", "--config", conf, "run"]
    path = {"PYTHONPATH": os.path.dirname(os.path.dirname(cli.__file__))}
    ended = subprocess.run(command, check=False, timeout=30, env=path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"coredump-guard: {tmp_path}/coredump-guard: File exists\n"


@pytest.mark.parametrize("command", ["arm", "disarm"])
def test_arming_says_what_is_in_force(
    conf: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(arming, command, lambda _: Settings("|/x %P", "0"))
    assert main(["--config", conf, command]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("core_pattern is ")
    assert out.endswith("|/x %P\n")
    assert err == ""


def test_disarming_what_is_not_ours_says_so(
    conf: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arming, "current", lambda: Settings("theirs", "0"))
    monkeypatch.setattr(arming, "disarm", lambda _: Settings("theirs", "0"))
    assert main(["--config", conf, "disarm"]) == 0
    assert capsys.readouterr().out == "core_pattern was not ours and is left as it is: theirs\n"


WRONG = [
    [], ["dance"], ["status", "--yaml"], ["--config"], ["show"], ["log", "-n", "0"], ["log", "-n", "x"],
    ["log", "--since", "yesterday"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: coredump-guard" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{__version__}\n")
    for command in ("run", "arm", "disarm", "status", "list", "show", "log"):
        assert command in out


@pytest.mark.parametrize("after", [False, True])
def test_the_configuration_is_named_before_or_after_the_command(
    conf: str, capsys: pytest.CaptureFixture[str], after: bool
) -> None:
    option = ["--config", conf]
    assert main(["list", *option] if after else [*option, "list"]) == 0
    assert capsys.readouterr() == ("The spool is empty.\n", "")


def log_of(conf: str, *arguments: str) -> int:
    """Run `log` over a journal of three lines."""
    state = config.load(conf).state
    os.makedirs(state)
    for number in range(3):
        journal.append(state, Entry(f"2026-01-0{number + 1}T00:00:00Z", "b", "missed", "why", number + 1))
    return main(["log", "--config", conf, *arguments])


@pytest.mark.parametrize(
    ("arguments", "days"),
    [
        ([], [1, 2, 3]),
        (["-n", "2"], [2, 3]),
        (["-n", "9"], [1, 2, 3]),
        (["--since", "2026-01-02T00:00:00Z"], [2, 3]),
        (["--since", "2026-01-02T01:00:00+01:00", "-n", "1"], [3]),
        (["--since", "2027-01-01"], []),
    ],
)
def test_the_log(
    conf: str, capsys: pytest.CaptureFixture[str], arguments: list[str], days: list[int]
) -> None:
    assert log_of(conf, *arguments) == 0
    said = capsys.readouterr().out
    assert said == "".join(f"2026-01-0{day}T00:00:00Z  missed  pid={day}  why\n" for day in days)


def test_the_log_for_machines(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert log_of(conf, "--json", "-n", "1") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["event"], entry["pid"], entry["reason"]) == ("missed", 3, "why")


def test_a_dump_that_is_not_there(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", conf, "show", "x\n"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith('coredump-guard: no dump\'s id begins with "x\\n"; the spool is empty; ')


@pytest.mark.parametrize("command", [["list"], ["show", "2"], ["log"]])
def test_what_only_root_may_read(
    conf: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    def refuse(path: str, *_: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(journal, "entries", refuse)
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert main(["--config", conf, *command]) == 1
    assert capsys.readouterr().err.endswith(": Permission denied; it takes root\n")


def test_the_doctor_tells_by_its_exit_whether_a_crash_would_be_captured(
    conf: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for finding, code in ((ok("a", "b"), 0), (warning("a", "b", "c"), 0), (fail("a", "b", "c"), 1)):
        monkeypatch.setattr(doctor, "CHECKS", (lambda _, found=finding: found,))
        assert main(["--config", conf, "doctor"]) == code
        assert capsys.readouterr().out.startswith(f"{finding.state:>8}  a: b")
        assert main(["--config", conf, "doctor", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["captured"] is (code == 0)


def test_a_canary_that_is_lost_is_told(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", conf, "canary", "--timeout", "1"]) == 1
    lost = "LOST, armed: core_pattern is not ours, so nothing was crashed: coredump-guard arm"
    assert capsys.readouterr() == ("", f"coredump-guard: {lost}; run coredump-guard doctor\n")


def test_a_canary_that_arrives_is_told_step_by_step(
    conf: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(canary, "fly", lambda _, host, timeout, say: say(f"{host} {timeout}"))
    assert main(["--config", conf, "canary", "--host", "--timeout", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" s  True 7")


def test_a_canary_has_some_time(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--config", conf, "canary", "--timeout", "0"])
    assert "'0' is not a whole number above 0" in capsys.readouterr().err
