"""The collection of garbage: one pass over the store, by what is there now and nothing seen before.

Not here: its rules (rules), each kind of garbage (gone, excess, unowned, debugging), and when a pass is made.
It deletes nothing but what it has positively learned to be unwanted: whatever else it meets ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from coredump_guard import store
from coredump_shim.cluster import Cluster
from coredump_shim.controller import (
    clocks,
    debugging,
    endpointlist,
    excess,
    gone,
    marks,
    ownership,
    presence,
    stall,
    unowned,
    walk,
)
from coredump_shim.controller.action import Action, Follow, Pass, spared
from coredump_shim.controller.rules import Rules
from coredump_shim.controller.stall import Alive
from coredump_shim.controller.walk import PodDumps

Clock = Callable[[], float]
GoingOn = Callable[[], bool]
"""Whether this controller still leads; asked between the steps."""


def _always() -> bool:
    return True


def _nobody(_namespace: str, _poduid: str) -> None:
    """Have nobody follow."""


def collect(
    cluster: Cluster,
    root: str,
    rules: Rules,
    *,
    dry_run: bool = False,
    clock: Clock = time.time,
    follow: Follow = _nobody,
    going_on: GoingOn = _always,
) -> list[Action]:
    """Make one pass and return what it did, or with dry_run would do; nothing if it should not go on.

    Raises Doubt if clocks, cluster and store do not go together, ApiError if kube-apiserver or the store does
    not answer, OSError if the store cannot be used. Half a pass does no harm: the next one begins anew.
    """

    def work(alive: Alive) -> list[Action]:
        present = presence.observe(cluster, alive)
        endpoints = endpointlist.all_of(cluster, alive)
        run = Pass(cluster, root, rules, clock(), present, endpoints, dry_run, alive, follow)
        _agree(run, clock, lambda: ownership.claim(run))
        _collect(run)
        return run.actions

    return _watched(work, going_on)


def own(cluster: Cluster, root: str) -> None:
    """Make the store this cluster's, if it shows that it is, as the beginning of a pass does.

    Raises Doubt, ApiError, OSError.
    """

    def work(alive: Alive) -> None:
        present, endpoints = presence.observe(cluster, alive), endpointlist.all_of(cluster, alive)
        ownership.claim(Pass(cluster, root, Rules(), 0, present, endpoints, False, alive, _nobody))

    stall.watched(work)


def namespace(
    cluster: Cluster,
    root: str,
    rules: Rules,
    name: str,
    *,
    dry_run: bool = False,
    clock: Clock = time.time,
    follow: Follow = _nobody,
    going_on: GoingOn = _always,
) -> list[Action]:
    """Remove what is left of one namespace that has ended, whether there is another of its name by now.

    For when its end is heard of: no more than a pass would remove, by what kube-apiserver says then.
    Raises as `collect`, and Doubt as well of a store that no pass has made this cluster's yet.
    """

    def work(alive: Alive) -> list[Action]:
        present = presence.of_namespace(cluster, name, alive)
        run = Pass(cluster, root, rules, clock(), present, {}, dry_run, alive, follow)
        _agree(run, clock, lambda: ownership.confirm(cluster, root))
        with spared(name):
            pods = list(walk.namespace(root, name, set()))
            (gone.bygone if name in present.namespaces else gone.namespace)(run, name, pods)
        return run.actions

    return _watched(work, going_on)


def _watched(work: Callable[[Alive], list[Action]], going_on: GoingOn) -> list[Action]:
    try:
        return stall.watched(work, going_on=going_on)
    except stall.Abandoned:
        return []


def _agree(run: Pass, clock: Clock, own: Callable[[], None]) -> None:
    """Make sure that clocks, cluster and store go together."""
    clocks.check({"kube-apiserver's": run.cluster.clock, "the controller's": clock()})
    own()
    run.alive()
    if not run.dry_run:
        clocks.check({"the store's": clocks.of_store(run.root), "the controller's": clock()})


def _collect(run: Pass) -> None:
    unreadable: set[str] = set()
    seen: set[str] = set()
    dumps = 0
    for namespace, pods in groupby(_walked(run, unreadable), key=attrgetter("namespace")):
        found = list(pods)
        seen.add(namespace)
        dumps += sum(map(len, found))
        with spared(namespace):
            _namespace(run, namespace, found, namespace not in unreadable)
    # Those without dumps may have endpoints and marks.
    rest = {*run.endpoints, *filter(store.is_namespace, marks.namespaces(run.root))}
    for namespace in sorted(rest - seen - unreadable):
        with spared(namespace):
            _namespace(run, namespace, [], True)
    with spared(f"{store.HOST} and {store.UNIDENTIFIED}"):
        unowned.collect(run)
    if not unreadable:
        with spared(".debug"):
            debugging.collect(run, dumps)


def _walked(run: Pass, unreadable: set[str]) -> Iterator[PodDumps]:
    for pod in walk.pods(run.root, unreadable):
        run.alive()
        yield pod


def _namespace(run: Pass, namespace: str, pods: list[PodDumps], complete: bool) -> None:
    """Collect in one namespace; complete: all pods are given that the store has of it."""
    if namespace not in run.present.namespaces:
        gone.namespace(run, namespace, pods)
        return
    pods = gone.bygone(run, namespace, pods)
    marked = set(marks.all_of(run.root, namespace))
    if complete:
        known = {pod.poduid for pod in pods}
        endpoints = run.endpoints.get(namespace, {})
        pods = pods + [
            PodDumps(namespace, uid, {}) for uid in endpoints if uid not in known and store.is_poduid(uid)
        ]
        _forget(run, namespace, marked - known - endpoints.keys())
    excess.quota(run, namespace, list(_kept(run, pods, marked)))


def _kept(run: Pass, pods: Iterable[PodDumps], marked: set[str]) -> Iterator[PodDumps]:
    for pod in pods:
        run.alive()
        with spared(f"{pod.namespace}/{pod.poduid}"):
            if gone.stays(run, pod, pod.poduid in marked):
                yield excess.aged(run, pod)


def _forget(run: Pass, namespace: str, names: Iterable[str]) -> None:
    """Remove the marks of what has neither dumps nor endpoint."""
    if not run.dry_run:
        for name in names:
            marks.clear(run.root, namespace, name)
