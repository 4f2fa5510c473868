"""Brings endpoints in step with the store: of one pod when a dump is announced, of all from time to time.

Not here: requests to kube-apiserver (endpoints), Events, and which dumps have to go (collect).
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from coredump_guard import store
from coredump_shim import endpoint
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.controller import walk
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.endpoints import (
    Endpoints,
    Known,
    is_general,
    is_managed,
    observed_of,
    poduid_of,
)
from coredump_shim.controller.observed import Observed
from coredump_shim.controller.roster import Place, Pod, Roster
from coredump_shim.controller.walk import PodDumps
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often it is looked again when somebody else changes the same endpoint."""
MAX_NAMES = 100_000
"""Pods without an endpoint of their own whose names are remembered."""

Named = Set[Place]


@dataclass(frozen=True)
class Synced:
    """A pod whose endpoints are in step."""

    name: str
    """What its records call it; "" where none has a name that can be."""
    served: bool
    """Whether the endpoint of this name stands for it, and not for another pod of the same name."""
    dumps: Sequence[Dump]

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of its cores as they are stored."""
        return int(endpoint.status(self.dumps)["storedBytes"])


@dataclass
class _Cluster:
    """The endpoints that a pass has found."""

    of_pod: dict[Pod, list[Known]] = field(default_factory=lambda: defaultdict(list))
    named: set[Place] = field(default_factory=set)


class Sync:
    """Endpoints and the store they are of. Methods raise OSError if the store fails, else ApiError.

    And Doubt where an endpoint would lose what it says of dumps that the store lacks, if the store is not
    known to be this cluster's: one that is not mounted, or a wrong one, lacks them as well.
    """

    def __init__(
        self,
        catalog: Catalog,
        endpoints: Endpoints,
        roster: Roster,
        bygones: Bygones,
        confirm: Callable[[], None],
    ) -> None:
        """confirm: raises Doubt of a store that is not this cluster's (ownership)."""
        self._catalog = catalog
        self._confirm = confirm
        self._bygones = bygones
        self._endpoints = endpoints
        self._roster = roster
        self._alone: OrderedDict[Pod, tuple[str, str]] = OrderedDict()
        """Signature and name of pods that no managed endpoint stands for."""
        self._used = Counter[str]()

    def used(self, namespace: str) -> int:
        """Return the bytes of a namespace's cores as they are stored, of those seen since the start."""
        return self._used[namespace]

    def pod(
        self, namespace: str, poduid: str, known: Iterable[str] = (), named: Named | None = None
    ) -> Synced:
        """Bring the endpoints of one pod in step; known: names of endpoints that stood for it.

        named: all endpoints of which a list has just been had; others are made without a look for them first.
        """
        others = {*known, *self._roster.names(namespace, poduid)}
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._pod(namespace, poduid, others, named)
            except ApiError as error:
                if error.code != 409 or not left:
                    raise
                named = None
        raise AssertionError("unreachable")

    def endpoint(self, known: Known) -> None:
        """Bring one endpoint, and its pod's others, in step; ours is made anew if somebody removed it."""
        poduid = self._asked(known)
        if not poduid and known.managed and known.observed:
            poduid = known.observed.poduid
        self.pod(known.namespace, poduid, [known.name])

    def all(self, going_on: Callable[[], bool]) -> int:
        """Bring all endpoints in step, as long as it should go on; return how many pods failed.

        In doubt of the store, which the log says, those that would lose something are left for a later pass.
        """
        try:
            return self._all(going_on)
        except Doubt as error:
            log.warning("endpoints go on saying what they do of dumps that the store lacks: %s", error)
            return 1

    def _all(self, going_on: Callable[[], bool]) -> int:
        found, failed, used = self._list(), 0, Counter[str]()
        unreadable: set[str] = set()
        for pod in walk.pods(self._catalog.root, unreadable):
            if not going_on():
                return failed
            if not len(pod):
                continue
            known = found.of_pod.pop((pod.namespace, pod.poduid), [])
            if self._is_settled(pod, known, found):
                used[pod.namespace] += max(
                    (at.observed.stored_bytes for at in known if at.observed), default=0
                )
            elif synced := self._try(pod.namespace, pod.poduid, known, found.named):
                used[pod.namespace] += synced.stored_bytes
            else:
                failed += 1
        for (namespace, poduid), known in found.of_pod.items():
            if namespace not in unreadable and going_on():
                failed += self._try(namespace, poduid, known, found.named) is None
        self._used = used
        return failed

    def _pod(self, namespace: str, poduid: str, others: set[str], named: Named | None) -> Synced:
        dumps = self._catalog.dumps(namespace, poduid)
        current = self._bygones.without(namespace, dumps)
        name = pod_name(current)
        own = self._own(namespace, name, current, named) if name else None
        for other in sorted(others - {name}):
            found = self._endpoints.get(namespace, other)
            if found is not None:
                self._keep(found)  # by its spec: what it was annotated with may be anybody's words
        if own is not None:
            self._keep(own)
        self._remember(namespace, poduid, name, own)
        return Synced(name, own is not None, dumps)

    def _own(self, namespace: str, name: str, dumps: Sequence[Dump], named: Named | None) -> Object | None:
        """Return the endpoint that is named as the pod, made if need be; None if it is another's."""
        may_be = named is None or (namespace, name) in named
        poduid, found = dumps[0].poduid, self._endpoints.get(namespace, name) if may_be else None
        if found is not None and poduid_of(found) == poduid:
            return found
        if found is not None:
            theirs = self._catalog.dumps(namespace, poduid_of(found))
            if not is_managed(found) or (theirs and theirs[-1].id > dumps[-1].id):
                return None
            self._endpoints.remove(found, f"pod {poduid} of the same name crashed since")
        return self._endpoints.make(namespace, name, poduid)

    def _keep(self, found: Object) -> None:
        """Write what an endpoint's pod has, read after the endpoint, so that nothing newer is undone."""
        namespace, poduid = found["metadata"]["namespace"], poduid_of(found)
        signature = walk.pod(self._catalog.root, namespace, poduid).signature
        dumps = self._bygones.without(namespace, self._catalog.dumps(namespace, poduid))
        if not dumps and (is_managed(found) or (found.get("status") or {}).get("dumps")):
            self._confirm()
        if not dumps and is_managed(found):
            self._endpoints.remove(found, f"pod {poduid} has no dumps left")
            return
        status = endpoint.status(dumps)
        seen, before = Observed(poduid, signature, status["storedBytes"]), observed_of(found)
        self._endpoints.keep(found, status, seen)
        self._used[namespace] += seen.stored_bytes - (before.stored_bytes if before else 0)

    def _remember(self, namespace: str, poduid: str, name: str, own: Object | None) -> None:
        pod = namespace, poduid
        self._alone.pop(pod, None)
        if own is None or not is_managed(own):
            self._alone[pod] = walk.pod(self._catalog.root, namespace, poduid).signature, name
        while len(self._alone) > MAX_NAMES:
            self._alone.popitem(last=False)

    def _list(self) -> _Cluster:
        found = _Cluster()
        for known in self._endpoints.all():
            poduid = known.observed.poduid if known.observed else self._asked(known)
            found.of_pod[known.namespace, poduid].append(known)
            found.named.add((known.namespace, known.name))
        return found

    def _asked(self, known: Known) -> str:
        found = self._endpoints.get(known.namespace, known.name)
        poduid = poduid_of(found) if found else ""
        return poduid if store.is_poduid(poduid) else ""

    def _is_settled(self, pod: PodDumps, known: Sequence[Known], found: _Cluster) -> bool:
        """Whether there is nothing to do for a pod, as far as can be told without reading its records."""
        signature = pod.signature
        if any(at.observed is None or at.observed.signature != signature for at in known):
            return False
        if any(at.managed for at in known):
            return True
        seen, name = self._alone.get((pod.namespace, pod.poduid), ("", ""))
        return seen == signature and (not name or (pod.namespace, name) in found.named)

    def _try(self, namespace: str, poduid: str, known: Sequence[Known], named: Named) -> Synced | None:
        try:
            return self.pod(namespace, poduid, [at.name for at in known], named)
        except ApiError as error:
            if is_general(error):
                raise
            log.warning("the endpoint of pod %s/%s: %r", namespace, poduid, error.message)
            return None


def pod_name(dumps: Sequence[Dump]) -> str:
    """Return what the newest record with a possible name calls the pod of these dumps; "" if none does."""
    named = (dump.record.identity.pod for dump in reversed(dumps))
    return next(filter(store.is_pod, named), "")
