"""`make cluster`: a cluster to play with, the product installed in it, until it is interrupted.

Usage: python -m testbed.cluster [DIRECTORY], by default build/cluster, which is emptied first.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import yaml

from testbed import programs
from testbed.cluster import parts, workloads
from testbed.cluster.controlplane import ControlPlane, control_plane
from testbed.cluster.guard import guard
from testbed.cluster.node import Node, node
from testbed.cluster.product import ROOT, Gateway, environment, installed
from testbed.cluster.program import Program, built

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIRECTORY = Path("build/cluster")
WRAPPER = """\
#!/bin/sh
# kubectl in the cluster's network, as its administrator.
test -e /proc/{pid}/ns/net || {{ echo "this cluster has ended; make cluster starts one" >&2; exit 1; }}
exec nsenter --net=/proc/{pid}/ns/net env HOME={home} KUBECONFIG={kubeconfig} {kubectl} "$@"
"""
SHIM = """\
#!/bin/sh
# coredump-shim with the options that it has here, in the cluster's network.
test -e /proc/{pid}/ns/net || {{ echo "this cluster has ended; make cluster starts one" >&2; exit 1; }}
command=$1
test $# = 0 || shift
case $command in
check) set -- {check} "$@" ;;
controller) set -- {controller} "$@" ;;
*) echo "usage: $0 check | controller --dry-run" >&2; exit 2 ;;
esac
exec nsenter --net=/proc/{pid}/ns/net env {environment} "$@"
"""
PART = """\
#!/bin/sh
# Takes a part of the cluster away, or gives it back: kill | start, and its name.
test -e /proc/{pid}/ns/net || {{ echo "this cluster has ended; make cluster starts one" >&2; exit 1; }}
exec nsenter --net=/proc/{pid}/ns/net env PYTHONPATH={root} {python} -m testbed.cluster.parts "$@"
"""
ENDED = """\
#!/bin/sh
echo "this cluster has ended; make cluster starts one" >&2
exit 1
"""
USAGE = """
The cluster is up: one node, the product installed. To see it work, in another shell, as root:

    {d}/kubectl apply -f {d}/web.yaml
    {d}/kubectl wait --for=create cde/web --timeout=30s
    {d}/kubectl describe pod web
    {d}/kubectl get cde
    {d}/kubectl get --raw {dump} > {d}/coredump.tar.gz
    mkdir {d}/coredump && tar -xzf {d}/coredump.tar.gz -C {d}/coredump
    gdb -batch -ex backtrace {program} {d}/coredump/app/*/core
    {d}/coredump-shim check
    {d}/coredump-shim controller --dry-run

web.yaml is a pod that crashes; loop.yaml a Deployment whose pod does so again and again. There is no
scheduler, no network plugin and no registry: pods of your own need what these have, nodeName and so on.
{d}/kubectl is the administrator's; be somebody else by --as alice --as-group devs.
Logs: {d}/*.log, {d}/node, {d}/product*/gateway-0*. Dumps: {d}/store.
To see what becomes of it, and what check says, when something breaks, take a part away and give it back; the
parts are {parts}:

    {d}/part kill haproxy
    {d}/coredump-shim check || true
    {d}/part start haproxy

To end it: Ctrl-C here, or kill {pid}. Then these commands only say that it has ended. Logs and dumps stay
until the next make cluster, which empties {d}.
"""


class Interrupted(BaseException):
    """One of INTERRUPTS came; no Exception, so that nothing takes it for a failure."""


def main() -> int:
    """Run a cluster until it is interrupted; returns the exit status."""
    if os.geteuid() != 0:
        print("make cluster needs root: network namespaces, containers, core_pattern", file=sys.stderr)
        return 2
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    directory = Path(sys.argv[1]) if sys.argv[1:] else DIRECTORY
    try:
        with _emptied(directory), _cluster(directory) as (there, started), parts.listening() as server:
            while True:
                parts.answer(server, there, started)
    except Interrupted as interrupted:
        print(f"\nEnded by {interrupted}: nothing of it runs any more. Its logs are in {directory}.")
    return 0


@contextmanager
def _emptied(directory: Path) -> Iterator[None]:
    """Hold a directory that nobody else has, with nothing in it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another cluster runs in {directory}; name another directory") from None
        shutil.rmtree(directory)
        (directory / "store").mkdir(parents=True)
        yield


@contextmanager
def _cluster(directory: Path) -> Iterator[tuple[dict[str, Program], Callable[[], object]]]:
    """Run a cluster; yield what of it can be taken away, and what waits until all is of use again."""
    full = directory.resolve()
    with ExitStack() as stack:
        with _step("etcd, kube-apiserver, kube-controller-manager"):
            plane = stack.enter_context(control_plane(full))
        with _step("HAProxy, coredump-shim and its controller, manifests/"):
            gateway = stack.enter_context(installed(plane, full / "store")).gateway
        with _step("containerd, kubelet (waits for whoever else holds core_pattern)"):
            ready = stack.enter_context(node(plane))
        with _step("coredump-guard, core_pattern"):
            stack.enter_context(guard(ready.directory / "guard", full / "store"))
        program = programs.program("crash")
        _write_files(full, plane, ready, program)
        for name in ("kubectl", "coredump-shim", "part"):
            stack.callback((full / name).write_text, ENDED)
        _write_script(full / "coredump-shim", _shim_script(gateway))
        _write_script(full / "part", _part_script())
        path = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/default/coredumpendpoints/web/dump"
        places = {"d": directory, "dump": path, "program": program, "pid": os.getpid()}
        there = _parts(plane, gateway)
        print(USAGE.format(**places, parts=", ".join(there)), flush=True)
        yield there, lambda: _wait(there, gateway)


def _parts(plane: ControlPlane, gateway: Gateway) -> dict[str, Program]:
    parts = {"haproxy": gateway.haproxy, "shim": gateway.shim, "kube-apiserver": plane.apiserver}
    return parts | ({"controller": gateway.controller} if gateway.controller else {})


def _wait(there: dict[str, Program], gateway: Gateway) -> None:
    """Wait until HAProxy has found the shim, if both are there."""
    if there["haproxy"].alive() and there["shim"].alive():
        gateway.wait_for_shim()


def _part_script() -> str:
    return PART.format(pid=os.getpid(), root=shlex.quote(str(ROOT)), python=shlex.quote(sys.executable))


def _shim_script(gateway: Gateway) -> str:
    commands = {name: shlex.join(gateway.command(name)) for name in ("check", "controller")}
    variables = shlex.join(f"{name}={value}" for name, value in environment().items())
    return SHIM.format(pid=os.getpid(), environment=variables, **commands)


def _write_files(directory: Path, plane: ControlPlane, ready: Node, program: Path) -> None:
    """Write what people need: kubectl, its kubeconfig, and something that crashes."""
    image = ready.runtime.add_image(program)
    app = workloads.container("app", image)
    for name, workload in {
        "web": workloads.pod("default", "web", app),
        "loop": workloads.deployment("default", "loop", app),
    }.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(workload, sort_keys=False))
    kubeconfig = directory / "kubeconfig"
    shutil.copy(plane.kubeconfig("admin"), kubeconfig)
    places = {"home": directory, "kubeconfig": kubeconfig, "kubectl": built("kubectl")}
    quoted = {name: shlex.quote(str(path)) for name, path in places.items()}
    _write_script(directory / "kubectl", WRAPPER.format(pid=os.getpid(), **quoted))


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"starting {what} …", flush=True)
    yield
    print(f"{time.monotonic() - started:7.2f} s", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Unwind, once: taking things down is not to be interrupted."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


sys.exit(main())
