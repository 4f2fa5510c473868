"""`coredump-shim check` where all is well, and with one thing broken at a time."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coredump_guard import store as layout
from coredump_shim import names, rundir
from testbed.cluster import kubeconfig, network
from testbed.cluster.certificates import Authority, Certificate
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.product import APISERVICE, HOST, PORT, Product
from testbed.cluster.program import built
from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support.dumps import announce, write_dump
from tests.support.gateways import kinds

Checked = Callable[..., dict[str, str]]
SYSTEM = ("--namespace", names.SYSTEM_NAMESPACE)


@pytest.fixture
def own_store(plane: ControlPlane, tmp_path: Path) -> Path:
    """Return a store that is the cluster's and has a dump."""
    store = tmp_path / "store"
    write_dump(store)
    (store / layout.CLUSTER).write_text(cluster_uid(plane))
    return store


@pytest.fixture
def check(product: Product, own_store: Path) -> Checked:
    """Return what runs the command with the shim's own credentials and returns its lines by check.

    Options given by name take the place of those that are right.
    """
    account = product.plane.token_kubeconfig(names.SYSTEM_NAMESPACE, names.SERVICE)

    def checked(code: int = 1, **options: object) -> dict[str, str]:
        right = {"kubeconfig": account, "store": own_store, "run-dir": product.gateway.run_dir}
        given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        told = {f"--{name}": value for name, value in right.items()} | given
        words = [str(word) for pair in told.items() for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", "coredump_shim", "check", *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stderr == ""
        *lines, answer = done.stdout.splitlines()
        assert ("NOT" in answer) == bool(code)
        return {line.split(": ")[0][10:]: line for line in lines}

    return checked


def cluster_uid(plane: ControlPlane) -> str:
    return plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")


def failing(lines: dict[str, str]) -> set[str]:
    """Return which checks are not well."""
    return {check for check, line in lines.items() if not line.startswith("      ok  ")}


def test_where_all_is_well_every_check_says_so(check: Checked) -> None:
    lines = wait_for("a controller leads", lambda: _well(check))
    assert failing(lines) == set(), lines
    assert {"credentials", "serving certificate", "forged headers", "store owner", "lease"} <= set(lines)
    assert "remedy" not in "".join(lines.values())


def _well(check: Checked) -> dict[str, str] | None:
    with contextlib.suppress(AssertionError):
        return check(code=0)
    return None


@contextlib.contextmanager
def patched(product: Product, kind: str, name: str, patch: object, *where: str) -> Iterator[None]:
    """Have an object changed by a JSON patch, and its spec as it was afterwards."""
    plane = product.plane
    spec = json.loads(plane.kubectl("get", kind, name, *where, "-o", "json"))["spec"]

    def change(patch: object) -> None:
        plane.kubectl("patch", kind, name, *where, "--type=json", f"--patch={json.dumps(patch)}")

    change(patch)
    try:
        yield
    finally:
        change(replace("/spec", spec))
        product.wait_until_available()


def replace(path: str, value: object) -> list[dict[str, object]]:
    return [{"op": "replace", "path": path, "value": value}]


def test_a_ca_bundle_that_did_not_sign_the_certificate(
    check: Checked, product: Product, plane: ControlPlane
) -> None:
    other = base64.b64encode(plane.ca.certificate.path.read_bytes()).decode()
    with patched(product, "apiservice", APISERVICE, replace("/spec/caBundle", other)):
        said = check()["serving certificate"]
    assert said.startswith("    FAIL")
    assert "unable to get local issuer certificate" in said
    assert HOST in said.partition("remedy")[2]


def test_a_ca_bundle_that_is_missing(check: Checked, product: Product) -> None:
    gone = [{"op": "remove", "path": "/spec/caBundle"}]
    with patched(product, "apiservice", APISERVICE, gone):
        assert "the APIService has no caBundle" in check()["serving certificate"]


def test_an_apiservice_that_leads_elsewhere(check: Checked, product: Product) -> None:
    with patched(product, "apiservice", APISERVICE, replace("/spec/service/name", "other")):
        assert "leads to service coredump-system/other, not to ours" in check()["apiservice"]


def test_a_service_without_the_port_that_the_apiservice_names(check: Checked, product: Product) -> None:
    wrong = replace("/spec/ports/0/port", 444)
    with patched(product, "service", names.SERVICE, wrong, *SYSTEM):
        assert "has no port 443, which the APIService names; there is 444" in check()["service"]


def test_a_service_whose_port_is_named_otherwise_than_the_gateways(check: Checked, product: Product) -> None:
    wrong = replace("/spec/ports/0/name", "other")
    with patched(product, "service", names.SERVICE, wrong, *SYSTEM):
        said = check()["service"]
    kind, _ = kinds(product.plane)
    assert f"the {kind} has no port named 'other', as the Service's port 443 is; it has 'https'" in said


def test_no_gateways_where_kube_apiserver_looks_for_them(
    check: Checked, product: Product, plane: ControlPlane
) -> None:
    """In EndpointSlices or in Endpoints, by its release; what is in the other is nothing to it."""
    read, unread = kinds(plane)
    try:
        plane.kubectl("delete", unread, names.SERVICE, *SYSTEM)
        assert failing(check(code=0)) <= {"lease"}
        plane.kubectl("apply", "-k", str(product.overlay()))
        plane.kubectl("delete", read, names.SERVICE, *SYSTEM)
        said = check()["service"]
    finally:
        plane.kubectl("apply", "-k", str(product.overlay()))
        product.wait_until_available()
    assert said.startswith("    FAIL")
    assert read.lower() in said.lower()


def test_a_gateway_that_is_not_there(check: Checked) -> None:
    lines = check(gateway=f"{network.GATEWAYS[-1]}:8443")
    assert {"gateways", "serving certificate", "forged headers"} == failing(lines)
    assert "Connection refused" in lines["gateways"]


@pytest.fixture
def presented(product: Product) -> Iterator[Callable[[Certificate], None]]:
    """Return what has HAProxy present another certificate; afterwards it presents its own again."""
    own = product.certificate

    def present(certificate: Certificate) -> None:
        product.certificate = certificate
        product.gateway.configure()
        os.kill(product.gateway.haproxy.pid, signal.SIGUSR2)  # a reload; what it presents may be wrong
        pem = certificate.path.read_text().strip()
        address = (product.gateway.address, PORT)
        wait_for("HAProxy has it", lambda: ssl.get_server_certificate(address).strip() == pem)

    yield present
    present(own)
    product.wait_until_available()


def test_a_certificate_without_a_san(
    check: Checked, product: Product, presented: Callable[[Certificate], None]
) -> None:
    presented(product.ca.issue("nameless", HOST))
    said = check()["serving certificate"]
    assert "FAIL" in said
    assert "Hostname mismatch" in said


def test_a_certificate_that_expired(
    check: Checked, product: Product, presented: Callable[[Certificate], None]
) -> None:
    presented(lasting(product, -1))
    assert "certificate has expired" in check()["serving certificate"]


def test_a_certificate_that_expires_soon_is_a_warning(
    check: Checked, product: Product, presented: Callable[[Certificate], None]
) -> None:
    presented(lasting(product, 29))
    said = check(code=0)["serving certificate"]
    assert said.startswith(" warning")
    assert "only; remedy: renew it" in said


def lasting(product: Product, days: int) -> Certificate:
    """Return a certificate as the gateways', for so many days."""
    key, ca, directory = product.certificate.key, product.ca.certificate, product.ca.directory
    made = Certificate(directory / "lasting.pem", key)
    request, extensions = directory / "lasting.csr", directory / "lasting.cnf"
    extensions.write_text(f"subjectAltName=DNS:{HOST}\n")
    openssl("req", "-new", "-key", key, "-subj", f"/CN={HOST}", "-out", request)
    signer = ("-CA", ca.path, "-CAkey", ca.key, "-CAcreateserial", "-extfile", extensions)
    openssl("x509", "-req", "-in", request, *signer, "-days", days, "-out", made.path)
    return made


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


class Credulous(http.server.BaseHTTPRequestHandler):
    """Believes whoever says who he is."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["X-Remote-Group"] == "system:masters" else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def credulous(product: Product) -> Iterator[str]:
    """Return the address of a gateway that trusts everybody, and speaks HTTP/2 if asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(product.certificate.path, product.certificate.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with http.server.ThreadingHTTPServer((network.GATEWAYS[-1], 0), Credulous) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield "{}:{}".format(*server.server_address[:2])
        server.shutdown()
        thread.join()


def test_a_gateway_that_believes_forged_headers(check: Checked, credulous: str) -> None:
    lines = check(gateway=credulous)
    assert {"serving certificate", "forged headers"} == failing(lines)
    assert "without a certificate with 200, not 401; remedy: STOP HAProxy" in lines["forged headers"]
    assert "speaks HTTP/2" in lines["serving certificate"]


def test_a_role_that_is_not_bound(check: Checked, product: Product, plane: ControlPlane) -> None:
    plane.kubectl("delete", "clusterrolebinding", "coredump-shim", "coredump-shim-auth-delegator")
    try:
        lines = check()
    finally:
        plane.kubectl("apply", "-k", str(product.overlay()))
    assert {"credentials", "token review", "access review"} <= failing(lines)
    assert "coredump-shim may not create tokenreviews.authentication.k8s.io; " in lines["credentials"]
    assert "and 7 more" in lines["credentials"]
    product.wait_until_available()


def test_dumps_for_readers(check: Checked, plane: ControlPlane) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "too-much", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": [names.GROUP], "resources": [f"{names.RESOURCE}/dump"], "verbs": ["get"]}],
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(role))
    get_view = ("get", "clusterrole", "view", "-o", "yaml")
    try:
        wait_for("it is part of view", lambda: f"{names.RESOURCE}/dump" in plane.kubectl(*get_view))
        assert "readers get others' memory" in check()["users roles"]
    finally:
        plane.kubectl("delete", "clusterrole", "too-much")
        wait_for("it is no more", lambda: f"{names.RESOURCE}/dump" not in plane.kubectl(*get_view))


def test_a_schema_of_another_release(check: Checked, product: Product) -> None:
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/dumps/description"
    with patched(product, "crd", f"{names.RESOURCE}.{names.GROUP}", replace(path, "Other words.")):
        assert "v1 has another release's schema" in check()["crd"]


def test_a_store_that_is_not_there(check: Checked, tmp_path: Path) -> None:
    said = check(store=tmp_path / "none")["store"]
    assert (
        f"{tmp_path}/none: No such file or directory; remedy: is the store mounted there? findmnt -T" in said
    )
    (tmp_path / "bare").mkdir()
    said = check(store=tmp_path / "bare")["store"]
    assert f"FAIL  store: no node has ever delivered anything to {tmp_path}/bare, and it is no mount" in said


def test_a_store_that_is_a_file(check: Checked, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = check(store=tmp_path / "file")
    assert f"{tmp_path}/file: Not a directory; remedy: is the store mounted there?" in lines["store"]


def test_a_mount_that_nobody_delivers_to(check: Checked, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "other")]
    subprocess.run(mount, check=True, timeout=30)
    try:
        said = check(code=0, store=tmp_path / "other")["store"]
    finally:
        subprocess.run(["umount", str(tmp_path / "other")], check=True, timeout=30)
    assert said.startswith(
        f" warning  store: no node has ever delivered anything to {tmp_path}/other; remedy:"
    )


def test_a_store_that_lacks_what_endpoints_count(
    check: Checked, product: Product, store: Path, namespace: str, tmp_path: Path
) -> None:
    """An empty one, or one with others' dumps: neither shows by itself that it is the wrong one."""
    empty, others = tmp_path / "empty", tmp_path / "others"
    (empty / layout.INBOX).mkdir(parents=True)
    write_dump(others)
    announce(store, write_dump(store, namespace=namespace))
    counted = ("get", "cde", "web", "-n", namespace, "-o", "jsonpath={.status.dumps}")
    wait_for("the endpoint counts it", lambda: product.plane.run(*counted).stdout == b"1")
    for wrong in (empty, others):
        said = check(store=wrong)["store complete"]
        assert f"FAIL  store complete: {wrong} has no dumps of" in said
        assert "is it the nodes' store, and is it mounted?" in said
    assert not check(code=0, store=store)["store complete"].startswith("    FAIL")


def test_a_store_that_does_not_answer(check: Checked, tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.mkdir()
    with hung(silent):
        lines = check(store=silent)
    assert "it does not answer; remedy: is its file server up?" in lines["store"]
    rest = "store complete, store writable, store owner, clocks"
    assert "not looked at; remedy: mend store first" in lines[rest]
    assert lines["apiservice"].startswith("      ok")


def test_another_clusters_store(check: Checked, own_store: Path) -> None:
    (own_store / layout.CLUSTER).write_text("8c2a0d7e-0000-4000-8000-000000000000\n")
    said = check()["store owner"]
    assert "is that of cluster 8c2a0d7e-0000-4000-8000-000000000000, and this one is" in said
    (own_store / layout.CLUSTER).unlink()
    assert check(code=0)["store owner"].startswith(" warning")


def test_the_shim_is_dead(check: Checked, product: Product) -> None:
    with product.gateway.shim.killed():
        wait_for("HAProxy has noticed", lambda: not product.gateway.answers("/readyz"))
        lines = check()
    product.gateway.wait_for_shim()
    said = "answers 503: no shim behind it; remedy: start it there: coredump-shim serve --kubeconfig"
    assert said in lines["forged headers"]
    assert lines["discovery"].startswith("      ok")  # HAProxy's own


def test_haproxy_is_dead(check: Checked, product: Product) -> None:
    """What is to be done stands in the first line that is not well, and once."""
    gateway = product.gateway
    try:
        with gateway.haproxy.killed():
            lines = check()
    finally:
        gateway.wait_for_shim()
        product.wait_until_available()
    first = next(line for line in lines.values() if line.startswith("    FAIL"))
    assert first == lines["gateways"]
    assert f"Connection refused; remedy: start HAProxy there: haproxy -W -f {gateway.run_dir}" in first
    for check_ in ("serving certificate", "forged headers"):
        assert lines[check_].endswith("remedy: mend gateways first")


def test_a_ca_file_that_is_stale(check: Checked, tmp_path: Path) -> None:
    file = tmp_path / rundir.REQUESTHEADER_CA
    assert "No such file or directory" in check(run_dir=tmp_path)["ca file"]
    file.write_bytes(Authority(tmp_path / "old", "old-front-proxy").certificate.path.read_bytes())
    assert "kube-apiserver is taken for a stranger" in check(run_dir=tmp_path)["ca file"]
    file.write_text("nonsense")
    assert "is no bundle of certificates" in check(run_dir=tmp_path)["ca file"]
    assert check(code=0, run_dir=tmp_path / "none")["ca file"].startswith(" warning")


def test_nobody_leads(check: Checked, product: Product, plane: ControlPlane) -> None:
    lease = ("lease", names.LEASE, *SYSTEM)
    controller = product.gateway.controller
    assert controller is not None
    with controller.killed():
        plane.kubectl(
            "patch", *lease, "--type=merge", "-p", '{"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}'
        )
        assert "has not renewed it for" in check()["lease"]
        plane.kubectl("delete", *lease)
        assert "no controller has ever led" in check()["lease"]


def test_kube_apiserver_that_does_not_answer(check: Checked, plane: ControlPlane, tmp_path: Path) -> None:
    config = kubeconfig.write(
        tmp_path / "config", f"https://{plane.address}:1", plane.ca.certificate.path, kubeconfig.by_token("x")
    )
    lines = check(kubeconfig=config)
    said = f"FAIL  server: https://{plane.address}:1 does not answer: Connection refused; remedy: "
    assert f"{said}is kube-apiserver up there?" in lines["server"]
    assert [line for check, line in lines.items() if check.startswith("token, credentials, token review,")]
    assert lines["store"].startswith("      ok")
    assert lines["clocks"].endswith("remedy: mend server first")


def test_a_kube_apiserver_of_another_ca(check: Checked, plane: ControlPlane, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other").certificate.path
    config = kubeconfig.write(tmp_path / "config", plane.server, other, kubeconfig.by_token("x"))
    said = check(kubeconfig=config)["server"]
    assert "is not the kube-apiserver that the kubeconfig means" in said
    assert f"kubectl config set-cluster test --kubeconfig {config} --embed-certs" in said


def test_a_token_that_is_nobodys(check: Checked, plane: ControlPlane, tmp_path: Path) -> None:
    """Pasting the remedy mends it."""
    config = kubeconfig.write(
        tmp_path / "config", plane.server, plane.ca.certificate.path, kubeconfig.by_token("garbage")
    )
    said = check(kubeconfig=config)["server"]
    assert "does not accept our token" in said
    command = said.partition("remedy: ")[2].removesuffix(", and restart what uses it")
    path = f"{built('kubectl').parent}:{plane.environment['PATH']}"
    pasted = ["bash", "-ec", command]
    subprocess.run(
        pasted, check=True, capture_output=True, env=plane.environment | {"PATH": path}, timeout=60
    )
    lines = check(code=0, kubeconfig=config)
    assert "ok  token: it is good until 20" in lines["token"]


def test_a_token_that_ends_soon_is_a_warning(
    check: Checked, plane: ControlPlane, product: Product, tmp_path: Path
) -> None:
    short = plane.kubectl("create", "token", names.SERVICE, *SYSTEM, "--duration=1h").strip()
    config = kubeconfig.write(
        tmp_path / "config", plane.server, plane.ca.certificate.path, kubeconfig.by_token(short)
    )
    said = check(code=0, kubeconfig=config)["token"]
    assert said.startswith(" warning  token: it ends 20")
    assert f"kubectl create token {names.SERVICE} -n {names.SYSTEM_NAMESPACE} --duration 8760h" in said


def test_credentials_of_somebody_else(check: Checked, plane: ControlPlane) -> None:
    lines = check(kubeconfig=plane.kubeconfig("alice"))
    assert lines["credentials"].startswith("    FAIL  credentials: alice may not")
    assert "remedy: name the shim's own kubeconfig" in lines["credentials"]
    assert "remedy: see credentials" in lines["apiservice"]
    assert lines["token"].endswith("there is none, but a client certificate")
    assert lines["store"].startswith("      ok")
