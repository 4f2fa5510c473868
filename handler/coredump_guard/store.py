"""The layout of a store and of a dump's directory: which names mean what, and nothing that reads or writes.

<root>/<namespace>/<pod uid>/<container>/<dump id>/     a dump of a pod's process
<root>/_unidentified/<container id>/<dump id>/          a container that could not be named
<root>/_host/<node>/<dump id>/                          a process of the node itself
<root>/.incoming/<node>.<machine>/<dump id>/            being delivered, never shown
<root>/.quota/<namespace>                               locked while it is decided whether a core still fits
<root>/.inbox/<dump id>                                 announces a dump; its text: the path below root
<root>/.gone/<namespace>/<pod uid>                      the controller's mark: since when a pod is gone
<root>/.cluster                                         whose store it is: the UID of namespace kube-system
"""

from __future__ import annotations

import calendar
import hashlib
import re
import time

from coredump_guard.record import Identity

INCOMING = ".incoming"
INBOX = ".inbox"
QUOTA = ".quota"
GONE = ".gone"
CLUSTER = ".cluster"
UNIDENTIFIED = "_unidentified"
HOST = "_host"

CORE = "core.gz"
RAW_CORE = "core"
"""Only in a spool, and only where isal is missing: the guard compresses it before delivery."""
INFO = "info.json"

PODUID = r"^[A-Za-z0-9][-.A-Za-z0-9]{0,127}$"
"""What a pod's UID can be, as a JSON schema says it."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_POD = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?\Z")
_PODUID = re.compile(PODUID)
_DUMP_ID = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9_+][A-Za-z0-9._+-]{0,63}-\d+-[0-9a-f]{8}\Z", re.ASCII)
_MACHINE = re.compile(r"[0-9a-f]{8}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+]+")


def is_namespace(name: str) -> bool:
    """Whether this is a namespace's or a container's name: a DNS label (Kubernetes' validation)."""
    return _NAMESPACE.match(name) is not None


is_container = is_namespace


def is_pod(name: str) -> bool:
    """Whether this can be a pod's name: a DNS subdomain (Kubernetes' validation)."""
    return _POD.match(name) is not None


def is_poduid(uid: str) -> bool:
    """Whether this can be a pod's UID: a UUID, a static pod's hash, or an old free-form one."""
    return _PODUID.fullmatch(uid) is not None


def is_dump_id(name: str) -> bool:
    """Whether `dump_id` could have made this."""
    return _DUMP_ID.match(name) is not None


def dump_id(crash_time: float, executable: str, pid: int, boot_id: str, start_time: int) -> str:
    """Name a dump; the names of a store sort by the time of the crash.

    crash_time is in seconds since the epoch, start_time in clock ticks since boot (proc(5), stat, field 22).
    The executable's name is the crasher's to choose, so it is reduced to what is safe in a path.
    """
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(crash_time))
    name = _UNSAFE.sub("_", executable.rpartition("/")[2])[:64].lstrip(".") or "unknown"
    unique = hashlib.sha256(f"{boot_id}/{pid}/{start_time}".encode()).hexdigest()[:8]
    return f"{when}-{name}-{pid}-{unique}"


def crash_of(dump_id: str) -> tuple[float, int]:
    """Return when the process crashed that a dump is of, in seconds since the epoch, and its PID.

    Raises ValueError for what `dump_id` cannot have made.
    """
    if not is_dump_id(dump_id):
        raise ValueError(f"{dump_id!r} is no dump's id")
    when = time.strptime(dump_id.partition("-")[0], "%Y%m%dT%H%M%SZ")
    return float(calendar.timegm(when)), int(dump_id.rsplit("-", 2)[1])


def incoming(node: str, machine: str) -> str:
    """Return where a machine drafts its deliveries, below the root; two of one name keep out of each other's.

    machine is what `machine.identifier` says.
    """
    return f"{INCOMING}/{node}.{machine}"


def is_incoming_of(name: str, node: str) -> bool:
    """Whether a name in INCOMING is that of a machine that goes by this node's name."""
    return name.startswith(f"{node}.") and _MACHINE.match(name[len(node) + 1 :]) is not None


def directory(identity: Identity, node: str) -> str:
    """Return where dumps of this identity lie, below the root; node is the name of the node they are of.

    What the identity says is checked here once more, since it becomes a path: whoever is not named by
    Kubernetes' own rules is filed as unidentified.
    """
    named = (
        is_namespace(identity.namespace) and is_poduid(identity.poduid) and is_container(identity.container)
    )
    if identity.complete and named:
        return f"{identity.namespace}/{identity.poduid}/{identity.container}"
    if identity.host:
        return f"{HOST}/{node if is_pod(node.lower()) else 'unknown'}"
    container_id = identity.container_id or identity.poduid
    return f"{UNIDENTIFIED}/{container_id if is_poduid(container_id) else 'unknown'}"
