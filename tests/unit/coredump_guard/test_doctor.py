"""The doctor: every check answers, and one that cannot be made says so."""

from __future__ import annotations

import json

import pytest

from coredump_guard import doctor
from coredump_guard.config import Config
from coredump_guard.finding import FAIL, OK, WARNING, Finding, fail, ok, warning


def test_every_check_answers_for_a_machine_that_knows_nothing_of_us(config: Config) -> None:
    findings = doctor.examine(config)
    assert len({finding.check for finding in findings}) == len(doctor.CHECKS) == len(findings)
    for finding in findings:
        assert finding.state in (OK, WARNING, FAIL)
        assert bool(finding.remedy) == (finding.state != OK), finding
        assert "cannot be checked" not in finding.found
    assert json.loads(json.dumps(doctor.as_json(findings)))["captured"] is doctor.captured(findings)


def test_a_check_that_cannot_be_made_has_failed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def core_modes(_: Config) -> Finding:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "CHECKS", (core_modes,))
    (found,) = doctor.examine(config)
    assert (found.check, found.state) == ("core modes", FAIL)
    assert "Input/output error" in found.found


def test_the_answer_is_the_last_line() -> None:
    findings = [ok("a", "fine"), warning("b", "so so", "look")]
    assert doctor.render(findings) == (
        "      ok  a: fine\n"
        " warning  b: so so; remedy: look\n"
        "a crash would be captured; 1 of 2 checks want a look\n"
    )
    assert doctor.render([*findings, fail("c", "bad", "mend")]).splitlines()[2:] == [
        "    FAIL  c: bad; remedy: mend",
        "a crash WOULD BE LOST; 2 of 3 checks want a look",
    ]
