"""What the product needs fails: kube-apiserver, etcd, the store, the shim, HAProxy; and too many ask."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import urllib3

from coredump_guard import store as stores
from coredump_shim import names, rundir
from coredump_shim.cluster import Cluster
from testbed.cluster import kubeconfig
from testbed.cluster.controlplane import PROXY_CLIENT, ControlPlane
from testbed.cluster.product import Product
from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support import downloading
from tests.support.downloading import url
from tests.support.dumps import write_dump

CORE = random.Random(5).randbytes(40_000_000)
"""Does not compress, and is more than all buffers on its way hold."""
BOUND = 30.0
"""Seconds within which everything is answered, whatever fails."""
RATE, SECONDS = 500, 4
"""Requests a second, and for how long."""
MEMORY = 300 << 20
"""Bytes that no process of the shim may exceed."""

pytestmark = pytest.mark.root


@pytest.fixture
def api(plane: ControlPlane) -> Cluster:
    return Cluster(str(plane.kubeconfig("admin")), connections=256)


@pytest.fixture
def quiet(product: Product) -> Iterator[None]:
    """Fail a test during which the product logs what nobody foresaw, or more than a person would read."""
    gateway = product.gateway
    logs = [program.log for program in (gateway.shim, gateway.controller) if program is not None]
    sizes = [log.stat().st_size for log in logs]
    yield
    for log, size in zip(logs, sizes, strict=True):
        new = log.read_bytes()[size:].decode(errors="replace")
        assert "Traceback" not in new, new
        assert len(new.splitlines()) < 500, new[:5000]


def objects(namespace: str) -> str:
    return f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}"


def announce(store: Path, dump: Path) -> None:
    """Tell the controller of a dump, as the guard does."""
    inbox = store / stores.INBOX
    inbox.mkdir(exist_ok=True)
    draft = store / f".{dump.name}"
    draft.write_text(f"{dump.relative_to(store)}\n")
    draft.rename(inbox / dump.name)


def works(plane: ControlPlane, product: Product, store: Path, namespace: str, pod: str) -> None:
    """Check that a new dump is announced, has its endpoint and is downloaded."""
    # A pod of its own: of two dumps of one pod and one second, either may be the newest, which names it.
    dump = write_dump(store, namespace=namespace, pod=pod, poduid=str(uuid.uuid4()))
    announce(store, dump)
    product.wait_until_available()
    controller = product.gateway.controller
    if controller is not None:
        endpoint = ("get", names.RESOURCE, pod, "--namespace", namespace)
        wait_for(f"the endpoint ({controller.log})", lambda: plane.run(*endpoint).returncode == 0, 60)
    whole = wait_for("a download", lambda: plane.run("get", "--raw", url(namespace, pod)).stdout, 60)
    assert whole[:2] == b"\x1f\x8b"


def discovery(plane: ControlPlane, product: Product) -> int:
    """Return the status of what kube-apiserver asks to see whether the API is available."""
    client = plane.front_proxy.issue("test-failures", PROXY_CLIENT)
    who = ("X-Remote-User: system:kube-aggregator", "X-Remote-Group: system:masters")
    headers = [word for header in who for word in ("-H", header)]
    return product.gateway.get(names.ROOT, *headers, client=client)[0]


def straight(plane: ControlPlane, product: Product, namespace: str, path: str) -> list[str]:
    """Return the command that downloads past kube-apiserver, as an account that may do everything."""
    account = f"--serviceaccount={namespace}:default"
    plane.kubectl(
        "create", "rolebinding", "all", "--clusterrole=cluster-admin", account, "--namespace", namespace
    )
    token = plane.token(namespace, "default")
    return product.gateway.curl(path, "--fail", "-H", f"Authorization: Bearer {token}")


def test_kube_apiserver_gone_for_a_while(
    plane: ControlPlane, product: Product, store: Path, namespace: str, tmp_path: Path, quiet: None
) -> None:
    write_dump(store, namespace=namespace, core=CORE)
    gateway = product.gateway
    before = [gateway.shim_process(name) for name in ("shim-front", "shim-downloads")]
    into = tmp_path / "archive"
    whole = plane.run("get", "--raw", url(namespace, "web")).stdout
    with downloading.begun(
        straight(plane, product, namespace, url(namespace, "web")), into, plane.environment
    ) as download:
        download.read(1_000_000)
        with plane.without_apiserver():
            download.slowly(8_000_000, 8)
            assert download.finish() == 0, download.errors
            assert discovery(plane, product) == 200
    assert into.read_bytes() == whole
    assert [gateway.shim_process(name) for name in ("shim-front", "shim-downloads")] == before
    assert gateway.controller is None or gateway.controller.alive()
    works(plane, product, store, namespace, "after")


def test_searches_of_a_full_namespace_keep_the_store_from_nobody(
    product: Product, store: Path, namespace: str, api: Cluster
) -> None:
    """Whoever asks for pods that never crashed has every pod of his namespace looked at."""
    write_dump(store, namespace=namespace)
    for number in range(6000):
        (store / "crowded" / f"pod-{number}" / "app").mkdir(parents=True)
    try:
        with ThreadPoolExecutor(32) as callers:
            asked = [
                callers.submit(api.request, "GET", url("crowded", "nope"), seconds=BOUND) for _ in range(32)
            ]
            while not all(search.done() for search in asked):
                assert api.request("GET", url(namespace, "web"), seconds=BOUND).status == 200
        assert {search.result().status for search in asked} == {404, 429}
        assert all(refusal(search.result()) or search.result().status == 404 for search in asked)
    finally:
        shutil.rmtree(store / "crowded")


def test_the_shims_own_token_ends(plane: ControlPlane, product: Product, store: Path, namespace: str) -> None:
    """Callers learn that it is not about them, at once: kubectl is not told to try again."""
    write_dump(store, namespace=namespace)
    plane.kubectl(
        *("create", "rolebinding", "alice", "--clusterrole=edit", "--user=alice", "--namespace", namespace)
    )
    with token_that_ends(plane, product) as end:
        assert plane.run("get", "--raw", url(namespace, "web")).returncode == 0
        end()
        for user in ("admin", "alice"):  # the one is a master, the other is reviewed
            ended = wait_for("it has ended", partial(of_credentials, plane, namespace, user), 60)
            assert "(ServiceUnavailable)" in ended
        log = product.gateway.shim.log.read_text()
        assert "write a new one into the kubeconfig" in log
    works(plane, product, store, namespace, "after")


def of_credentials(plane: ControlPlane, namespace: str, user: str) -> str | None:
    """Return what kubectl says of a download once it is about the shim's credentials."""
    said = plane.run("get", "--raw", url(namespace, "web"), user=user).stderr.decode()
    return said if "does not accept the shim's own credentials" in said else None


@contextlib.contextmanager
def token_that_ends(plane: ControlPlane, product: Product) -> Iterator[Callable[[], object]]:
    """Have the shim use a token that is a Secret's; yield what deletes that."""
    path = product.gateway.directory / f"{names.SERVICE}.kubeconfig"
    own, system = path.read_bytes(), ("--namespace", names.SYSTEM_NAMESPACE)
    plane.kubectl("create", "secret", "generic", "ending", *system)
    bound = ("--bound-object-kind=Secret", "--bound-object-name=ending")
    token = plane.kubectl("create", "token", names.SERVICE, *system, *bound).strip()
    try:
        kubeconfig.write(path, plane.server, plane.ca.certificate.path, kubeconfig.by_token(token))
        restarted(product)
        yield lambda: plane.kubectl("delete", "secret", "ending", *system)
    finally:
        plane.kubectl("delete", "secret", "ending", *system, "--ignore-not-found")
        path.write_bytes(own)
        restarted(product)


def restarted(product: Product) -> None:
    product.gateway.shim.stop()
    product.gateway.shim.start()
    product.gateway.wait_for_shim()


def test_etcd_does_not_answer_for_a_while(
    plane: ControlPlane, product: Product, store: Path, namespace: str, api: Cluster, quiet: None
) -> None:
    write_dump(store, namespace=namespace)
    with ThreadPoolExecutor(20) as callers:
        with plane.etcd.halted():
            asked = [
                callers.submit(api.request, "GET", path, seconds=BOUND * 2)
                for path in [objects(namespace), f"{objects(namespace)}/web", url(namespace, "web")] * 4
            ]
            time.sleep(4)
            assert discovery(plane, product) == 200
        answers = [answer.result() for answer in asked]
    assert all(answer.status in (200, 404) or refusal(answer) for answer in answers), answers
    works(plane, product, store, namespace, "after")


def test_connections_from_before_the_shim_knew_the_front_proxy(
    plane: ControlPlane, product: Product, store: Path, namespace: str
) -> None:
    """HAProxy verifies a certificate once for a connection, and kube-apiserver keeps its connections."""
    write_dump(store, namespace=namespace)
    gateway = product.gateway
    with gateway.shim.killed():
        gateway.haproxy.kill()
        known = Path(rundir.path(str(gateway.run_dir), rundir.REQUESTHEADER_CA))
        known.write_bytes(product.ca.certificate.path.read_bytes())
        gateway.haproxy.start()
        for _ in range(5):
            plane.kubectl("get", "--raw", names.ROOT)
    gateway.wait_for_shim()
    works(plane, product, store, namespace, "after")


def refusal(answer: urllib3.BaseHTTPResponse) -> bool:
    """Whether this says, as Kubernetes does, that it is not to be had now."""
    if answer.status not in (429, 500, 503, 504):
        return False
    return answer.status != 429 or "Retry-After" in answer.headers


def test_the_shim_dies_in_mid_download_straight_from_haproxy(
    plane: ControlPlane, product: Product, store: Path, namespace: str, tmp_path: Path
) -> None:
    write_dump(store, namespace=namespace, core=CORE)
    command = straight(plane, product, namespace, url(namespace, "web"))
    with downloading.begun(command, tmp_path / "archive", plane.environment) as download:
        download.read(1_000_000)
        os.kill(product.gateway.shim_process("shim-downloads"), signal.SIGKILL)
        assert download.finish() in (18, 56), download.errors  # a partial file; a reset connection
    works(plane, product, store, namespace, "after")


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse")
def test_the_store_hangs(
    plane: ControlPlane, product: Product, store: Path, namespace: str, api: Cluster, quiet: None
) -> None:
    write_dump(store, namespace=namespace)
    with hung(store), ThreadPoolExecutor(20) as callers:
        forms = [url(namespace, "web", form) for form in ("dump", "proxy/dump")] * 4
        asked = [callers.submit(api.request, "GET", path, seconds=BOUND) for path in forms]
        assert api.request("GET", names.ROOT, seconds=5).status == 200
        assert api.request("GET", objects(namespace), seconds=5).status == 200
        for answer in asked:
            said = json.loads(answer.result().data)
            assert (said["kind"], said["code"], said["reason"]) == ("Status", 503, "ServiceUnavailable")
        assert product.condition() == "True"
    works(plane, product, store, namespace, "after")


def test_haproxy_dies_and_comes_back(
    plane: ControlPlane, product: Product, store: Path, namespace: str, tmp_path: Path, quiet: None
) -> None:
    write_dump(store, namespace=namespace, core=CORE)
    with downloading.kubectl(plane, url(namespace, "web"), tmp_path / "archive") as download:
        download.read(1_000_000)
        with product.gateway.haproxy.killed():
            assert download.finish() == 1
            done = plane.run("get", "--raw", url(namespace, "web"))
            assert (done.returncode, done.stdout) == (1, b"")
    works(plane, product, store, namespace, "after")


def test_500_requests_a_second(
    plane: ControlPlane, product: Product, store: Path, namespace: str, api: Cluster, quiet: None
) -> None:
    """By a tenant, through kube-apiserver: it is answered or refused, and discovery goes on."""
    body = {
        "apiVersion": f"{names.GROUP}/{names.STORED}",
        "kind": names.KIND,
        "metadata": {"name": "web"},
        "spec": {"poduid": "11111111-2222-3333-4444-555555555555"},
    }
    plane.kubectl("create", "-f", "-", "--namespace", namespace, stdin=json.dumps(body))
    plane.kubectl(
        "create",
        "rolebinding",
        "alice",
        "--clusterrole=cluster-admin",
        "--user=alice",
        "--namespace",
        namespace,
    )
    tenant = Cluster(str(plane.kubeconfig("alice")), connections=256)
    paths = [objects(namespace), f"{objects(namespace)}/web"]
    with ThreadPoolExecutor(1) as other:
        load = other.submit(offered, lambda number: tenant.request("GET", paths[number % 2], seconds=BOUND))
        while not load.done():
            assert api.request("GET", names.ROOT, seconds=5).status == 200
            time.sleep(0.1)
        answers = load.result()
    codes = {answer.status for answer in answers}
    assert codes <= {200, 429, 503} and 200 in codes, codes
    assert all("Retry-After" in answer.headers for answer in answers if answer.status != 200)
    for name in ("shim-front", "shim-downloads"):
        assert resident(product.gateway.shim_process(name)) < MEMORY
    works(plane, product, store, namespace, "after")


def offered(ask: Callable[[int], urllib3.BaseHTTPResponse]) -> list[urllib3.BaseHTTPResponse]:
    """Ask RATE times a second, as far as 200 may be under way at a time, and return the answers."""
    begun = time.monotonic()

    def at(number: int) -> urllib3.BaseHTTPResponse:
        time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        return ask(number)

    with ThreadPoolExecutor(200) as callers:
        return list(callers.map(at, range(RATE * SECONDS)))


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))
