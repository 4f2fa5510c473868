"""Dead gateways are marked not ready where kube-apiserver looks for them, and ready when they are back.

Not here: who may do so (lease). The Service has no selector, so nobody else watches its addresses; and while
kube-apiserver tries a dead one, every request that it sends there fails.
"""

from __future__ import annotations

import copy
import http.client
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coredump_shim import names
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

SECONDS = 3.0
"""How long a gateway may take to answer."""
PAUSE = 2.0
"""Seconds between two failures that make a gateway a dead one."""
TRIES = 4
"""How often a change is made anew that somebody else's came before."""
PATH = "/healthz"
"""HAProxy answers it without a shim, as it does discovery: a gateway whose shim is down is not a dead one."""

Gateway = tuple[str, int]
"""Address and port."""
Change = Callable[[Object, Mapping[Gateway, bool]], Object]


def mark(cluster: Cluster, namespace: str = names.SYSTEM_NAMESPACE, service: str = names.SERVICE) -> None:
    """Probe every gateway and have the EndpointSlice and Endpoints of the Service's name say which answer.

    Either may be missing: kube-apiserver goes by Endpoints up to 1.33, by slices since. Raises ApiError.

    Where none of an object's does, it is not changed: rather we are cut off then, and the last one stays.
    """
    paths = (
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{service}",
        f"/api/v1/namespaces/{namespace}/endpoints/{service}",
    )
    found, endpoints = (_get(cluster, path) for path in paths)
    gateways = {gateway for gateway, _ in of_slice(found or {})} | set(of_endpoints(endpoints or {}))
    seen = probe_all(gateways)
    if seen and not any(seen.values()):
        log.warning("no gateway answers %s; none is marked: %s", PATH, _listed(seen))
    _put(cluster, paths[0], found, changed_slice, seen)
    _put(cluster, paths[1], endpoints, changed_endpoints, seen)


def probe_all(gateways: Iterable[Gateway]) -> dict[Gateway, bool]:
    """Return which gateways answer; one does not if it fails twice in a row."""
    every = sorted(gateways)
    if not every:
        return {}
    with ThreadPoolExecutor(min(len(every), 16)) as threads:
        return dict(zip(every, threads.map(_twice, every), strict=True))


def of_slice(found: Object) -> list[tuple[Gateway, Object]]:
    """Return the gateways of an EndpointSlice, each with its entry."""
    ports = [port["port"] for port in found.get("ports") or [] if port.get("port")]
    return [
        ((address, ports[0]), entry)
        for entry in found.get("endpoints") or []
        for address in entry.get("addresses") or []
        if ports
    ]


def of_endpoints(found: Object) -> list[Gateway]:
    """Return the gateways of an Endpoints object."""
    return [
        (address["ip"], subset["ports"][0]["port"])
        for subset in found.get("subsets") or []
        if subset.get("ports")
        for address in _addresses(subset)
    ]


def changed_slice(found: Object, answers: Mapping[Gateway, bool]) -> Object:
    """Return an EndpointSlice that says which gateways answer; conditions.ready alone is another."""
    made = copy.deepcopy(found)
    if not any(answers.get(gateway) for gateway, _ in of_slice(found)):
        return made
    for gateway, entry in of_slice(made):
        # Without a condition it is ready (discovery/v1, EndpointConditions).
        conditions = entry.get("conditions") or {}
        if gateway in answers and (conditions.get("ready") is not False) != answers[gateway]:
            entry["conditions"] = conditions | {"ready": answers[gateway]}
    return made


def changed_endpoints(found: Object, answers: Mapping[Gateway, bool]) -> Object:
    """Return an Endpoints object that says which gateways answer, by the list that each address is in."""
    made = copy.deepcopy(found)
    if not any(answers.get(gateway) for gateway in of_endpoints(found)):
        return made
    for subset in made.get("subsets") or []:
        if not subset.get("ports"):
            continue
        port = subset["ports"][0]["port"]
        ready = subset.get("addresses") or []
        lists: dict[bool, list[Any]] = {True: [], False: []}
        for address in _addresses(subset):
            lists[answers.get((address["ip"], port), address in ready)].append(address)
        for key, addresses in (("addresses", lists[True]), ("notReadyAddresses", lists[False])):
            subset.pop(key, None)
            if addresses:
                subset[key] = addresses
    return made


def is_up(gateway: Gateway) -> bool:
    """Whether a gateway answers its health.

    Its certificate is not verified: nothing is told to it, and what it answers decides no more than that
    kube-apiserver tries it, which does verify.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(*gateway, timeout=SECONDS, context=context)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _twice(gateway: Gateway) -> bool:
    if is_up(gateway):
        return True
    time.sleep(PAUSE)
    return is_up(gateway)


def _addresses(subset: Object) -> list[Any]:
    return [*(subset.get("addresses") or []), *(subset.get("notReadyAddresses") or [])]


def _put(
    cluster: Cluster, path: str, found: Object | None, change: Change, seen: Mapping[Gateway, bool]
) -> None:
    """Make a change, by the object's resourceVersion, so that nobody else's is undone. Raises ApiError."""
    for _ in range(TRIES):
        if found is None or (made := change(found, seen)) == found:
            return
        try:
            cluster.update(path, made)
        except ApiError as error:
            if error.code != 409:
                raise
            found = _get(cluster, path)
        else:
            log.warning("%s now says: %s", "/".join(path.split("/")[-2:]), _listed(seen))
            return
    log.warning("%s is changed by others again and again; the next look will do it", path)


def _get(cluster: Cluster, path: str) -> Object | None:
    try:
        return cluster.get(path)
    except ApiError as error:
        if not is_gone(error):
            raise
        return None


def _listed(seen: Mapping[Gateway, bool]) -> str:
    return ", ".join(f"{host}:{port} {'answers' if up else 'is dead'}" for (host, port), up in seen.items())
