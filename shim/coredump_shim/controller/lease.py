"""Who leads: one controller at a time, by a Lease that it renews (coordination.k8s.io/v1).

Not here: what the leader does (loop). The rules are client-go's (tools/leaderelection): a lease changes
hands by its resourceVersion, so two cannot both take it; how old one is each says by its own clock, from when
it saw it change, so clocks need not agree; a leader that could not renew stops before another may start.
"""

from __future__ import annotations

import datetime
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from coredump_shim import names
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{names.SYSTEM_NAMESPACE}/leases"
LEASE = f"{LEASES}/{names.LEASE}"


def identity(name: str) -> str:
    """Return what a controller calls itself in the lease: no two are the same, also not after a restart."""
    return f"{name}_{secrets.token_hex(4)}"


def boottime() -> float:
    """Return seconds since boot; unlike time.monotonic() it counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Times:
    """How long a lease lasts, in seconds; the parts are in client-go's proportions of 15, 10 and 2."""

    duration: int = 15
    """After so long without a change another may take it."""

    @property
    def renewal(self) -> float:
        """For how long whoever renewed it leads."""
        return self.duration * 2 / 3

    @property
    def retry(self) -> float:
        """Between two attempts."""
        return self.duration * 2 / 15

    @property
    def slow(self) -> float:
        """Until others may go first, of a store's silence."""
        return self.duration / 3

    @property
    def silent(self) -> float:
        """Until a leader lets another try, of a store's silence."""
        return self.duration * 4.0


class Lease:
    """One controller's part in the lease. `attempt` and `release` are for one thread, `held` for any."""

    def __init__(
        self, cluster: Cluster, identity: str, times: Times, clock: Callable[[], float] = boottime
    ) -> None:
        self.identity = identity
        self.times = times
        self.holder = ""
        """Who holds it, as far as known."""
        self._cluster = cluster
        self._clock = clock
        self._until = float("-inf")
        self._version = ""
        self._changed = float("-inf")

    @property
    def held(self) -> bool:
        """Whether this controller may act."""
        return self._clock() < self._until

    def attempt(self, patience: float = 0) -> bool:
        """Take or renew it; return whether it is ours now. Raises ApiError.

        patience: seconds for which others, who may be fitter, can take a free one first.
        """
        began = self._clock()
        try:
            lease = self._cluster.get(LEASE)
        except ApiError as error:
            if not is_gone(error):
                raise
            self.holder = ""
            taken = self._write(self._cluster.create, LEASES, _new())
        else:
            self._observe(lease)
            taken = self._is_free(lease["spec"], patience) and self._write(self._cluster.update, LEASE, lease)
        if taken:
            self._until = began + self.times.renewal
        return taken

    def release(self) -> None:
        """Let another take it at once; call it when nothing is done any more. Raises ApiError."""
        self._until = float("-inf")
        lease = self._cluster.get(LEASE)
        if lease["spec"].get("holderIdentity") == self.identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            self._cluster.update(LEASE, lease)

    def _observe(self, lease: Object) -> None:
        version = lease["metadata"]["resourceVersion"]
        if version != self._version:
            self._version, self._changed = version, self._clock()
        lease["spec"] = lease.get("spec") or {}
        self.holder = lease["spec"].get("holderIdentity") or ""

    def _is_free(self, spec: Object, patience: float) -> bool:
        if self.holder == self.identity:
            return True
        lasts = spec.get("leaseDurationSeconds", self.times.duration) if self.holder else 0
        return self._clock() >= self._changed + lasts + patience

    def _write(self, send: Callable[[str, Object], Object], path: str, lease: Object) -> bool:
        spec = lease["spec"]
        if self.holder != self.identity:
            spec |= {
                "holderIdentity": self.identity,
                "acquireTime": _now(),
                "leaseTransitions": spec.get("leaseTransitions", -1) + 1,
            }
        spec |= {"leaseDurationSeconds": self.times.duration, "renewTime": _now()}
        try:
            written = send(path, lease)
        except ApiError as error:
            if error.code != 409:
                raise
            return False  # another was faster
        self._observe(written)
        return True


def _new() -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": names.LEASE, "namespace": names.SYSTEM_NAMESPACE},
        "spec": {},
    }


def _now() -> str:
    """Return the time as a MicroTime; for people only."""
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
