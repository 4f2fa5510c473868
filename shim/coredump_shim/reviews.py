"""Asking kube-apiserver who somebody is and what he may: TokenReview and SubjectAccessReview.

Not here: what is asked about, and what follows from the answer (authn, authz).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from coredump_shim.cluster import Cluster, NotAcceptedError
from coredump_shim.config import REVIEWED
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, too_many

log = logging.getLogger(__name__)

SECONDS = 10.0
"""How long an answer may be used again, as Kubernetes' own extension API servers do."""
AT_ONCE = REVIEWED
"""Requests that wait for a review: each holds a thread of the server, and discovery needs free ones."""
MOST = 4096
"""Answers of one kind that are remembered."""


class Reviews:
    """Reviews by one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a place among those who wait for a review. Raises ApiError 429 if there is none."""
        if not self._turns.acquire(blocking=False):
            raise too_many("too many requests wait for kube-apiserver to review them")
        try:
            yield
        finally:
            self._turns.release()

    def ask(self, group: str, kind: str, spec: Object) -> Object:
        """Return a review's status. Raises ApiError without one, and nothing is allowed then.

        500, but 503 where it is the shim whom kube-apiserver does not know: never the caller's 401.
        """
        version = f"{group}/v1"
        try:
            answer = self._cluster.create(
                f"/apis/{version}/{kind.lower()}s", {"apiVersion": version, "kind": kind, "spec": spec}
            )
        except NotAcceptedError:
            raise
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
