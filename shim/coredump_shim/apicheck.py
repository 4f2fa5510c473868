"""The checks of what kube-apiserver knows of us: APIService, Service, gateways, custom resource, discovery.

Not here: rights (rightscheck), certificates (certificatecheck).
"""

from __future__ import annotations

import socket

from coredump_guard.finding import Finding, fail, ok
from coredump_guard.words import counted
from coredump_shim import names, rundir
from coredump_shim.crd import definition
from coredump_shim.endpoint import Object
from coredump_shim.installation import PATIENCE, Address, Installation
from coredump_shim.remedy import APPLY
from coredump_shim.status import ApiError

OLDEST = (1, 29)
"""The first Kubernetes in which the rules of a custom resource's validation (CEL) are stable."""
APISERVICE = f"{names.VERSION}.{names.GROUP}"
MEND = "mend what is FAIL above, and this follows within 30 s; else see docs/gateway.md"
SCHEMA = ("schema", "subresources")
"""What makes a custom resource's version that of a release."""


def server(found: Installation) -> Finding:
    """Check that kube-apiserver answers and is new enough."""
    major, minor = found.version
    said = f"{found.cluster.server} answers, Kubernetes {major}.{minor}"
    if (major, minor) < OLDEST:
        return fail("server", said, "upgrade the cluster to {}.{} or newer".format(*OLDEST))
    return ok("server", said)


def apiservice(found: Installation) -> Finding:
    """Check that the APIService leads to our Service, and verifies whom it reaches."""
    wrong = misdirected(found.apiservice)
    if wrong:
        return fail("apiservice", wrong, APPLY)
    return ok("apiservice", f"{APISERVICE} leads to service {names.SYSTEM_NAMESPACE}/{names.SERVICE}")


def misdirected(apiservice: Object) -> str:
    """Return what is wrong with where an APIService leads to, "" if nothing."""
    spec = apiservice["spec"]
    service = spec.get("service")
    if not service:
        return "is served by kube-apiserver itself: it has no service"
    if (service.get("namespace"), service.get("name")) != (names.SYSTEM_NAMESPACE, names.SERVICE):
        return f"leads to service {service.get('namespace')}/{service.get('name')}, not to ours"
    return (
        "does not verify whom it reaches: insecureSkipTLSVerify" if spec.get("insecureSkipTLSVerify") else ""
    )


def condition(thing: Object, kind: str) -> Object:
    """Return an object's condition, {} if it has none of this kind."""
    there = (thing.get("status") or {}).get("conditions") or []
    return next((one for one in there if one.get("type") == kind), {})


def service(found: Installation) -> Finding:
    """Check that the Service has the port that the APIService names, and gateways for it."""
    wanted = found.apiservice["spec"].get("service", {}).get("port", 443)
    port = next((one for one in found.service["spec"].get("ports") or [] if one["port"] == wanted), None)
    if port is None:
        there = ", ".join(str(one["port"]) for one in found.service["spec"].get("ports") or []) or "none"
        return fail("service", f"has no port {wanted}, which the APIService names; there is {there}", APPLY)
    kind = "EndpointSlice" if found.reads_slices else "Endpoints"
    name = port.get("name") or ""
    named = [backend for backend in found.backends if backend.port_name == name]
    if not named:
        there = ", ".join(sorted({repr(backend.port_name) for backend in found.backends})) or "no address"
        said = f"the {kind} has no port named {name!r}, as the Service's port {wanted} is; it has {there}"
        return fail("service", said, f"name the gateways, and that port, in the {kind}")
    ready = sum(backend.ready for backend in named)
    if not ready:
        return _none_ready(found, [backend.address for backend in named])
    return ok("service", f"port {wanted} leads to {counted(ready, 'ready gateway')} of {len(named)}")


def _none_ready(found: Installation, addresses: list[Address]) -> Finding:
    said = f"none of {counted(len(addresses), 'gateway')} is marked ready"
    silent, remedy = _silent(found, addresses)
    if silent:
        return fail("service", f"{said}: {silent}", remedy)
    marks = "the controller marks them ready within seconds, where one runs: see lease"
    return fail("service", f"{said}, though all take connections", marks)


def gateways(found: Installation) -> Finding:
    """Check that every gateway's address takes connections."""
    addresses = [found.gateway] if found.gateway else [one.address for one in found.backends]
    if not addresses:
        return fail("gateways", "there is none", "name the gateways' addresses; see service")
    silent, remedy = _silent(found, addresses)
    if silent:
        return fail("gateways", silent, remedy)
    return ok("gateways", ", ".join(f"{host}:{port}" for host, port in addresses) + " answer")


def _silent(found: Installation, addresses: list[Address]) -> tuple[str, str]:
    """Return which addresses take no connection and why, "" if all do, and the remedy."""
    errors = {where: error for where in addresses if (error := _unreachable(where))}
    silent = "; ".join(f"{host}:{port}: {words(error)}" for (host, port), error in errors.items())
    if any(isinstance(error, ConnectionRefusedError) for error in errors.values()):
        return silent, start_haproxy(found)
    return (
        silent,
        "is the host up, is that its address, and no firewall between? Addresses are in your overlay",
    )


def start_haproxy(found: Installation) -> str:
    """Return how HAProxy is started, and how it says why it does not."""
    file = rundir.path(found.run_dir, rundir.HAPROXY_CFG)
    return f"start HAProxy there: haproxy -W -f {file}; if it ends at once: haproxy -c -f {file}"


def words(error: OSError) -> str:
    """Return what an error of a connection says, without its number."""
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    return error.strerror or str(error)


def _unreachable(address: Address) -> OSError | None:
    try:
        socket.create_connection(address, PATIENCE).close()
    except OSError as error:
        return error
    return None


def crd(found: Installation) -> Finding:
    """Check that kube-apiserver stores endpoints, by the schema of this release."""
    name = f"{names.RESOURCE}.{names.GROUP}"
    there = found.cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    state = condition(there, "Established")
    if state.get("status") != "True":
        return fail("crd", f"is not established: {state.get('message', 'no reason')}", APPLY)
    served = next((one for one in there["spec"]["versions"] if one["name"] == names.STORED), None)
    if served is None or not served.get("served"):
        return fail("crd", f"does not serve {names.STORED}", APPLY)
    ours = definition()["spec"]["versions"][0]
    if [served.get(key) for key in SCHEMA] != [ours[key] for key in SCHEMA]:
        return fail("crd", f"{names.STORED} has another release's schema", f"{APPLY}, of this release")
    return ok("crd", f"{name} {names.STORED} is established, of this release's schema")


def discovery(found: Installation) -> Finding:
    """Check that kube-apiserver calls the API available and brings the shim's own description of it."""
    state = condition(found.apiservice, "Available")
    if state.get("status") != "True":
        why = f"{state.get('reason', 'no reason')}: {state.get('message', '')}"
        return fail("discovery", f"{APISERVICE} is not available: {why}", MEND)
    try:
        resources = found.cluster.get(names.ROOT).get("resources") or []
    except ApiError as error:
        if error.code < 500 or error.__cause__:
            raise
        return fail("discovery", f"kube-apiserver gets none from the gateways: {error.message}", MEND)
    there = {resource["name"] for resource in resources}
    missing = {names.RESOURCE, f"{names.RESOURCE}/dump", f"{names.RESOURCE}/proxy"} - there
    if missing:
        said = f"{names.ROOT} through kube-apiserver does not list {', '.join(sorted(missing))}"
        return fail("discovery", said, "is that another server? see the APIService's service")
    return ok("discovery", f"kube-apiserver lists {names.RESOURCE}/dump")
