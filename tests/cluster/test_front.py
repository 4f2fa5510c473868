"""HAProxy before the shim: what it lets through, and what it answers when no shim does.

Who gets in and what he may: test_access. Past kube-apiserver we are the front proxy, by a certificate.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coredump_shim import discovery, downloads, frontca, haproxycfg, names, openapi, rundir
from coredump_shim.shares import share
from testbed.cluster.certificates import Authority, Certificate
from testbed.cluster.controlplane import PROXY_CLIENT, ControlPlane, delete_namespace
from testbed.cluster.product import APISERVICE, HOST, PORT, Gateway, Product
from testbed.waiting import wait_for
from tests.support import downloading
from tests.support.dumps import write_dump
from tests.support.gateways import ready

pytestmark = pytest.mark.root

ADMIN = ("-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters")
NAMESPACES = f"{names.ROOT}/namespaces"
CORE = random.Random(7).randbytes(24 << 20)
"""Does not compress, and is more than all buffers on its way hold."""
SECONDS = 60
CLOSED = (18, 56)
"""curl's exit statuses: a partial file; a connection that was reset."""


@pytest.fixture
def gateway(product: Product) -> Gateway:
    return product.gateway


@pytest.fixture
def proxy(plane: ControlPlane) -> Certificate:
    """Return a certificate as kube-apiserver's own."""
    return plane.front_proxy.issue("front-test", PROXY_CLIENT)


@pytest.fixture
def dumps(store: Path, namespace: str) -> str:
    """Return the path of dumps of a pod, long enough to be interrupted."""
    write_dump(store, namespace=namespace, core=CORE)
    return f"{NAMESPACES}/{namespace}/{names.RESOURCE}/web/dump"


@contextlib.contextmanager
def silent(gateway: Gateway) -> Iterator[None]:
    """Have the shim accept connections and answer nothing, as one does that hangs."""
    processes = [gateway.shim_process(name) for name in ("shim-front", "shim-downloads")]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
        gateway.wait_for_shim()


@contextlib.contextmanager
def dead(gateway: Gateway) -> Iterator[None]:
    """Have no process of the shim, from just now on; afterwards it serves again."""
    gateway.shim.kill()
    try:
        wait_for("its processes end", lambda: refuses(rundir.path(str(gateway.run_dir), rundir.SHIM_SOCKET)))
        yield
    finally:
        gateway.shim.start()
        gateway.wait_for_shim()


def refuses(path: str) -> bool:
    """Whether nobody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == errno.ECONNREFUSED


def endpoint(namespace: str, name: str) -> str:
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata})


def test_check_01_available_within_35_seconds(plane: ControlPlane, product: Product) -> None:
    plane.kubectl("delete", "apiservice", APISERVICE)
    plane.kubectl("apply", "-k", str(product.overlay()))
    product.wait_until_available(35)


def test_check_02_resources_of_the_group_version(plane: ControlPlane, product: Product) -> None:
    found = json.loads(plane.kubectl("get", "--raw", names.ROOT))
    assert (found["kind"], found["groupVersion"]) == ("APIResourceList", names.API_VERSION)
    assert {each["name"] for each in found["resources"]} == {
        names.RESOURCE,
        f"{names.RESOURCE}/dump",
        f"{names.RESOURCE}/proxy",
    }


@pytest.mark.parametrize("state", ["alive", "dead"])
def test_check_03_aggregated_discovery(gateway: Gateway, proxy: Certificate, state: str) -> None:
    """From HAProxy in the same words as from the shim, so that nobody's cache is worth less."""
    with dead(gateway) if state == "dead" else contextlib.nullcontext():
        for document in (*discovery.documents(joined=True), *openapi.documents(joined=True)):
            wanted = ("-H", f"Accept: {document.content_type},application/json", *ADMIN)
            headers, body = read(gateway, document.path, *wanted, client=proxy)
            assert body == document.body.decode()
            assert headers["content-type"] == document.content_type
            assert headers["etag"] == document.etag
            assert headers["vary"] == "Accept"
            known = (*wanted, "-H", f"If-None-Match: {document.etag}")
            assert gateway.get(document.path, *known, client=proxy) == (304, "")


def read(
    gateway: Gateway, path: str, *arguments: str, client: Certificate | None = None
) -> tuple[dict[str, str], str]:
    """Return an answer's headers, their names in lower case, and its body."""
    code, whole = gateway.get(path, "-i", *arguments, client=client)
    head, _, body = whole.partition("\n\n")
    lines = [line.partition(": ") for line in head.splitlines()[1:]]
    return {"": str(code)} | {name.lower(): value for name, _, value in lines}, body


@pytest.mark.parametrize("first", ["v2", "v2beta1", "v3", ""])
def test_offline_forms_are_those_that_are_asked_for(gateway: Gateway, proxy: Certificate, first: str) -> None:
    """As kube-apiserver asks, and kubectl, old and new."""
    forms = {
        document.form: document for document in discovery.documents(joined=True) if document.path == "/apis"
    }
    clause = "application/json;as=APIGroupDiscoveryList;v={};g=apidiscovery.k8s.io"
    accept = f"{clause.format(first)},application/json" if first else "*/*"
    with dead(gateway):
        _, body = read(gateway, "/apis", "-H", f"Accept: {accept}", client=proxy)
    assert body == forms.get(first, forms[""]).body.decode()


def test_check_04_api_resources(plane: ControlPlane, product: Product) -> None:
    lines = plane.kubectl("api-resources", f"--api-group={names.GROUP}").splitlines()
    assert lines[1].split() == [
        names.RESOURCE,
        names.SHORT,
        f"{names.GROUP}/{names.STORED}",
        "true",
        names.KIND,
    ]
    assert {names.API_VERSION, f"{names.GROUP}/{names.STORED}"} <= set(plane.kubectl("api-versions").split())


def test_check_05_gateway_is_gone_and_comes_back(plane: ControlPlane, product: Product) -> None:
    with product.gateway.haproxy.killed():
        wait_for("the API is unavailable", lambda: noticed(plane, product) == "False", SECONDS)
    wait_for("the API is available", lambda: noticed(plane, product) == "True", SECONDS)


def noticed(plane: ControlPlane, product: Product) -> str:
    """Have kube-apiserver look, as it does when the APIService changes, and return what it says."""
    plane.kubectl("annotate", "apiservice", APISERVICE, "--overwrite", f"test/looked={time.monotonic()}")
    time.sleep(0.5)
    return product.condition()


@pytest.mark.parametrize("state", [contextlib.nullcontext, dead], ids=["alive", "dead"])
def test_check_06_namespace_with_objects_is_deleted(
    plane: ControlPlane, product: Product, store: Path, namespace: str, state: Any
) -> None:
    """Any namespace's deletion waits for the discovery of every group."""
    for name in ("one", "two"):
        write_dump(store, namespace=namespace, pod=name, poduid=str(uuid.uuid4()))
        plane.kubectl("create", "-f", "-", stdin=endpoint(namespace, name))
    with state(product.gateway):
        delete_namespace(plane, namespace)
    assert product.condition() == "True"


def test_check_07_explain(plane: ControlPlane, product: Product) -> None:
    for version in (names.VERSION, names.STORED):
        said = plane.kubectl(
            "explain", f"{names.RESOURCE}.spec.poduid", f"--api-version={names.GROUP}/{version}"
        )
        assert "poduid <string>" in said
        assert re.search(r"^VERSION: +" + version, said, re.MULTILINE)


def test_a_shim_that_says_nothing_keeps_discovery_from_nobody(plane: ControlPlane, product: Product) -> None:
    """Before HAProxy's checks notice as well as after: kube-apiserver gives it 5 s."""
    gateway = product.gateway
    down = lambda: gateway.get("/readyz", "--max-time", "5")[0] == 503  # noqa: E731 - a name for what follows
    with silent(gateway):
        for _ in range(2):
            found = json.loads(plane.kubectl("get", "--raw", names.ROOT, "--request-timeout=5s"))
            assert found["groupVersion"] == names.API_VERSION
        with contextlib.suppress(subprocess.CalledProcessError):
            wait_for("HAProxy notices", down, SECONDS)
        assert plane.kubectl("get", "--raw", names.ROOT, "--request-timeout=5s")
    assert product.condition() == "True"


def test_without_a_shim_the_rest_is_a_status_that_says_when_to_come_back(
    gateway: Gateway, proxy: Certificate, namespace: str
) -> None:
    objects = f"{NAMESPACES}/{namespace}/{names.RESOURCE}"
    with dead(gateway):
        for path in (
            objects,
            f"{objects}?watch=1",
            f"{objects}/web/dump",
            f"{objects}/web/proxy/dump",
            "/readyz",
        ):
            headers, body = read(gateway, path, *ADMIN, client=proxy)
            status = json.loads(body)
            assert (headers[""], headers["content-type"]) == ("503", "application/json")
            assert (status["kind"], status["code"], status["reason"]) == ("Status", 503, "ServiceUnavailable")
            assert headers["retry-after"] == str(status["details"]["retryAfterSeconds"])
        assert gateway.get("/healthz") == (200, "ok")


def test_what_fails_for_kube_apiserver_is_logged_and_strangers_write_nothing(
    gateway: Gateway, proxy: Certificate
) -> None:
    path = f"{NAMESPACES}/logged-{time.monotonic_ns()}"
    assert gateway.get(f"{path}/{names.RESOURCE}", *ADMIN, client=proxy)[0] == 200
    with dead(gateway):
        assert gateway.get(f"{path}-of-nobody/{names.RESOURCE}")[0] == 503
        assert gateway.get(f"{path}-of-a-user/{names.RESOURCE}", *ADMIN, client=proxy)[0] == 503
    log = gateway.haproxy.log
    (line,) = wait_for(
        "it is logged", lambda: [each for each in log.read_text().splitlines() if path in each]
    )
    assert re.search(r" objects/shim \S+ 503 .*-of-a-user/", line)


def test_forged_headers_are_nobodys(
    gateway: Gateway, plane: ControlPlane, proxy: Certificate, tmp_path: Path
) -> None:
    """The right certificate says the name, and no header does."""
    forged = (*ADMIN, "-H", f"{names.CLIENT_CN.upper()}: {PROXY_CLIENT}", "-H", "x-reMOTE-user: admin")
    path = f"{names.ROOT}/{names.RESOURCE}"
    assert gateway.get(path, *forged[:-2], client=proxy)[0] == 200
    for certificate in (None, *wrong(plane, tmp_path)):
        code, body = gateway.get(path, *forged, client=certificate)
        assert (code, json.loads(body)["reason"]) == (401, "Unauthorized"), certificate
    for number, name in enumerate(("somebody", f"{PROXY_CLIENT}\n", f"{PROXY_CLIENT}\r\nX-Remote-Group: x")):
        other = plane.front_proxy.issue(f"front-other-{number}", name)
        assert gateway.get(path, *forged, client=other)[0] == 401, name


def wrong(plane: ControlPlane, directory: Path) -> list[Certificate]:
    """Return certificates of the right name: of an authority that has only the name of the right one, of
    kube-apiserver's clients' authority, and one that has expired."""
    impostor = Authority(directory / "impostor", "front-proxy-ca")
    expired = Certificate(directory / "expired.pem", plane.front_proxy.issue("expired", PROXY_CLIENT).key)
    request = ["openssl", "x509", "-new", "-force_pubkey", str(plane.front_proxy.directory / "expired.pub")]
    key = ["openssl", "pkey", "-in", str(expired.key), "-pubout", "-out", request[-1]]
    subprocess.run(key, check=True, timeout=30)
    signer = plane.front_proxy.certificate
    request += [
        "-subj",
        f"/CN={PROXY_CLIENT}",
        "-CA",
        str(signer.path),
        "-CAkey",
        str(signer.key),
        "-days",
        "-1",
    ]
    subprocess.run([*request, "-out", str(expired.path)], check=True, timeout=30, capture_output=True)
    return [
        impostor.issue("impostor", PROXY_CLIENT),
        plane.ca.issue("front-client", PROXY_CLIENT),
        expired,
    ]


def test_own_headers_of_the_front_proxy_come_through_unchanged(gateway: Gateway, proxy: Certificate) -> None:
    """A user may be in more groups than HAProxy takes headers by itself (101)."""
    groups = [word for number in range(1000) for word in ("-H", f"X-Remote-Group: group-{number}")]
    user = ("-H", "X-Remote-User: bob", *groups)
    path = f"{names.ROOT}/{names.RESOURCE}"
    assert gateway.get(path, *user, client=proxy)[0] == 403
    assert gateway.get(path, *user, "-H", "X-Remote-Group: system:masters", client=proxy)[0] == 200


@pytest.mark.parametrize(
    ("path", "arguments", "code"),
    [
        ("/apis", ("-X", "TRACE"), 405),
        ("/apis", ("-X", "OPTIONS"), 405),
        (f"{names.ROOT}/%6eamespaces", (), 400),
        (f"/{names.ROOT}", (), 400),
        (f"{names.ROOT}/../x", (), 400),
        (names.ROOT, ("-X", "PUT", "-H", "Content-Length: 4000000"), 413),
    ],
)
def test_odd_requests_do_not_reach_the_shim(
    gateway: Gateway, path: str, arguments: tuple[str, ...], code: int
) -> None:
    found, body = gateway.get(path, *arguments)
    assert (found, json.loads(body)["code"]) == (code, code)


def test_a_head_that_is_too_long_is_refused(gateway: Gateway) -> None:
    assert gateway.get(names.ROOT, "-H", "X-Long: " + "x" * 70_000)[0] == 400


def test_sockets_are_their_groups(gateway: Gateway) -> None:
    modes = {
        name: os.stat(rundir.path(str(gateway.run_dir), name)).st_mode & 0o777
        for name in (rundir.SHIM_SOCKET, rundir.ADMIN_SOCKET, rundir.OFFLINE_SOCKET)
    }
    assert modes == {rundir.SHIM_SOCKET: 0o660, rundir.ADMIN_SOCKET: 0o660, rundir.OFFLINE_SOCKET: 0o600}


def connect(
    product: Product, gateway: Gateway, client: Certificate | None = None, **options: Any
) -> ssl.SSLSocket:
    """Return a TLS connection to a gateway; options are the SSLContext's attributes."""
    context = ssl.create_default_context(cafile=str(product.ca.certificate.path))
    context.set_alpn_protocols(options.pop("alpn", ["h2", "http/1.1"]))
    for name, value in options.items():
        setattr(context, name, value)
    if client is not None:
        context.load_cert_chain(client.path, client.key)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    plain.settimeout(SECONDS)
    plain.connect((gateway.address, PORT))
    return context.wrap_socket(plain, server_hostname=HOST)


def test_http_1_1_is_all_that_is_spoken(product: Product, gateway: Gateway) -> None:
    """HTTP/2 would turn an answer that breaks off into one that ends."""
    with connect(product, gateway) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
    with connect(product, gateway, alpn=["h2"]) as connection:
        assert connection.selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_tls_is_refused(product: Product, gateway: Gateway) -> None:
    old = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}
    with pytest.raises((ssl.SSLError, ConnectionError)), connect(product, gateway, None, **old):
        pass


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_no_session_is_resumed(product: Product, gateway: Gateway, tmp_path: Path, version: str) -> None:
    """Who was the front proxy before its CA was replaced must show his certificate again."""
    session = tmp_path / "session"
    hello = ["openssl", "s_client", "-connect", f"{gateway.address}:{PORT}", f"-tls{version}"]
    request = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    for option in ("-sess_out", "-sess_in"):
        if option == "-sess_in" and not session.exists():
            return  # nothing was given that could be used
        done = subprocess.run(
            [*hello, "-ign_eof", option, str(session)],
            input=request,
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert b"200 OK" in done.stdout
        assert b"Reused" not in done.stdout


def test_a_reload_cuts_no_download(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, tmp_path: Path
) -> None:
    with download(plane, gateway, dumps, tmp_path / "begun", proxy) as begun:
        begun.read(1_000_000)
        before = gateway.workers()
        gateway.configure()
        gateway.reload()
        assert before & gateway.workers()
        assert begun.finish() == 0, begun.errors
    with download(plane, gateway, dumps, tmp_path / "whole", proxy) as whole:
        assert whole.finish() == 0, whole.errors
    assert downloading.sha256(tmp_path / "begun") == downloading.sha256(tmp_path / "whole")
    wait_for("the old process ends", lambda: not before & gateway.workers(), SECONDS)


def test_a_download_that_breaks_off_is_told(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, tmp_path: Path
) -> None:
    with download(plane, gateway, dumps, tmp_path / "begun", proxy) as begun:
        begun.read(1_000_000)
        with dead(gateway):
            assert begun.finish() in CLOSED, begun.errors
    assert begun.size < len(CORE)


def download(
    plane: ControlPlane, gateway: Gateway, path: str, into: Path, client: Certificate
) -> contextlib.AbstractContextManager[downloading.Download]:
    """Begin a download by curl that goes on as it is read."""
    return downloading.begun(gateway.curl(path, *ADMIN, "--fail", client=client), into, plane.environment)


def test_downloads_at_their_limit_hold_up_nothing_else(
    plane: ControlPlane, product: Product, gateway: Gateway, proxy: Certificate, dumps: str
) -> None:
    """Every place is taken by a reader who stands still: one more waits, then is told to come back.

    No user can take them all.
    """
    most = share(downloads.DOWNLOADS)
    with contextlib.ExitStack() as stack:

        def begin(user: str) -> bytes:
            who = f"X-Remote-User: {user}\r\nX-Remote-Group: system:masters"
            connection = stack.enter_context(connect(product, gateway, proxy))
            connection.sendall(f"GET {dumps} HTTP/1.1\r\nHost: {HOST}\r\n{who}\r\n\r\n".encode())
            return connection.recv(15)

        for _ in range(most):
            assert begin("admin") == b"HTTP/1.1 200 OK"
        assert begin("admin") == b"HTTP/1.1 429 TO"
        for _ in range(downloads.DOWNLOADS - most):
            assert begin("somebody-else") == b"HTTP/1.1 200 OK"
        for path in (names.ROOT, f"{names.ROOT}/{names.RESOURCE}"):
            assert plane.kubectl("get", "--raw", path, "--request-timeout=5s")
        code, body = gateway.get(dumps, *ADMIN, client=proxy)
        assert (code, json.loads(body)["reason"]) == (503, "ServiceUnavailable")

    def again() -> bool:
        return gateway.get(dumps, *ADMIN, "-I", client=proxy)[0] == 200

    wait_for("a place for another download", again)


SOURCES = haproxycfg.NEWCOMERS // haproxycfg.STRANGER + 2
"""Addresses that together take all that strangers may have."""


def test_strangers_take_no_connection_from_others(
    plane: ControlPlane, product: Product, gateway: Gateway, proxy: Certificate
) -> None:
    """Whoever shows no certificate has few connections, and those who finish no handshake not all."""
    assert plane.kubectl("get", "--raw", names.ROOT)  # so that kube-apiserver is known
    with contextlib.ExitStack() as stack:
        for _ in range(haproxycfg.STRANGER):
            stack.enter_context(connect(product, gateway))
        with pytest.raises((OSError, ssl.SSLError)):  # the handshake, or the first bytes after it
            connection = stack.enter_context(connect(product, gateway))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not connection.recv(1)
            raise ConnectionResetError
        for source in range(2, 2 + SOURCES):
            for _ in range(haproxycfg.STRANGER + 1):
                with contextlib.suppress(ConnectionError):  # refused before we know that it was made
                    other = (f"127.0.1.{source}", 0)
                    stack.enter_context(socket.create_connection((gateway.address, PORT), SECONDS, other))
        newcomer = ("127.0.2.1", 0)
        with (
            pytest.raises(OSError),
            socket.create_connection((gateway.address, PORT), SECONDS, newcomer) as late,
        ):
            assert not late.recv(1)
            raise ConnectionResetError
        assert gateway.get(names.ROOT, *ADMIN, client=proxy)[0] == 200
        assert plane.kubectl("get", "--raw", names.ROOT, "--request-timeout=5s")


def test_a_connection_is_kept_while_its_certificate_is_good(
    gateway: Gateway, plane: ControlPlane, proxy: Certificate
) -> None:
    for client, kept in ((proxy, True), (None, False), (plane.ca.issue("front-wrong", PROXY_CLIENT), False)):
        headers, _ = read(gateway, names.ROOT, client=client)
        assert (headers.get("connection") != "close") == kept


def test_a_watch_ends_with_its_reader(
    plane: ControlPlane, product: Product, gateway: Gateway, namespace: str
) -> None:
    """Its place, and the shim's thread, are for the next one."""
    resource = f"{names.RESOURCE}.{names.VERSION}.{names.GROUP}"
    command = plane.command("get", resource, "--namespace", namespace, "--watch")
    with subprocess.Popen(command, env=plane.environment, stdout=subprocess.DEVNULL) as watch:
        try:
            wait_for("the watch is there", lambda: watches(gateway) == 1)
        finally:
            watch.kill()
    wait_for("the watch is gone", lambda: watches(gateway) == 0)


def watches(gateway: Gateway) -> int:
    """Return how many HAProxy has under way."""
    lines = frontca.command(rundir.path(str(gateway.run_dir), rundir.ADMIN_SOCKET), "show stat").splitlines()
    (found,) = (
        each for each in csv.DictReader(lines) if each["# pxname"] == "watches" and each["svname"] == "shim"
    )
    return int(found["scur"])


def test_one_of_two_gateways_is_gone(plane: ControlPlane, product: Product, namespace: str) -> None:
    """It is marked not ready, and nothing else fails."""
    path = f"{NAMESPACES}/{namespace}/{names.RESOURCE}"
    with product.another_gateway() as other:
        assert ready(plane) == {product.gateway.address: True, other.address: True}
        with other.haproxy.killed():
            wait_for("it is marked", lambda: not ready(plane)[other.address], SECONDS)
            for _ in range(20):
                assert json.loads(plane.kubectl("get", "--raw", path))["items"] == []
        wait_for("it is back", lambda: ready(plane)[other.address], SECONDS)
    assert product.condition() == "True"
