"""How checks are gone through and told; the checks themselves are in tests/cluster/test_check.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest

from coredump_guard.finding import FAIL, Finding, fail, ok, warning
from coredump_shim import check, cli
from coredump_shim.cluster import Cluster
from coredump_shim.installation import Installation
from coredump_shim.status import ApiError

NOWHERE = Installation(cast(Cluster, None), "/nowhere", "/nowhere")


def well(_: Installation) -> Finding:
    return ok("well", "fine")


def not_there(_: Installation) -> Finding:
    raise ApiError(404, "it is not found")


def forbidden(_: Installation) -> Finding:
    raise ApiError(403, "you may not")


def store_lost(_: Installation) -> Finding:
    raise OSError(5, "Input/output error")


def store_lost_too(found: Installation) -> Finding:
    return store_lost(found)


def examined(monkeypatch: pytest.MonkeyPatch, *groups: tuple[check.Check, ...]) -> list[Finding]:
    monkeypatch.setattr(check, "GROUPS", groups)
    return check.examine(NOWHERE)


def test_a_check_that_cannot_be_made_has_failed_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = examined(monkeypatch, (well, not_there, forbidden, store_lost, well))
    assert [finding.check for finding in findings] == ["well", "not there", "forbidden", "store lost", "well"]
    assert [finding.state for finding in findings] == ["ok", FAIL, FAIL, FAIL, "ok"]
    assert "manifests/api" in findings[1].remedy
    assert "see credentials" in findings[2].remedy
    assert "Input/output error" in findings[3].found


def test_who_does_not_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, skipped, other = examined(monkeypatch, (store_lost, well, not_there), (well,))
    assert (first.state, other.state) == (FAIL, "ok")
    assert skipped == fail("well, not there", "not looked at", "mend store lost first")


def test_one_cause_is_mended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _, other = examined(monkeypatch, (well, store_lost), (well, store_lost_too))
    assert (first.check, first.remedy) == ("store lost", "mend that, and run check again")
    assert other == fail("store lost too", first.found, "mend store lost first")


def test_who_refers_to_another_knows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, other = examined(monkeypatch, (well, forbidden, forbidden))
    assert first == other
    assert other.remedy.startswith("see credentials")


def test_the_answer_is_the_last_line() -> None:
    findings = [ok("a", "fine"), warning("b", "so so", "look")]
    assert check.render(findings).splitlines()[-1] == "everything fits together; 1 of 2 checks want a look"
    findings.append(fail("c", "bad", "mend"))
    assert not check.fits(findings)
    findings.append(fail("d", "worse", "mend"))
    assert check.render(findings).splitlines()[2:] == [
        "    FAIL  c: bad; remedy: mend",
        "    FAIL  d: worse; remedy: mend",
        "it does NOT fit together; begin with c; 3 of 4 checks want a look",
    ]


def test_a_gateway_that_is_no_address_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG)
    arguments = ["check", "--kubeconfig", str(config), "--store", "/", "--gateway", "here"]
    assert cli.main(arguments) == 2
    assert "--gateway 'here' must be ADDRESS:PORT" in capsys.readouterr().err


def test_every_check_has_a_name_of_its_own() -> None:
    made = [made.__name__ for group in check.GROUPS for made in group]
    assert len(set(made)) == len(made)
    assert {field.name for field in dataclasses.fields(Finding)} >= {"check", "state", "found", "remedy"}


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: it, user: {token: secret}}]
"""
