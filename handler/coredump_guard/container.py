"""/proc/PID/cgroup to pod UID and container id: pure parsing of what the node's cgroups are named.

Not here: the names behind the ids (identity). Layouts: kubelet's cgroup manager, the runtimes' scopes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_STRICT_POD = re.compile(
    rf"(?:.*kubepods(?:-(?P<qos>besteffort|burstable))?-)?pod(?P<uid>{_UID})(?:\.slice)?\Z"
)
_LOOSE_POD = re.compile(r"pod(?P<uid>[A-Za-z0-9][-.A-Za-z0-9]{0,127})\Z")
"""Old static pods have UIDs of any form; believed only directly below a kubepods directory."""
_CONTAINER = re.compile(r"(?:(?P<prefix>[a-z][-a-z]*)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?\Z")
_LEGACY = re.compile(r"(?P<pod>.*\.slice):(?P<prefix>[^:]*):(?P<id>[0-9a-f]{64})\Z")
_KUBEPODS = re.compile(
    r"(?:.*[-/])?kubepods(?:\.slice)?(?:/(?:besteffort|burstable))?\Z"
    r"|.*kubepods-(?:besteffort|burstable)(?:\.slice)?\Z"
)
"""The one or two directories above a pod's, if they are the kubelet's."""
_PREFERRED = ("", "name=systemd", "memory")
"""Controllers whose path is believed first: cgroup v2's has none."""


@dataclass(frozen=True)
class Container:
    """Where in the node's pods a process runs."""

    poduid: str
    container_id: str = ""
    qos: str = "guaranteed"
    nested: bool = False
    """Deeper than the container's own cgroup: docker in docker, systemd in a pod, a forged sub-path."""
    monitor: bool = False
    """Not the container but its conmon."""


def parse(text: str) -> Container | None:
    """Return the container that /proc/PID/cgroup names, or None for a process outside any pod."""
    found: list[tuple[bool, int, Container]] = []
    for line in text.split(
        "\n"
    ):  # not splitlines: a cgroup's name may hold what Unicode counts as a line's end
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        container = parse_path(parts[2])
        if container is not None:
            rank = _PREFERRED.index(parts[1]) if parts[1] in _PREFERRED else len(_PREFERRED)
            found.append((not container.container_id, rank, container))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def parse_path(path: str) -> Container | None:
    """Return the container that one cgroup's path names.

    The first pod segment is this node's pod and the next one its container; what is deeper can be made by
    the container itself and never decides.
    """
    if path.endswith(" (deleted)"):
        path = path[: -len(" (deleted)")]
    segments = path.strip("/").split("/")
    for index, segment in enumerate(segments):
        legacy = _LEGACY.match(segment)
        if legacy:
            pod = _pod(legacy["pod"], segments[:index])
            if pod:
                return _container(pod, legacy["prefix"], legacy["id"], segments[index + 1 :])
        pod = _pod(segment, segments[:index])
        if pod:
            return _below(pod, segments, index)
    return None


def _pod(segment: str, above: list[str]) -> tuple[str, str] | None:
    """Return (uid, qos) if the segment names a pod and something vouches that these are Kubernetes' pods."""
    anchor = _KUBEPODS.match("/".join(above[-2:])) is not None
    strict = _STRICT_POD.match(segment)
    if strict and (anchor or "kubepods" in segment or not above):
        qos = strict["qos"] or _qos(above)
        return strict["uid"].replace("_", "-"), qos
    loose = _LOOSE_POD.match(segment)
    if loose and anchor:
        return loose["uid"], _qos(above)
    return None


def _qos(above: list[str]) -> str:
    last = above[-1] if above else ""
    return next((qos for qos in ("besteffort", "burstable") if qos in last), "guaranteed")


def _below(pod: tuple[str, str], segments: list[str], index: int) -> Container:
    match = _CONTAINER.match(segments[index + 1]) if index + 1 < len(segments) else None
    if match is None:
        return Container(poduid=pod[0], qos=pod[1])
    return _container(pod, match["prefix"] or "", match["id"], segments[index + 2 :])


def _container(pod: tuple[str, str], prefix: str, container_id: str, deeper: list[str]) -> Container:
    # CRI-O puts a plain "container" below its scope since it delegates the cgroup.
    return Container(
        poduid=pod[0],
        container_id=container_id,
        qos=pod[1],
        nested=bool(deeper) and deeper != ["container"],
        monitor=prefix.endswith("conmon"),
    )
