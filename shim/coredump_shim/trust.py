"""Whom the cluster trusts to say who asks: kube-apiserver's front proxy, as the live ConfigMap describes it.

Not here: what its headers say (frontproxy), and how HAProxy gets its CA (frontca).

kube-apiserver keeps ConfigMap kube-system/extension-apiserver-authentication up to date, also when
certificates are rotated, so it is read again and again.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coredump_shim.cluster import Cluster
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

CONFIGMAP = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"

EVERY = 3.0
"""Seconds between two readings."""
AT_LEAST = 1.0
"""Seconds between readings for the sake of an unknown name, which anybody with a certificate can cause."""


@dataclass(frozen=True)
class Front:
    """How the front proxy shows who it is, and in which headers it says who asks; names in lower case."""

    ca: str
    """The certificates, PEM, that its own must be signed by."""
    names: frozenset[str]
    """Common names that its certificate may have; empty: any."""
    user_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


def parse(data: Mapping[str, str]) -> Front:
    """Return what the ConfigMap's data says. Raises ValueError, naming the key."""
    ca = data.get("requestheader-client-ca-file", "")
    if "-----BEGIN CERTIFICATE-----" not in ca:
        raise ValueError("requestheader-client-ca-file has no certificate; kube-apiserver has no front proxy")
    return Front(
        ca,
        frozenset(_strings(data, "requestheader-allowed-names")),
        _lower(data, "requestheader-username-headers"),
        _lower(data, "requestheader-uid-headers"),
        _lower(data, "requestheader-group-headers"),
        _lower(data, "requestheader-extra-headers-prefix"),
    )


def _lower(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(text.lower() for text in _strings(data, key) if text)


def _strings(data: Mapping[str, str], key: str) -> list[str]:
    text = data.get(key, "[]")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"{key} is not a JSON list of strings: {text[:100]!r}")
    return found


class Trust:
    """The front proxy as it was last read; what cannot be read leaves it as it was, at first unknown."""

    def __init__(self, cluster: Cluster, publish: Callable[[str], None] | None = None) -> None:
        """publish(ca) is called at each reading, to give the CA to whoever verifies certificates."""
        self.front: Front | None = None
        self._cluster = cluster
        self._publish = publish
        self._reading = threading.Lock()
        self._read_at = 0.0
        self._complaint = ""
        self._ended = threading.Event()

    def start(self) -> None:
        """Read, and have a thread go on with it until end()."""
        self.read()
        threading.Thread(target=self._keep, name="trust", daemon=True).start()

    def end(self) -> None:
        """Read no more."""
        self._ended.set()

    def allows(self, name: str) -> Front | None:
        """Return the front proxy if a verified certificate of this common name is its own, else None."""
        if not _is_of(name, self.front) and time.monotonic() - self._read_at > AT_LEAST:
            self.read()
        return self.front if _is_of(name, self.front) else None

    def read(self) -> None:
        """Read now, unless that is being done. What goes wrong is logged, once."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._take(parse(self._cluster.get(CONFIGMAP).get("data") or {}))
            complaint = ""
        except (ApiError, ValueError, OSError) as error:
            complaint = f"{CONFIGMAP.rpartition('/')[2]}: {error}"
        finally:
            self._read_at = time.monotonic()
            self._reading.release()
        if complaint and complaint != self._complaint:
            log.error("%s", complaint)
        self._complaint = complaint

    def _take(self, front: Front) -> None:
        if front != self.front:
            log.info("the front proxy's names: %s", ", ".join(sorted(front.names)) or "any")
        self.front = front
        if self._publish is not None:
            self._publish(front.ca)

    def _keep(self) -> None:
        while not self._ended.wait(EVERY):
            try:
                self.read()
            except Exception:  # a thread that is gone is noticed by nobody, until the next rotation
                log.exception("reading %s", CONFIGMAP)


def _is_of(name: str, front: Front | None) -> bool:
    return front is not None and (not front.names or name in front.names)
