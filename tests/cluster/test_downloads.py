"""Downloading and purging dumps by kubectl through kube-apiserver: whole, cut, in parts; by those who may."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import re
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from coredump_shim import cut, names
from coredump_shim.cluster import Cluster
from coredump_shim.downloads import ARCHIVE_LENGTH
from coredump_shim.poduid import STATIC
from testbed.cluster.controlplane import ControlPlane, delete_namespace, pod_manifest
from testbed.cluster.product import Product
from testbed.cluster.program import built
from testbed.waiting import wait_for
from tests.support import downloading
from tests.support.downloading import url
from tests.support.dumps import write_dump
from tests.support.endpoints import alone

CORE = random.Random(28).randbytes(3_000_000)
"""Does not compress."""
BIG = CORE * (cut.LIKELY // len(CORE) + 1)
"""So long that whoever downloads it is warned, and more than all buffers on its way hold."""
SLOW = 1_000_000
"""Bytes a second of a reader for whom 60 s do not suffice."""
OTHER_UID = "22222222-2222-3333-4444-555555555555"

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def big(plane: ControlPlane, product: Product, store: Path) -> Iterator[str]:
    """Return the path of a dump that is likely to be cut."""
    plane.kubectl("create", "namespace", "big")
    write_dump(store, namespace="big", core=BIG)
    yield url("big", "web")
    delete_namespace(plane, "big", wait=False)


@pytest.fixture(scope="module")
def big_sha256(plane: ControlPlane, big: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    into = tmp_path_factory.mktemp("whole") / "coredump.tar.gz"
    with downloading.kubectl(plane, big, into) as download:
        assert download.finish() == 0, download.errors
    return downloading.sha256(into)


@pytest.fixture
def api(plane: ControlPlane) -> Cluster:
    """Return a connection to kube-apiserver that shows headers, which kubectl does not."""
    return Cluster(str(plane.kubeconfig("admin")), connections=128)


def fetched(plane: ControlPlane, path: str, user: str = "admin") -> bytes:
    done = plane.run("get", "--raw", path, user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(plane: ControlPlane, path: str, user: str = "admin") -> str:
    """Return what kubectl says of a download that must fail without a byte."""
    done = plane.run("get", "--raw", path, user=user)
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode()


def members(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def grant(plane: ControlPlane, namespace: str, user: str, *verbs: str) -> None:
    """Let a user do something with the dumps of a namespace."""
    metadata = {"name": user, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [names.GROUP], "resources": [f"{names.RESOURCE}/dump"], "verbs": verbs}
    role = {"kind": "Role", "apiVersion": f"{rbac}/v1", "metadata": metadata, "rules": [rule]}
    binding = {
        "kind": "RoleBinding",
        "apiVersion": f"{rbac}/v1",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    objects = {"kind": "List", "apiVersion": "v1", "items": [role, binding]}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(objects))


def test_the_next_namespace_of_the_name_inherits_no_dumps(
    plane: ControlPlane, product: Product, store: Path
) -> None:
    """Whoever makes a namespace gets none of the memory of those who had the name before."""
    name = "reborn"
    with alone(product):
        plane.kubectl("create", "namespace", name)
        old = write_dump(store, namespace=name, core=b"\x7fELF the old tenant's")
        assert fetched(plane, url(name, "web"))
        delete_namespace(plane, name)
        assert "not found" in refused(plane, url(name, "web"))
        ended = time.time()
        wait_for("another second", lambda: int(time.time()) > int(ended))
        plane.kubectl("create", "namespace", name)
        grant(plane, name, "alice", "get", "delete")
        assert "not found" in refused(plane, url(name, "web"), "alice")
        endpoint = {"kind": names.KIND, "apiVersion": names.API_VERSION, "metadata": {"name": "web"}}
        for spec in ({}, {"poduid": old.parents[1].name}):
            made = json.dumps(endpoint | {"spec": spec})
            said = plane.kubectl("create", "-n", name, "-f", "-", stdin=made, code=1)
            assert "spec.poduid" in said
        stored = endpoint | {"apiVersion": f"{names.GROUP}/{names.STORED}"}
        made = json.dumps(stored | {"spec": {"poduid": old.parents[1].name}})
        plane.kubectl("create", "-n", name, "-f", "-", stdin=made)
        for query in ("", f"?poduid={old.parents[1].name}", "?offset=0&length=1000"):
            assert "dump" in refused(plane, url(name, "web") + query, "alice")
        feigned = json.loads(pod_manifest(name, "web"))
        feigned["metadata"]["annotations"] = dict.fromkeys(STATIC, old.parents[1].name)
        plane.kubectl("create", "-f", "-", stdin=json.dumps(feigned))
        assert "dump" in refused(plane, url(name, "web"), "alice"), "whose UID is known is not his yet"
        purging = plane.run("delete", "--raw", url(name, "web"), user="alice")
        assert (purging.returncode, b"dump" in purging.stderr) == (1, True)
        mine = write_dump(store, namespace=name, poduid=OTHER_UID)
        archive = fetched(plane, f"{url(name, 'web')}?poduid={OTHER_UID}", "alice")
        assert f"app/{mine.name}/core" in members(archive)
        assert not [path for path in members(archive) if old.name in path]
        assert old.exists()
    delete_namespace(plane, name, wait=False)


def test_a_tenant_unpacks_what_he_downloads(
    plane: ControlPlane, product: Product, store: Path, namespace: str, tmp_path: Path
) -> None:
    cores = {"app": CORE, "sidecar": b"\x7fELF" + bytes(100_000)}
    ids = {
        name: write_dump(store, namespace=namespace, container=name, core=core).name
        for name, core in cores.items()
    }
    grant(plane, namespace, "alice", "get")
    into = tmp_path / "coredump.tar.gz"
    with downloading.kubectl(plane, url(namespace, "web"), into, "alice") as download:
        assert (download.finish(), download.errors) == (0, "")
    listed = subprocess.run(["tar", "-zxvf", into], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert {f"{name}/{dump}/core" for name, dump in ids.items()} <= set(listed.stdout.split())
    for name, core in cores.items():
        assert (tmp_path / name / ids[name] / "core").read_bytes() == core
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], check=True, cwd=tmp_path)


def test_check_28_a_download_of_more_than_60_s(
    plane: ControlPlane, big: str, big_sha256: str, tmp_path: Path
) -> None:
    def slowly(path: str, into: Path) -> tuple[int, str]:
        with downloading.kubectl(plane, path, into) as download:
            download.slowly(SLOW, cut.SECONDS + 2)
            return download.finish(), download.errors

    dump, proxy = tmp_path / "dump", tmp_path / "proxy"
    with ThreadPoolExecutor() as readers:
        cut_off = readers.submit(slowly, big, dump)
        whole = readers.submit(slowly, big.replace("/dump", "/proxy/dump"), proxy)
    assert whole.result() == (0, "")
    assert downloading.sha256(proxy) == big_sha256
    code, errors = cut_off.result()
    assert code == 1
    warning, error = errors.splitlines()
    assert warning.startswith(f"Warning: kube-apiserver cuts this download after {cut.SECONDS} s")
    assert "error" in error
    assert dump.stat().st_size < proxy.stat().st_size


def test_commands_of_the_warning_work(
    plane: ControlPlane, product: Product, big: str, big_sha256: str, tmp_path: Path
) -> None:
    """The second in a loop, through a broken connection and a restart of the shim."""
    with downloading.kubectl(plane, f"{big}?container=app", tmp_path / "begun") as download:
        download.read(1)
        warning = download.errors
    whole, part = re.findall(r"kubectl get --raw '[^']*'", warning)
    environment = plane.environment | {"PATH": f"{built('kubectl').parent}:{plane.environment['PATH']}"}
    shell = ["sh", "-c", f"{whole} > {tmp_path}/whole"]
    subprocess.run(shell, check=True, env=environment, timeout=downloading.SECONDS)
    assert downloading.sha256(tmp_path / "whole") == big_sha256

    into, parts = tmp_path / "parts", urlsplit(shlex.split(part)[-1])
    query, size = dict(parse_qsl(parts.query)), int(re.findall(r"below (\d+)", warning)[0])
    for number in itertools.count():
        offset = into.stat().st_size if number else 0
        if offset == size:
            break
        path = f"{parts.path}?{urlencode(query | {'offset': str(offset)})}"
        with downloading.kubectl(plane, path, into) as download:
            if number == 1:
                assert download.read(20_000_000)
                download.kill()
            else:
                assert download.finish() == 0, download.errors
        if number == 2:
            with product.gateway.shim.killed():
                pass
            product.gateway.wait_for_shim()
    assert downloading.sha256(into) == big_sha256


def test_parts_of_an_archive_that_has_grown(
    plane: ControlPlane, product: Product, store: Path, namespace: str, api: Cluster
) -> None:
    write_dump(store, namespace=namespace, core=CORE)
    path = url(namespace, "web")
    before = fetched(plane, path)
    first = api.request("GET", f"{path}?length=1000000")
    etag = first.headers["ETag"].strip('"')
    assert first.data == before[:1_000_000]
    assert int(first.headers[ARCHIVE_LENGTH]) == len(before)
    write_dump(store, namespace=namespace, pid=4712)
    assert fetched(plane, f"{path}?offset=1000000&etag={etag}") == before[1_000_000:]
    assert len(fetched(plane, path)) > len(before)


def test_check_29_the_shim_dies_in_mid_download(
    plane: ControlPlane, product: Product, big: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        downloads = [
            stack.enter_context(downloading.kubectl(plane, path, tmp_path / str(number)))
            for number, path in enumerate((big, big.replace("/dump", "/proxy/dump")))
        ]
        for download in downloads:
            download.read(1_000_000)
        with product.gateway.shim.killed():
            assert [download.finish() for download in downloads] == [1, 1]
        product.gateway.wait_for_shim()
        assert all("error" in download.errors and download.size < len(BIG) for download in downloads)


@pytest.mark.parametrize("form", ["dump", "proxy/dump"])
def test_check_30_what_is_not_there(
    plane: ControlPlane, product: Product, store: Path, namespace: str, form: str
) -> None:
    write_dump(store, namespace=namespace)
    assert refused(plane, url(namespace, "web", f"{form}?container=db")) == (
        'Error from server (NotFound): container: there is no dump of "db"; there is app\n'
    )
    assert "(NotFound)" in refused(plane, url(namespace, "nobody", form))


def test_an_earlier_pod_by_its_uid(
    plane: ControlPlane, product: Product, store: Path, namespace: str, tmp_path: Path
) -> None:
    old = write_dump(store, namespace=namespace, poduid=OTHER_UID).name
    new = write_dump(store, namespace=namespace, pid=4712).name
    for query, wanted, other in (("", new, old), (f"?poduid={OTHER_UID}", old, new)):
        (tmp_path / "archive").write_bytes(fetched(plane, url(namespace, "web", f"dump{query}")))
        listed = subprocess.run(
            ["tar", "-tzf", tmp_path / "archive"], check=True, capture_output=True, text=True
        )
        assert wanted in listed.stdout and other not in listed.stdout


def test_head(plane: ControlPlane, product: Product, store: Path, namespace: str, api: Cluster) -> None:
    write_dump(store, namespace=namespace)
    whole = fetched(plane, url(namespace, "web"))
    for form in ("dump", "proxy/dump"):
        answer = api.request("HEAD", url(namespace, "web", form))
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/gzip")
        assert int(answer.headers["Content-Length"]) == len(whole)


def test_only_those_who_may_purge(plane: ControlPlane, product: Product, store: Path, namespace: str) -> None:
    gone = write_dump(store, namespace=namespace, container="app")
    kept = write_dump(store, namespace=namespace, container="sidecar")
    grant(plane, namespace, "alice", "get", "delete")
    grant(plane, namespace, "mallory", "get")
    path = url(namespace, "web", "dump?container=app")
    assert "Forbidden" in plane.kubectl("delete", "--raw", path, user="mallory", code=1)
    assert gone.exists()
    answer = json.loads(plane.kubectl("delete", "--raw", path, user="alice"))
    assert (answer["kind"], answer["status"], answer["message"]) == ("Status", "Success", "1 dump deleted")
    assert not gone.exists() and kept.exists()
    assert fetched(plane, url(namespace, "web"), "mallory")


def test_check_31_stalled_readers_and_watches_leave_discovery_alone(
    plane: ControlPlane, product: Product, big: str, namespace: str, api: Cluster
) -> None:
    """5 s is what kube-apiserver gives discovery before the APIService is unavailable."""
    proxy = big.replace("/dump", "/proxy/dump")
    collection = f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}"
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(84) as callers:
        begun = [callers.submit(api.request, "GET", proxy, stream=True) for _ in range(64)]
        begun += [
            callers.submit(api.request, "GET", collection, query={"watch": 1}, stream=True) for _ in range(20)
        ]
        for answer in [future.result() for future in begun]:
            stack.callback(answer.close)
            assert answer.status == 200
        for _ in range(5):
            asked = [callers.submit(api.request, "GET", names.ROOT, seconds=5) for _ in range(5)]
            assert [answer.result().status for answer in asked] == [200] * 5
    assert product.condition() == "True"
