"""Whose process it was: from a held process to namespace, pod, container and image, by files only.

Never by the hostname (hostNetwork pods report the node's) and never by asking the cluster or the runtime, so
that it works with both of them dead. Not here: parsing cgroup paths (container).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import replace
from typing import Any

from coredump_guard import container, log, store
from coredump_guard.process import Process, read_all
from coredump_guard.record import Identity

BUNDLE_LIMIT = 4 << 20
"""Longest config.json that is read, in bytes."""

WISH, NEVER, ALWAYS = "COREDUMP_CAPTURE", "never", "always"
"""The variable of a pod's spec that says whether its cores are kept, and what it may say."""

_PF_EXITING = 0x4
"""include/linux/sched.h"""

_PPID = re.compile(rb"^PPid:\s*(\d+)", re.MULTILINE)
_K8S_NAME = re.compile(
    r"k8s_(?P<container>[^_]+)_(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<poduid>[^_]+)_(?P<restarts>\d+)\Z"
)
_VALID = {"namespace": store.is_namespace, "pod": store.is_pod, "container": store.is_container}
_LOG_FILE = re.compile(r"(?P<restarts>\d+)\.log\Z")

_FIELDS = {
    "namespace": (
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri-o.Namespace",
        "io.kubernetes.pod.namespace",
    ),
    "pod": ("io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName", "io.kubernetes.pod.name"),
    "container": ("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
    "image": (
        "io.kubernetes.cri.image-name",
        "io.kubernetes.cri-o.ImageName",
        "io.kubernetes.container.image",
    ),
}
"""The annotations of containerd and CRI-O that name things, in the order in which they are believed."""


def identify(process: Process, root: str = "") -> Identity | None:
    """Say whose process it is; None for one that runs outside any pod.

    What cannot be learned stays empty: such a dump is filed as unidentified. root is a prefix for the node's
    absolute paths, by default where the container's monitor sees them, so that a node which is itself a
    container works too.

    Raises OSError if not even the cgroup can be read.
    """
    where = container.parse(process.read("cgroup").decode("utf-8", "replace"))
    if where is None and _exiting(process):
        return Identity()
    if where is None or where.monitor:
        return None
    identity = Identity(poduid=where.poduid, container_id=where.container_id, nested=where.nested)
    if not where.container_id:
        return identity
    monitor = ""
    with contextlib.suppress(OSError):  # a parent may end at any moment
        monitor = _monitor(process, where.poduid)
    if monitor:
        root = root or f"{monitor}/root"
    for learn in (_from_conmon, _from_bundle, _from_conmons_bundle, _from_docker, _from_logs):
        # Whatever is missing, unreadable or not what it should be: the next source may know.
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
            identity = _fill(identity, learn(identity, monitor, root))
    return identity


def open_root(process: Process, owner: Identity) -> int:
    """Open the node's root directory as the container's monitor sees it (O_PATH), to outlive that monitor.

    Raises OSError.
    """
    monitor = _monitor(process, owner.poduid)
    return os.open(f"{monitor}/root" if monitor else "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _exiting(process: Process) -> bool:
    """Whether the process was killed while it dumped, and is on its way out or gone.

    From then on cgroup v1 shows it in the root of every hierarchy, as if it were the host's: proc_cgroup_show
    in kernel/cgroup/cgroup.c looks at the same flag. Its pidfd and its end of the core tell only later.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        flags = process.read("stat").rpartition(b")")[2].split()[6]  # proc(5), field 9
        return bool(int(flags) & _PF_EXITING)
    return True


def _monitor(process: Process, poduid: str) -> str:
    """Return /proc/PID of the process that watches the container, the first parent in none of the pod's.

    A parent in another container is the sandbox's pause, which adopts daemons where the pod's containers
    share a PID namespace (shareProcessNamespace); its own parent is the monitor.

    Raises OSError if a parent ends meanwhile.
    """
    status = process.read("status")
    for _ in range(64):
        parent = _PPID.search(status)
        if parent is None or int(parent[1]) <= 1:
            break
        directory = f"{process.proc}/{int(parent[1])}"
        status = _read(f"{directory}/status")
        above = container.parse(_read(f"{directory}/cgroup").decode("utf-8", "replace"))
        if above is None or above.monitor or not above.container_id or above.poduid != poduid:
            return directory
    return ""


def _from_conmon(_: Identity, monitor: str, __: str) -> dict[str, Any]:
    """Learn from the arguments of CRI-O's conmon: -n is the name that CRI-O gives a pod's container."""
    arguments = _read(f"{monitor}/cmdline").decode("utf-8", "replace").split("\0")
    return _split_name(arguments[arguments.index("-n") + 1])


def _from_bundle(identity: Identity, monitor: str, _: str) -> dict[str, Any]:
    """Learn from the container's OCI bundle, if the config.json there is this container's.

    The working directory of containerd's shim is the sandbox's bundle; the container's own lies beside it.
    """
    return _of_spec(f"{monitor}/cwd/../{identity.container_id}", identity)


def _from_conmons_bundle(identity: Identity, monitor: str, root: str) -> dict[str, Any]:
    """Learn from CRI-O's bundle of the container, which its conmon names (-b)."""
    arguments = _read(f"{monitor}/cmdline").decode("utf-8", "surrogateescape").split("\0")
    return _of_spec(root + arguments[arguments.index("-b") + 1], identity)


def _of_spec(bundle: str, identity: Identity) -> dict[str, Any]:
    spec = json.loads(_read(f"{bundle}/config.json", BUNDLE_LIMIT))
    if not str(spec["linux"]["cgroupsPath"]).endswith(identity.container_id):
        return {}
    annotations = spec.get("annotations") or {}
    names = {
        name: next((str(annotations[key]) for key in keys if key in annotations), "")
        for name, keys in _FIELDS.items()
    }
    return {**names, "capture": _wish((spec.get("process") or {}).get("env"))}


def _wish(environment: object) -> str:
    """Return what COREDUMP_CAPTURE says in the environment that a container was started with.

    The process cannot alter that, unlike its own environment; nothing else of it is looked at.
    """
    entries = environment if isinstance(environment, list) else []
    said = [entry for entry in map(str, entries) if entry.startswith(f"{WISH}=")]
    wish = said[-1].partition("=")[2] if said else ""
    if wish and wish not in (NEVER, ALWAYS):
        log.warning(f"{WISH} in a pod's spec is neither {NEVER} nor {ALWAYS}, and ignored", value=wish[:40])
        return ""
    return wish


def _from_docker(identity: Identity, _: str, root: str) -> dict[str, Any]:
    """Learn from the file that dockerd keeps of a container, for cri-dockerd."""
    config = json.loads(
        _read(f"{root}/var/lib/docker/containers/{identity.container_id}/config.v2.json", BUNDLE_LIMIT)
    )
    labels = config.get("Config", {}).get("Labels") or {}
    image = str(labels.get("annotation.io.kubernetes.container.image", ""))
    name = _split_name(str(config.get("Name", "")).lstrip("/"))
    return {**name, "image": image, "capture": _wish(config.get("Config", {}).get("Env"))}


def _split_name(name: str) -> dict[str, Any]:
    match = _K8S_NAME.match(name)
    return {**match.groupdict(), "restarts": int(match["restarts"])} if match else {}


def _from_logs(identity: Identity, _: str, root: str) -> dict[str, Any]:
    """Learn from the names of the pod's log directories, which outlive the container.

    /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log; which of several containers it was is
    told by /var/log/containers/<pod>_<namespace>_<container>-<container id>.log.
    """
    pods = f"{root}/var/log/pods"
    directory = next((name for name in os.listdir(pods) if name.endswith(f"_{identity.poduid}")), "")
    namespace, pod, _uid = directory.split("_", 2)
    names = os.listdir(f"{pods}/{directory}")
    name = identity.container or _container_of(
        names, f"{root}/var/log/containers", f"{pod}_{namespace}", identity
    )
    known = {"namespace": namespace, "pod": pod, "container": name}
    if name not in names:
        return known
    logs = filter(None, map(_LOG_FILE.match, os.listdir(f"{pods}/{directory}/{name}")))
    return {**known, "restarts": max((int(log["restarts"]) for log in logs), default=None)}


def _container_of(names: list[str], links: str, pod: str, identity: Identity) -> str:
    if len(names) == 1:
        return names[0]
    known = set(os.listdir(links))
    return next((name for name in names if f"{pod}_{name}-{identity.container_id}.log" in known), "")


def _fill(identity: Identity, learned: dict[str, Any]) -> Identity:
    """Add what is still unknown; the cgroup's ids are never replaced, ill-formed names never taken."""
    new = {
        name: value
        for name, value in learned.items()
        if value not in ("", None)
        and getattr(identity, name) in ("", None)
        and _VALID.get(name, bool)(str(value))
    }
    return replace(identity, **new)


def _read(path: str, limit: int = 1 << 16) -> bytes:
    """Read a regular file that is not a symlink, at most limit bytes of it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a regular file")
        return read_all(fd, limit)
    finally:
        os.close(fd)
