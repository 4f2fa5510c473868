"""docs/api.md against the code: every path, parameter, code, header and bound is there, and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from flask import Flask

from coredump_shim import check, config, downloads, forwarding, haproxycfg, names, payload, selection, status
from coredump_shim.app import TRUST, create_app
from coredump_shim.config import Config, Joined
from coredump_shim.controller import notice, rules
from tests.support.dumps import write_dump
from tests.unit.test_docs import CHECKOUT, rows, section

API = (CHECKOUT / "docs" / "api.md").read_text()
SHIM = CHECKOUT / "shim" / "coredump_shim"
POD = f"{names.ROOT}/namespaces/demo/{names.RESOURCE}/web"
LONG = {"ROOT": names.ROOT, "NS": names.NAMESPACED.replace("<namespace>", "NAMESPACE")}


@pytest.fixture
def stand_alone(tmp_path: Path) -> Flask:
    return create_app(Config(str(tmp_path / "store"), str(tmp_path / "state"), max_watches=0))


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Flask]:
    """Return the application of a shim whose kube-apiserver does not answer."""
    kubeconfig = tmp_path / "kubeconfig"
    entry = {"name": "it", "cluster": {"server": "https://127.0.0.1:1"}, "user": {"token": "x"}}
    context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    content = {"clusters": [entry], "users": [entry], "contexts": [context], "current-context": "it"}
    kubeconfig.write_text(yaml.safe_dump(content))
    app = create_app(Config(str(tmp_path), joined=Joined(str(kubeconfig), str(tmp_path))))
    yield app
    app.extensions[TRUST].end()


def served(app: Flask) -> set[tuple[str, str]]:
    """Return path and method of everything that an application routes, in the words of the document."""
    found = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<\w*namespace\w*>", "NAMESPACE", rule.rule)
        last = "NAME" if path.startswith("/api/v1/") else "POD"
        found |= {(path.replace("<name>", last), method) for method in (rule.methods or set()) - {"HEAD"}}
    return found


def described(*where: str) -> set[tuple[str, str]]:
    found = set()
    for paths, methods, place, _ in rows(section(API, "Paths")):
        if place in where:
            for path in re.findall(r"`([^`]+)`", paths):
                long = re.sub(r"^(ROOT|NS)\b", lambda short: LONG[short[1]], path)
                found |= {(long, method) for method in methods.split(", ")}
    return found


def test_every_path_is_described_and_no_other(stand_alone: Flask, joined: Flask) -> None:
    assert described("both", "stand-alone") == served(stand_alone)
    assert described("both", "cluster") == served(joined)


def test_every_parameter_of_a_download_is_described_and_no_other() -> None:
    listed = [row[0].strip("`") for row in rows(section(API, "Downloading"))]
    assert listed == list(selection._PARAMETERS)


def test_every_parameter_that_is_passed_through_is_described() -> None:
    known = forwarding.GET | forwarding.LIST | forwarding.WRITE | forwarding.DELETE | {"timeoutSeconds"}
    assert [name for name in sorted(known) if f"`{name}" not in section(API, "Watch and apply")] == []


def codes_of(text: str) -> set[int]:
    return {int(code) for code in re.findall(r"^\| (\d{3}) \w+ \|", text, re.MULTILINE)}


def test_every_code_is_described_with_its_reason_and_no_other() -> None:
    errors = section(API, "Errors")
    assert codes_of(errors) | NEVER == set(status.REASONS) | {408, 502}
    for code, reason in re.findall(r"^\| (\d{3}) (\w+) \|", errors, re.MULTILINE):
        gateways = {error.code: error.reason for error in haproxycfg.ERRORS}
        conflicts = {"AlreadyExists"} if code == "409" else set()
        assert reason in {status.REASONS.get(int(code)), gateways.get(int(code)), *conflicts}, code


NEVER = {501}
"""Waitress has it for a Transfer-Encoding that HAProxy does not let through."""


def test_every_answer_of_haproxys_own_is_described() -> None:
    errors = section(API, "Errors")
    assert [error.message for error in haproxycfg.ERRORS if f"`{error.message}`" not in errors] == []


def headers_set() -> set[str]:
    """Return the names of the headers that the shim's modules set on responses, as the source has them."""
    found = {downloads.ARCHIVE_LENGTH}
    for path in SHIM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("response.headers"):
                found |= {str(node.slice.value)} if isinstance(node.slice, ast.Constant) else set()
    return found


def test_every_header_of_an_answer_is_named() -> None:
    assert len(headers_set()) > 8
    assert [name for name in sorted(headers_set()) if name.lower() not in API.lower()] == []


KIND = {"apiVersion": names.API_VERSION, "kind": names.KIND}
ERRORS = [
    ("GET", "/dump?container=../../x", {}),
    ("GET", "/dump?id=x", {}),
    ("GET", "/dump?since=yesterday", {}),
    ("GET", "/dump?since=2026-01-31T12:00:00+02:00", {}),
    ("GET", f"/dump?since={quote('2026-01-31T12:00:00+99:99')}", {}),
    ("GET", "/dump?latest=1", {}),
    ("GET", "/dump?offset=-1", {}),
    ("GET", "/dump?length=0", {}),
    ("GET", "/dump?etag=x", {}),
    ("GET", "/dump?offset=1", {}),
    ("GET", "/dump?container=app&container=app", {}),
    ("GET", "/dump?foo=1", {}),
    ("DELETE", "/dump?length=1", {}),
    ("GET", "?limit=x", {}),
    ("GET", "?labelSelector=(", {}),
    ("GET", "?fieldSelector=spec.x=1", {}),
    ("GET", "?continue=x", {}),
    ("PUT", "", {"json": []}),
    ("PUT", "", {"json": {}}),
    ("PUT", "", {"json": {**KIND, "metadata": {"name": "other"}}}),
    ("GET", "", {"headers": {"Host": "evil.example"}}),
    ("GET", "", {"headers": {"Origin": "http://evil.example"}}),
    ("GET", "/dump?container=nope", {}),
    ("GET", f"/dump?poduid={'9' * 8}", {}),
    ("GET", "/else", {}),
    ("POST", "", {}),
    ("GET", "", {"headers": {"Accept": "text/html"}}),
    ("PUT", "", {"data": "x", "content_type": "application/yaml"}),
]
"""Requests that fail, by method, path below the endpoint or, with a list's parameters, its collection."""


@pytest.mark.parametrize(("method", "path", "more"), ERRORS, ids=lambda value: str(value)[:40])
def test_errors_read_as_described(
    method: str, path: str, more: dict[str, Any], stand_alone: Flask, tmp_path: Path
) -> None:
    write_dump(tmp_path / "store")
    of_list = path.startswith(("?limit", "?label", "?field", "?continue"))
    url = POD.rpartition("/")[0] if of_list else POD
    answer = stand_alone.test_client().open(url + path, method=method, **more)
    assert answer.status_code >= 400
    assert answer.json is not None
    assert f"`{answer.json['message']}`" in section(API, "Errors")
    assert answer.status_code in codes_of(section(API, "Errors"))


def test_limits_are_the_codes_own() -> None:
    limits = {row[0]: row[1:3] for row in plain_rows(section(API, "Limits"))}
    alone, member = Config("/", "/"), Config("/", joined=Joined(None), max_watches=config.WATCHES)
    assert limits["watches of one shim"] == [str(member.max_watches), str(alone.max_watches)]
    assert limits["other requests of one shim that wait for kube-apiserver"][0] == str(config.RELAYED)
    assert limits["requests that wait for a review"][0] == str(config.REVIEWED)
    look_ups = f"{alone.max_reads}, {alone.store_seconds:g} s"
    assert limits["look-ups in the store at one time, and how long one may take"] == [look_ups, look_ups]
    assert f"YAML up to {payload.MAX_YAML >> 10} KiB" in API


def test_every_event_is_described() -> None:
    reasons = [row[0].strip("`") for row in rows(section(API, "Events"))]
    assert reasons == [notice.DUMPED, notice.REFUSED, notice.LOW_SPACE]
    assert f"{rules.NEARLY_FULL:.0%}".replace("%", " %") in section(API, "Events")


def test_the_sample_of_check_has_every_check() -> None:
    sample = section(API, "coredump-shim check").split("```")[1]
    listed = re.findall(r"^ +ok  ([a-z ]+): ", sample, re.MULTILINE)
    made = [each.__name__.replace("_", " ") for group in check.GROUPS for each in group]
    assert Counter(listed) == Counter(made)


def plain_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
