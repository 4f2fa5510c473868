"""The real command, driven by the real kubectl (and by those that $KUBECTLS lists)."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.waiting import wait_for
from tests.support import command
from tests.support.command import Kubectl
from tests.support.dumps import write_dump

UID = "11111111-2222-3333-4444-555555555555"
DUMP = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/demo/coredumpendpoints/web/dump"
ENDPOINT = f"""
apiVersion: coredump.fujitsu.com/v1alpha1
kind: CoredumpEndpoint
metadata:
  name: web
  namespace: demo
spec:
  poduid: {UID}
"""

HERE: list[Path | None] = [*command.kubectls()] or [None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    write_dump(root, poduid=UID, core=b"\x7fELF" + bytes(64 << 20))
    write_dump(root, namespace="other", pod="db-0", poduid="db")
    return root


@pytest.fixture(params=HERE, ids=str)
def kubectl(request: pytest.FixtureRequest, store: Path, tmp_path: Path) -> Iterator[Kubectl]:
    if request.param is None:
        pytest.skip("missing: kubectl; Debian has it in the package kubernetes-client")
    with command.serve(store, tmp_path / "log", "--log-level=DEBUG") as url:
        yield Kubectl(request.param, url, tmp_path / "cache")


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "endpoint.yaml"
    path.write_text(ENDPOINT)
    return str(path)


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_api_resources(kubectl: Kubectl) -> None:
    line = next(each for each in rows(kubectl("api-resources")) if each[0] == "coredumpendpoints")
    assert line[1:] == ["cde", "coredump.fujitsu.com/v1alpha1", "true", "CoredumpEndpoint"]
    assert kubectl("get", "--raw", "/readyz") == "ok"


def test_get(kubectl: Kubectl) -> None:
    header, web = rows(kubectl("get", "cde", "-n", "demo"))
    assert header == ["POD", "CONTAINERS", "DUMPS", "SIZE", "LAST CRASH", "REASON", "AGE"]
    assert web[:4] == ["web", "app", "1", "64Mi"]
    assert web[5] == "SIGSEGV"
    everywhere = rows(kubectl("get", "coredumpendpoints", "-A"))
    assert [line[:2] for line in everywhere] == [["NAMESPACE", "POD"], ["demo", "web"], ["other", "db-0"]]
    wide = kubectl("get", "coredumpendpoint", "web", "-n", "demo", "-o", "wide")
    assert UID in wide
    assert (
        kubectl("get", "cde", "-n", "demo", "-o", "name").strip()
        == "coredumpendpoint.coredump.fujitsu.com/web"
    )
    assert "poduid: " + UID in kubectl("get", "cde", "web", "-n", "demo", "-o", "yaml")
    by_size = rows(kubectl("get", "cde", "-A", "--sort-by=.status.bytes", "--no-headers"))
    assert [line[1] for line in by_size] == ["db-0", "web"]
    assert len(rows(kubectl("get", "cde", "-A", "--chunk-size=1", "--no-headers"))) == 2
    assert kubectl("get", "cde", "-n", "none") == ""


def test_not_found(kubectl: Kubectl) -> None:
    assert "(NotFound)" in kubectl("get", "cde", "none", "-n", "demo", code=1)
    assert "(NotFound)" in kubectl("delete", "cde", "none", "-n", "demo", code=1)
    assert kubectl("delete", "cde", "none", "-n", "demo", "--ignore-not-found") == ""


def test_describe(kubectl: Kubectl) -> None:
    text = kubectl("describe", "cde", "web", "-n", "demo")
    assert re.search(r"^  Poduid: +" + UID, text, re.MULTILINE)
    assert re.search(r"^Events: +<none>", text, re.MULTILINE)


def test_explain(kubectl: Kubectl) -> None:
    assert "UID of the pod" in kubectl("explain", "coredumpendpoints.spec.poduid")
    assert "lastCrash" in kubectl("explain", "cde.status", "--recursive")


def test_create_and_delete(kubectl: Kubectl, manifest: str) -> None:
    assert "created" in kubectl("create", "-f", manifest)
    assert "(AlreadyExists)" in kubectl("create", "-f", manifest, code=1)
    assert "deleted" in kubectl("delete", "-f", manifest)
    assert "(NotFound)" in kubectl("get", "-f", manifest, code=1)
    assert "created" in kubectl("create", "-f", manifest)


def test_create_refused(kubectl: Kubectl) -> None:
    unknown = kubectl("create", "-f", "-", stdin=ENDPOINT.replace(UID, "unknown"), code=1)
    assert "spec.poduid" in unknown
    typo = kubectl("create", "-f", "-", stdin=ENDPOINT.replace("poduid", "podUid"), code=1)
    assert 'unknown field "' in typo
    assert "podUid" in typo


def test_apply_twice(kubectl: Kubectl, manifest: str) -> None:
    assert "configured" in kubectl("apply", "-f", manifest)
    assert "unchanged" in kubectl("apply", "-f", manifest)
    other = ENDPOINT.replace("spec:", "  labels: {team: shop}\nspec:")
    assert "configured" in kubectl("apply", "-f", "-", stdin=other)
    assert kubectl("get", "cde", "-A", "-l", "team=shop", "-o", "name") != ""
    assert "configured" in kubectl("apply", "-f", manifest)
    assert kubectl("get", "cde", "-A", "-l", "team=shop", "-o", "name") == ""
    assert "spec.poduid" in kubectl("apply", "-f", "-", stdin=ENDPOINT.replace(UID, "db"), code=1)


def test_dry_run(kubectl: Kubectl, manifest: str) -> None:
    before = kubectl("get", "cde", "-A", "-o", "yaml")
    kubectl("create", "-f", manifest, "--dry-run=server")
    kubectl("apply", "-f", manifest, "--dry-run=server")
    kubectl("delete", "-f", manifest, "--dry-run=server")
    kubectl("label", "cde", "web", "-n", "demo", "a=b", "--dry-run=server")
    assert kubectl("get", "cde", "-A", "-o", "yaml") == before


def test_label_annotate_edit(kubectl: Kubectl) -> None:
    kubectl("label", "cde", "web", "-n", "demo", "team=shop")
    kubectl("annotate", "cde", "web", "-n", "demo", "note=before-editing")
    kubectl("edit", "cde", "web", "-n", "demo")
    metadata = json.loads(kubectl("get", "cde", "web", "-n", "demo", "-o", "json"))["metadata"]
    assert (metadata["labels"], metadata["annotations"]) == ({"team": "shop"}, {"note": "after-editing"})
    kubectl("label", "cde", "web", "-n", "demo", "team-")
    assert kubectl("get", "cde", "-A", "-l", "team", "-o", "name") == ""


def test_delete_all(kubectl: Kubectl) -> None:
    kubectl("delete", "cde", "--all", "-n", "demo")
    assert rows(kubectl("get", "cde", "-A", "--no-headers"))[0][1] == "db-0"


def test_watch(kubectl: Kubectl, store: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with seen.open("wb") as output:
        watch = subprocess.Popen(
            kubectl.command("get", "cde", "-A", "-w", "--no-headers"), stdout=output, env=kubectl.environment
        )
    try:
        wait_for("what is there", lambda: len(rows(seen.read_text())) == 2)
        write_dump(store, poduid=UID, container="side")
        wait_for("a crash", lambda: rows(seen.read_text())[-1][1:4] == ["web", "app,side", "2"])
        kubectl("delete", "cde", "db-0", "-n", "other")
        wait_for("a deletion", lambda: rows(seen.read_text())[-1][:2] == ["other", "db-0"])
        assert watch.poll() is None
    finally:
        watch.terminate()
        watch.wait(30)


def test_wait_for_deletion(kubectl: Kubectl, tmp_path: Path) -> None:
    wait = subprocess.Popen(
        kubectl.command("wait", "--for=delete", "cde/web", "-n", "demo", "--timeout=25s"),
        env=kubectl.environment,
    )
    try:
        wait_for("kubectl watches", lambda: "watch=true" in (tmp_path / "log").read_text())
        kubectl("delete", "cde", "web", "-n", "demo", "--wait=false")
        assert wait.wait(30) == 0
    finally:
        wait.kill()
        wait.wait()


def test_download(kubectl: Kubectl) -> None:
    done = subprocess.run(
        kubectl.command("get", "--raw", f"{DUMP}?container=app"),
        check=True,
        capture_output=True,
        timeout=60,
        env=kubectl.environment,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        [core] = [member for member in archive if member.name.endswith("/core")]
        assert core.size == (64 << 20) + 4
    missing = kubectl("get", "--raw", f"{DUMP}?container=none", code=1)
    assert "(NotFound)" in missing
