"""Who gets in and what he may: through kube-apiserver, and past it, straight at HAProxy.

Past kube-apiserver we are the front proxy ourselves where we have its certificate; what the shim and HAProxy
decide shows only there, since kube-apiserver asks its own authorizer before it passes a request on.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coredump_shim import names
from coredump_shim.trust import CONFIGMAP
from testbed.cluster.certificates import Authority, Certificate
from testbed.cluster.controlplane import PROXY_CLIENT, ControlPlane
from testbed.cluster.product import HOST, PORT, Gateway, Product
from testbed.waiting import wait_for
from tests.support.dumps import write_dump

pytestmark = pytest.mark.root

RBAC = "rbac.authorization.k8s.io"
NOWHERE = f"{names.ROOT}/nowhere"
"""A path of the shim's own, which HAProxy does not answer: 404 for whoever may ask for it."""
MASTERS = ("-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters")


@pytest.fixture
def gateway(product: Product) -> Gateway:
    return product.gateway


@pytest.fixture
def proxy(plane: ControlPlane) -> Certificate:
    """Return a certificate as kube-apiserver's own."""
    return plane.front_proxy.issue("test-proxy", PROXY_CLIENT)


@pytest.fixture
def dumps(store: Path, namespace: str) -> str:
    """Return the collection of a namespace in which pod web has a dump."""
    write_dump(store, namespace=namespace, core=b"\x7fELF" + namespace.encode() * 100)
    return collection(namespace)


def collection(namespace: str) -> str:
    return f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}"


def who(user: str, *groups: str) -> list[str]:
    """Return curl's options for the front proxy's headers."""
    headers = [f"X-Remote-User: {user}", *(f"X-Remote-Group: {group}" for group in groups)]
    return [word for header in headers for word in ("-H", header)]


def code(gateway: Gateway, path: str, *arguments: str, client: Certificate | None = None) -> int:
    return gateway.get(path, *arguments, "-o", "/dev/null", client=client)[0]


def said(gateway: Gateway, path: str, *arguments: str, client: Certificate | None = None) -> tuple[int, str]:
    """Return code and sentence of a Status."""
    found, body = gateway.get(path, *arguments, client=client)
    status = json.loads(body)
    assert (status["kind"], status["code"]) == ("Status", found)
    return found, status["message"]


def grant(
    plane: ControlPlane, namespace: str, subject: dict[str, str], *resources: str, role: str = ""
) -> None:
    """Let somebody read resources of a namespace, or do what a ClusterRole says."""
    metadata = {
        "name": re.sub(r"[^a-z0-9]", "-", subject["name"]) + (role or "-reader"),
        "namespace": namespace,
    }
    rule = {"apiGroups": [names.GROUP], "resources": resources, "verbs": ["get", "list", "delete"]}
    made = {"kind": "Role", "apiVersion": f"{RBAC}/v1", "metadata": metadata, "rules": [rule]}
    ref = {"kind": "ClusterRole", "name": role} if role else {"kind": "Role", "name": metadata["name"]}
    binding = {
        "kind": "RoleBinding",
        "apiVersion": f"{RBAC}/v1",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, **ref},
        "subjects": [subject],
    }
    objects = {"kind": "List", "apiVersion": "v1", "items": [binding] if role else [made, binding]}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(objects))


def user(name: str) -> dict[str, str]:
    return {"kind": "User", "apiGroup": RBAC, "name": name}


def group(name: str) -> dict[str, str]:
    return {"kind": "Group", "apiGroup": RBAC, "name": name}


DUMP, PROXY = f"{names.RESOURCE}/dump", f"{names.RESOURCE}/proxy"


def test_check_08_forged_headers_with_no_or_a_wrong_certificate(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, tmp_path: Path
) -> None:
    forged = (*MASTERS, "-H", f"{names.CLIENT_CN}: {PROXY_CLIENT}", "-H", "X_Remote_User: admin")
    stranger = Authority(tmp_path, "front-proxy-ca").issue("client", PROXY_CLIENT)
    for path in (dumps, f"{dumps}/web", f"{dumps}/web/dump", f"{dumps}/web/proxy/dump", NOWHERE, names.ROOT):
        for client in (None, stranger, plane.certificate("admin")):
            assert said(gateway, path, *forged, client=client) == (401, "Unauthorized"), (path, client)
        assert code(gateway, path, *MASTERS, client=proxy) in (200, 404)
    assert code(gateway, f"{dumps}/web/dump", *MASTERS, client=proxy) == 200


def test_check_09_a_certificate_of_another_name(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str
) -> None:
    for number, name in enumerate(("other", "Front-Proxy-Client", f"{PROXY_CLIENT}, x", "ünï")):
        client = plane.front_proxy.issue(f"other-{number}", name)
        for path in (f"{dumps}/web/dump", NOWHERE):
            assert said(gateway, path, *MASTERS, client=client) == (401, "Unauthorized")
            forged = ("-H", f"{names.CLIENT_CN}: {PROXY_CLIENT}")
            assert code(gateway, path, *MASTERS, *forged, client=client) == 401
    assert code(gateway, f"{dumps}/web/dump", *MASTERS, client=proxy) == 200


def test_check_10_a_group_with_a_comma_grants_nothing(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, namespace: str
) -> None:
    # kube-apiserver lets it pass by this grant; the shim must find the group as a whole, and no other.
    hostile = "a, system:masters"
    grant(plane, namespace, group(hostile), DUMP)
    paths = (f"{dumps}/web/dump", dumps, NOWHERE)
    assert [code(gateway, path, *who("x", hostile), client=proxy) for path in paths] == [200, 403, 403]
    assert [code(gateway, path, *who("x", "a", "system:masters"), client=proxy) for path in paths] == [
        200,
        200,
        404,
    ]
    assert [code(gateway, path, *who("x", "a,system:masters"), client=proxy) for path in paths] == [
        403,
        403,
        403,
    ]
    plane.kubectl("get", "--raw", paths[0], "--as=x", f"--as-group={hostile}")
    config = plane.kubeconfig("x", hostile)
    plane.kubectl("get", "--raw", paths[0], f"--kubeconfig={config}")
    assert "forbidden" in plane.kubectl("get", "--raw", dumps, f"--kubeconfig={config}", code=1).lower()


def test_check_11_names_and_extras_of_any_script_reach_the_review(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, namespace: str
) -> None:
    grant(plane, namespace, user("Jörg 日本"), DUMP)
    assert code(gateway, f"{dumps}/web/dump", *who("Jörg 日本"), client=proxy) == 200
    plane.kubectl("get", "--raw", f"{dumps}/web/dump", "--as=Jörg 日本")
    found, sentence = said(gateway, dumps, *who("Jörg 日本"), client=proxy)
    assert found == 403
    assert sentence == (
        f'coredumpendpoints.coredump.fujitsu.com is forbidden: User "Jörg 日本" cannot list resource '
        f'"coredumpendpoints" in API group "coredump.fujitsu.com" in the namespace "{namespace}"'
    )
    grant(plane, namespace, user("y"), DUMP, names.RESOURCE)
    extras = ["Impersonate-User: y", *(f"Impersonate-Extra-{ESCAPED}: {value}" for value in VALUES)]
    with reviews_seen(plane, gateway) as specs:
        for path in (f"{dumps}/web/dump", dumps):  # served by two processes
            assert through_apiserver(plane, path, *extras) == 200
    ours = [spec for spec in specs if spec["user"] == "y"]
    assert [spec["resourceAttributes"]["verb"] for spec in ours] == ["get", "list"]
    assert [spec["extra"] for spec in ours] == [{"example.org/schlüssel": list(VALUES)}] * 2


VALUES = ("wert ü", "a, b")
ESCAPED = "Example.org%2fschl%c3%bcssel"
"""The name of an extra, as a header has it."""


@contextlib.contextmanager
def reviews_seen(plane: ControlPlane, gateway: Gateway) -> Iterator[list[Any]]:
    """Let the shim reach kube-apiserver through us; yield the SubjectAccessReviews that it asks for."""
    specs: list[Any] = []
    context = ssl.create_default_context(cafile=str(plane.ca.certificate.path))

    class Passing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            if self.path.endswith("/subjectaccessreviews") and body:
                specs.append(json.loads(body)["spec"])
            onward = http.client.HTTPSConnection(urlsplit(plane.server).netloc, context=context, timeout=30)
            onward.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
            answer = onward.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            onward.close()

        do_POST = do_GET  # noqa: N815 - its name

        def log_message(self, *_: object) -> None:
            return

    config = Path(gateway.shim.command[gateway.shim.command.index("--kubeconfig") + 1])
    before = config.read_text()
    with http.server.ThreadingHTTPServer((plane.address, 0), Passing) as passing:
        thread = threading.Thread(target=passing.serve_forever, args=(0.02,))
        thread.start()
        try:
            with gateway.shim.killed():
                config.write_text(
                    before.replace(plane.server, f"http://{plane.address}:{passing.server_port}")
                )
            gateway.wait_for_shim()
            yield specs
        finally:
            with gateway.shim.killed():
                config.write_text(before)
            gateway.wait_for_shim()
            passing.shutdown()
            thread.join()


def through_apiserver(plane: ControlPlane, path: str, *headers: str) -> int:
    """Return the code of a request to kube-apiserver as admin, with headers that kubectl cannot send."""
    admin = plane.certificate("admin")
    shown = ["--cacert", str(plane.ca.certificate.path), "--cert", str(admin.path), "--key", str(admin.key)]
    command = ["curl", "-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", *shown]
    command += [word for header in headers for word in ("-H", header)]
    done = subprocess.run([*command, plane.server + path], check=True, capture_output=True, timeout=90)
    return int(done.stdout)


def test_check_12_rotation_of_the_front_proxys_ca(
    plane: ControlPlane, product: Product, gateway: Gateway, tmp_path: Path
) -> None:
    workers = gateway.workers()
    old = plane.front_proxy.issue("before-rotation", PROXY_CLIENT)
    other = Authority(tmp_path, "other-front-proxy-ca")
    others = other.issue("client", PROXY_CLIENT)
    trusted = authorities(plane)
    with always(lambda: code(gateway, NOWHERE, *MASTERS, client=old), 404):
        assert code(gateway, NOWHERE, *MASTERS, client=others) == 401
        trust(plane, trusted + other.certificate.path.read_text())
        wait_for("both are accepted", lambda: code(gateway, NOWHERE, *MASTERS, client=others) == 404)
        resumed = {
            version: Resumable(product, gateway, others, version) for version in ("TLSv1_2", "TLSv1_3")
        }
        assert [client.get() for client in resumed.values()] == [404, 404]
        trust(plane, trusted)
        wait_for("one is refused", lambda: code(gateway, NOWHERE, *MASTERS, client=others) == 401)
        assert [client.get() for client in resumed.values()] == [401, 401]
        plane.rotate_front_proxy("front-proxy-of-check-12")
        product.wait_until_available()
        plane.kubectl("get", names.RESOURCE + f".{names.VERSION}.{names.GROUP}", "--all-namespaces")
    assert gateway.workers() <= workers, "and HAProxy was not even reloaded"


def authorities(plane: ControlPlane) -> str:
    data = json.loads(plane.kubectl("get", "--raw", CONFIGMAP))["data"]
    return str(data["requestheader-client-ca-file"])


def trust(plane: ControlPlane, bundle: str) -> None:
    """Write the authorities of front proxies; kube-apiserver adds its own where it is missing."""
    patch = json.dumps({"data": {"requestheader-client-ca-file": bundle}})
    name = CONFIGMAP.rpartition("/")[2]
    plane.kubectl("patch", "configmap", name, "--namespace=kube-system", "--type=merge", "--patch", patch)


@contextlib.contextmanager
def always(look: Callable[[], int], expected: int) -> Iterator[None]:
    """Look again and again meanwhile, from a thread in the same network; fail if it was ever different."""
    seen: list[int] = []
    end = threading.Event()

    def watch() -> None:
        while not end.is_set():
            seen.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(120)
    assert len(seen) > 5
    assert set(seen) == {expected}


class Resumable:
    """A client that resumes its TLS session wherever the server lets it."""

    def __init__(self, product: Product, gateway: Gateway, client: Certificate, version: str) -> None:
        self._address = (gateway.address, PORT)
        self._context = ssl.create_default_context(cafile=str(product.ca.certificate.path))
        self._context.load_cert_chain(client.path, client.key)
        self._context.minimum_version = self._context.maximum_version = ssl.TLSVersion[version]
        self._session: ssl.SSLSession | None = None

    def get(self) -> int:
        with (
            socket.create_connection(self._address, timeout=30) as plain,
            self._context.wrap_socket(plain, server_hostname=HOST, session=self._session) as connection,
        ):
            headers = "X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nConnection: close"
            connection.sendall(f"GET {NOWHERE} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
            self._session = connection.session
        return int(answer.split()[1])


def test_check_13_reading_endpoints_is_not_reading_dumps(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, namespace: str
) -> None:
    grant(plane, namespace, user("alice"), role="view")
    forms = {"dump": DUMP, "proxy/dump": PROXY}
    wait_for("view shows endpoints", partial(succeeds, plane, "get", "--raw", dumps, user="alice"))
    for form, resource in forms.items():
        error = plane.kubectl("get", "--raw", f"{dumps}/web/{form}", user="alice", code=1)
        assert "Forbidden" in error
        found, sentence = said(gateway, f"{dumps}/web/{form}", *who("alice", "devs"), client=proxy)
        assert found == 403
        assert sentence == (
            f'coredumpendpoints.coredump.fujitsu.com "web" is forbidden: User "alice" cannot get resource '
            f'"{resource}" in API group "coredump.fujitsu.com" in the namespace "{namespace}"'
        )
    grant(plane, namespace, user("bob"), role="edit")
    for form in forms:
        path = f"{dumps}/web/{form}"
        wait_for("edit reads dumps", partial(succeeds, plane, "get", "--raw", path, user="bob"))


def succeeds(plane: ControlPlane, *arguments: str, user: str) -> bool:
    return not plane.run(*arguments, user=user).returncode


def test_view_never_holds_dumps(plane: ControlPlane, product: Product) -> None:
    def resources(role: str) -> set[str]:
        rules = json.loads(plane.kubectl("get", "clusterrole", role, "-o", "json"))["rules"]
        ours = [rule for rule in rules if names.GROUP in rule.get("apiGroups", [])]
        assert not any("*" in rule["resources"] for rule in ours)
        return {resource for rule in ours for resource in rule["resources"]}

    wait_for("roles are aggregated", lambda: DUMP in resources("edit") and resources("view"))
    assert resources("view") == {names.RESOURCE}
    assert {DUMP, PROXY} <= resources("edit") & resources("admin")


def test_check_14_a_grant_is_soon_effective(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, namespace: str
) -> None:
    def get() -> int:
        return code(gateway, f"{dumps}/web/dump", *who("carol"), client=proxy)

    assert get() == 403
    grant(plane, namespace, user("carol"), DUMP)
    wait_for("the grant is effective", lambda: get() == 200, 15)
    plane.kubectl("delete", "rolebindings", "--all", "--namespace", namespace)
    wait_for("so is its end", lambda: get() == 403, 15)


def test_check_15_without_a_review_nothing_is_allowed(
    plane: ControlPlane, gateway: Gateway, proxy: Certificate, dumps: str, namespace: str
) -> None:
    grant(plane, namespace, user("alice"), DUMP, names.RESOURCE)
    token = plane.token(namespace, "default")
    with plane.without_apiserver():
        for path in (f"{dumps}/web/dump", dumps, NOWHERE, "/openapi/v2"):
            assert code(gateway, path, *who("alice", "devs"), client=proxy) == 500, path
            assert code(gateway, path, "-H", f"Authorization: Bearer {token}") == 500, path
            assert code(gateway, path) == 401
        assert code(gateway, NOWHERE, *MASTERS, client=proxy) == 404
        assert code(gateway, "/readyz") == 200
    wait_for(
        "reviews again",
        lambda: code(gateway, f"{dumps}/web/dump", *who("alice", "devs"), client=proxy) == 200,
    )


def test_check_16_bearer_tokens_are_reviewed_for_paths_too(
    plane: ControlPlane, gateway: Gateway, namespace: str
) -> None:
    """There is no /metrics before issue 7: whoever may read it gets 404, everybody else 403 as then."""
    token = ("-H", f"Authorization: Bearer {plane.token(namespace, 'default')}")
    account = f"system:serviceaccount:{namespace}:default"
    assert code(gateway, "/version", *token) == 200  # system:public-info-viewer, for whoever is authenticated
    assert said(gateway, "/metrics", *token) == (
        403,
        f'forbidden: User "{account}" cannot get path "/metrics"',
    )
    name = f"metrics-{namespace}"
    plane.kubectl("create", "clusterrole", name, "--verb=get", "--non-resource-url=/metrics")
    plane.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={namespace}:default"
    )
    try:
        wait_for("the grant is effective", lambda: code(gateway, "/metrics", *token) == 404, 15)
    finally:
        plane.kubectl("delete", "clusterrole,clusterrolebinding", name)
    for bad in (f"Bearer {token[1][:-4]}AAAA", "Bearer x", "Basic YTpi", "Bearer"):
        assert said(gateway, "/version", "-H", f"Authorization: {bad}") == (401, "Unauthorized")


def test_a_service_account_reads_what_it_is_granted(
    plane: ControlPlane, gateway: Gateway, dumps: str, namespace: str
) -> None:
    token = ("-H", f"Authorization: Bearer {plane.token(namespace, 'default')}")
    grant(plane, namespace, {"kind": "ServiceAccount", "namespace": namespace, "name": "default"}, DUMP)
    assert code(gateway, f"{dumps}/web/dump", *token) == 200
    assert code(gateway, f"{dumps}/web/proxy/dump", *token) == 403
    assert code(gateway, dumps, *token) == 403
    assert code(gateway, f"{dumps}/web/dump", *token, *MASTERS) == 200, "headers of others mean nothing"
    assert code(gateway, dumps, *token, *MASTERS) == 403
    assert code(gateway, f"{dumps}/web/dump", *token, "-H", "Impersonate-User: admin") == 403
    assert code(gateway, f"{dumps}/web/dump", *token, *token) == 401


def test_a_tenant_reads_only_his(
    plane: ControlPlane, product: Product, store: Path, dumps: str, namespace: str
) -> None:
    other = f"{namespace}-other"
    plane.kubectl("create", "namespace", other)
    try:
        secret = write_dump(store, namespace=other, core=b"\x7fELF-secret")
        grant(plane, namespace, user("alice"), DUMP, PROXY, names.RESOURCE)
        plane.kubectl("get", "--raw", f"{dumps}/web/dump", user="alice")
        foreign = f"../../{other}/11111111-2222-3333-4444-555555555555/app"
        for path in (
            f"{collection(other)}/web/dump",
            f"{collection(other)}/web/proxy/dump",
            collection(other),
            f"{names.ROOT}/{names.RESOURCE}",
            f"{dumps}/web/dump?container={foreign}",
            f"{dumps}/web/dump?id={secret.name}",
            f"{dumps}/../../{other}/{names.RESOURCE}/web/dump",
        ):
            done = plane.run("get", "--raw", path, user="alice")
            assert (done.returncode, done.stdout) == (1, b""), path
    finally:
        plane.kubectl("delete", "namespace", other, "--wait=false")


@pytest.mark.parametrize("form", ["dump", "proxy/dump"])
def test_odd_paths_are_never_served(
    gateway: Gateway, proxy: Certificate, dumps: str, plane: ControlPlane, namespace: str, form: str
) -> None:
    grant(plane, namespace, user("alice"), DUMP, PROXY, names.RESOURCE)
    for path in (
        f"/{dumps}/web/{form}",
        f"{dumps}//web/{form}",
        f"{dumps}/web/{form}/",
        f"{dumps}/./web/{form}",
        f"{dumps}/x/../web/{form}",
        f"{dumps}/web%2F{form}",
        f"{dumps}/%77eb/{form}",
        f"{dumps}/web/{form}%00",
        f"{dumps}/web/{form};x",
    ):
        for one in (who("alice", "devs"), MASTERS):
            assert code(gateway, path, *one, client=proxy) in (400, 403, 404), path
        raw = ["--request-target", path]
        assert code(gateway, "/", *raw, *MASTERS, client=proxy) in (400, 404), path
    absolute = ["--request-target", f"https://{HOST}{dumps}/web/{form}"]
    assert code(gateway, "/", *absolute, *MASTERS, client=proxy) in (400, 404)


def test_audit(plane: ControlPlane, gateway: Gateway, dumps: str, namespace: str) -> None:
    grant(plane, namespace, user("alice"), DUMP)
    length = len(plane.run("get", "--raw", f"{dumps}/web/dump?container=app", user="alice").stdout)
    assert length

    def logged(line: str) -> None:
        wait_for(line, lambda: re.search(line, gateway.shim.log.read_text()))

    logged(
        rf"download of {namespace}/web '\?container=app' \(1 dumps\) for 'alice': "
        rf"{length} of {length} bytes from 0 on, complete"
    )
    plane.kubectl("get", "--raw", f"{dumps}/web/dump?container=nope", user="alice", code=1)
    logged(
        rf"refused GET '{dumps}/web/dump\?container=nope' for 'alice': 404 'container: there is no dump of"
    )
    assert code(gateway, f"{dumps}/web/dump") == 401
    logged(rf"refused GET '{dumps}/web/dump' for localhost: 401 'Unauthorized'")
    plane.kubectl("delete", "--raw", f"{dumps}/web/dump", user="alice")
    logged(rf"deleted 1 dumps of {namespace}/web for 'alice'")
