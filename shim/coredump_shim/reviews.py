"""Asking kube-apiserver who somebody is and what he may: TokenReview and SubjectAccessReview.

Not here: what is asked about, and what follows from the answer (authn, authz).
"""

from __future__ import annotations

import logging
import threading

from coredump_shim.cluster import Cluster
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, too_many

log = logging.getLogger(__name__)

SECONDS = 10.0
"""How long an answer may be used again, as Kubernetes' own extension API servers do."""
MOST = 4096
"""Answers of one kind that are remembered."""
AT_ONCE = 48
"""Reviews at one time: each holds a thread of the server, and discovery needs some that are free."""


class Reviews:
    """Reviews by one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def ask(self, group: str, kind: str, spec: Object) -> Object:
        """Return a review's status.

        Raises ApiError 500 where kube-apiserver gives none: nothing is allowed then; 429 where too many wait.
        """
        if not self._turns.acquire(blocking=False):
            raise too_many("too many requests wait for kube-apiserver to review them")
        try:
            return self._ask(group, kind, spec)
        finally:
            self._turns.release()

    def _ask(self, group: str, kind: str, spec: Object) -> Object:
        version = f"{group}/v1"
        try:
            answer = self._cluster.create(
                f"/apis/{version}/{kind.lower()}s", {"apiVersion": version, "kind": kind, "spec": spec}
            )
        except ApiError as error:
            # Its own words are about the shim's rights, not the caller's.
            log.warning("no %s: %s", kind, error.message)
            raise _unanswered(kind) from None
        status = answer.get("status")
        if not isinstance(status, dict):
            log.warning("no %s: an answer without status", kind)
            raise _unanswered(kind)
        return status


def _unanswered(kind: str) -> ApiError:
    return ApiError(
        500, f"Internal error occurred: kube-apiserver answered no {kind}; the shim's log says why"
    )
