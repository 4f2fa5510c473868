"""cluster: a gigabyte of cores through kube-apiserver, and by TLS beside the Go server without it.

Not here: from a crash to its Event (event).
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import curl, dumps, health, load, servers
from benchmarks.dumps import Dumps
from benchmarks.report import Row, alone, at_most, compared, interleave
from coredump_shim import names
from coredump_shim.cluster import Cluster
from testbed.cluster.controlplane import ControlPlane, control_plane
from testbed.cluster.product import HOST, PORT, installed

ROUNDS = 3
CLIENTS = 64
TIME_GOAL = at_most(0.12)
FIRST_GOAL = at_most(0.002)
HEALTH_GOAL = at_most(0.05)
DISCOVERY_GOAL = at_most(5000)
"""kube-aggregator waits so long for discovery, in ms, before it says that the API is not available."""
ACCOUNT = "bench"


@dataclass(frozen=True)
class _Gateway:
    """The product in a cluster, reached in both ways."""

    plane: ControlPlane
    straight: curl.Server
    aggregated: curl.Server
    dump: str
    """Path of the archive, in the form that kube-apiserver does not cut."""


def measure(scratch: Path) -> list[Row]:
    """Measure all of it in one thread of its own: a cluster lives in its thread's network namespace."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_measure, scratch).result()


def _measure(scratch: Path) -> list[Row]:
    made = dumps.make(scratch)
    with _gateway(scratch, made) as gateway:
        rows = [_through_kube_apiserver(gateway)]
        with servers.baseline(made.raw, scratch / "tmp") as go:
            rows += _beside_go(gateway, go)
        return [*rows, *_discovery(gateway)]


@contextmanager
def _gateway(scratch: Path, made: Dumps) -> Iterator[_Gateway]:
    (scratch / "plane").mkdir()
    with control_plane(scratch / "plane") as plane:
        plane.kubectl(
            "create", "namespace", dumps.NAMESPACE
        )  # first: a namespace that is not there is collected
        plane.kubectl("create", "serviceaccount", ACCOUNT, "--namespace", dumps.NAMESPACE)
        account = f"--serviceaccount={dumps.NAMESPACE}:{ACCOUNT}"
        plane.kubectl("create", "clusterrolebinding", ACCOUNT, "--clusterrole=cluster-admin", account)
        token = plane.token(dumps.NAMESPACE, ACCOUNT)
        with installed(plane, made.store) as product:
            address = f"{product.gateway.address}:{PORT}"
            yield _Gateway(
                plane,
                curl.Server(f"https://{HOST}", product.ca.certificate.path, address, token),
                curl.Server(plane.server, plane.ca.certificate.path, token=token),
                made.url.replace("/dump", "/proxy/dump"),
            )


def _through_kube_apiserver(gateway: _Gateway) -> Row:
    def kubectl() -> float:
        begun = time.monotonic()
        command = gateway.plane.command("get", "--raw", gateway.dump)
        environment = gateway.plane.environment
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=load.SECONDS)
        return time.monotonic() - begun

    pairs = interleave(ROUNDS, kubectl, lambda: curl.fetch(gateway.straight, gateway.dump).last)
    return compared(("cluster", "download: kubectl get --raw, curl from HAProxy"), "s", pairs, None)


def _beside_go(gateway: _Gateway, go: int) -> list[Row]:
    plain = curl.Server(f"http://127.0.0.1:{go}")
    runs = interleave(
        ROUNDS,
        partial(curl.fetch, gateway.straight, gateway.dump),
        partial(curl.fetch, plain, "/dump"),
    )
    p99s = interleave(ROUNDS, partial(_health, gateway), lambda: health.busy(go, "/dump"))
    times = [(ours.last, other.last) for ours, other in runs]
    first = [(ours.first * 1000, other.first * 1000) for ours, other in runs]
    return [
        compared(("cluster", "download: TLS, plain Go"), "s", times, TIME_GOAL),
        compared(("cluster", "first byte: TLS, plain Go"), "ms", first, FIRST_GOAL),
        compared(("cluster", f"health: p99, {CLIENTS} downloads, TLS, plain Go"), "ms", p99s, HEALTH_GOAL),
    ]


def _health(gateway: _Gateway) -> float:
    """Return the p99 of /readyz, which HAProxy asks the shim for, each time over a new connection."""
    server = gateway.straight
    probe = partial(_ready, server, ssl.create_default_context(cafile=server.ca))
    with curl.fetching(server, gateway.dump, CLIENTS) as fetching:
        took = health.latencies(probe, fetching)
        assert fetching(), "the downloads failed"
        return health.percentile(took, 99)


def _ready(server: curl.Server, context: ssl.SSLContext) -> bool:
    host, _, port = server.address.rpartition(":")
    name = server.url.removeprefix("https://")
    with (
        socket.create_connection((host, int(port)), timeout=60) as connection,
        context.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        encrypted.sendall(f"GET /readyz HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        return encrypted.recv(12) == b"HTTP/1.1 200"


def _discovery(gateway: _Gateway) -> list[Row]:
    """Ask kube-apiserver for what it asks the shim, while it passes downloads on."""
    api = Cluster(str(gateway.plane.kubeconfig("admin")))
    with curl.fetching(gateway.aggregated, gateway.dump, CLIENTS) as fetching:
        took = health.latencies(lambda: bool(api.get(names.ROOT)), fetching)
        assert fetching(), "the downloads failed"
    what = f"discovery through kube-apiserver, {CLIENTS} downloads"
    return [
        alone(("cluster", f"{what}: p50"), "ms", health.percentile(took, 50), None),
        alone(("cluster", f"{what}: p99"), "ms", health.percentile(took, 99), DISCOVERY_GOAL),
    ]
