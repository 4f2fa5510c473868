"""What an Event says of a pod's crashes: its reason and its words.

Not here: which object it is about and how often it is written (events). What the crasher chose is escaped and
bounded; the command that fetches a dump is made of names that Kubernetes and the store have checked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from coredump_guard import store
from coredump_guard.quota import Usage
from coredump_shim import names
from coredump_shim.catalog import Dump, crash_time, last_crash
from coredump_shim.endpoint import UNKNOWN, quantity, signal_name

DUMPED, REFUSED, LOW_SPACE = "CoreDumped", "CoreDumpRefused", "LowCoredumpSpace"
LONGEST = 1024
"""Characters of a message that kube-apiserver takes (core/v1, Event)."""
_TEXT, _WORD, _CUT, _REASON = 80, 24, 60, 360
"""Characters of a path, a signal's name and reasons: a message with the longest names just fits."""

_UNSAFE = re.compile(r"[^\x20-\x7e]|\\")


@dataclass(frozen=True)
class Notice:
    """One Event's contents. Times are in microseconds since the epoch."""

    reason: str
    about: str
    """What crashes are counted together: the container."""
    message: str
    first: int
    last: int
    counted: dict[str, int]
    """How many crashes each dump stands for, by the last part of its id."""

    @property
    def is_warning(self) -> bool:
        """Whether somebody should do something."""
        return self.reason != DUMPED


def crashed(namespace: str, endpoint: str, dumps: Sequence[Dump]) -> list[Notice]:
    """Return what to say of some dumps of one pod; endpoint: its endpoint's name, "" if it has none."""
    groups: dict[tuple[str, str], list[Dump]] = {}
    for dump in dumps:
        groups.setdefault((dump.container, REFUSED if _is_refused(dump) else DUMPED), []).append(dump)
    return [
        Notice(
            reason=reason,
            about=container,
            message=_message(reason, namespace, endpoint, max(group, key=_key)),
            first=min(map(crash, group)),
            last=max(map(latest, group)),
            counted={dump.id.rpartition("-")[2]: max(1, dump.record.crashes) for dump in group},
        )
        for (container, reason), group in sorted(groups.items())
    ]


def low_space(usage: Usage, when: int) -> Notice:
    """Return what to say of a namespace whose quota is nearly used up; when: microseconds since the epoch."""
    message = f"{usage}; the oldest dumps are removed when it is used up"
    return Notice(LOW_SPACE, "", message, when, when, {str(when // 1_000_000): 1})


def crash(dump: Dump) -> int:
    """Return when it crashed, by its record or else by its id."""
    try:
        return crash_time(dump) or int(store.crash_of(dump.id)[0] * 1_000_000)
    except ValueError:  # six numbers, but no time
        return 0


def latest(dump: Dump) -> int:
    """Return when the last of its crashes was."""
    return max(crash(dump), last_crash(dump))


def rfc3339(microseconds: int) -> str:
    """Return a time as Kubernetes writes it, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(microseconds // 1_000_000))


def command(namespace: str, endpoint: str, dump: Dump) -> str:
    """Return the command that fetches a dump."""
    path = f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}/{endpoint}/dump"
    query = f"container={dump.container}&id={quote(dump.id, safe='')}"
    return f"kubectl get --raw '{path}?{query}' > coredump.tar.gz"


def escaped(text: str, longest: int) -> str:
    """Return text that acts on no terminal, in at most so many characters."""
    safe = _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:longest])
    return safe if len(text) <= longest and len(safe) <= longest else safe[: longest - 3] + "..."


def _message(reason: str, namespace: str, endpoint: str, dump: Dump) -> str:
    record = dump.record
    signal = signal_name(record.signal)
    cause = "an unknown signal" if signal == UNKNOWN else escaped(signal, _WORD)
    executable = escaped(record.process.executable, _TEXT) or "a process"
    died = f"{executable} in container {dump.container} died of {cause}"
    if reason == REFUSED:
        counted = f" ({record.crashes} crashes)" if record.crashes > 1 else ""
        return f"{died}; no core was kept{counted}: {escaped(record.refused or 'it was empty', _REASON)}"
    cut = f", cut ({escaped(record.core.truncated, _CUT)})" if record.core.truncated else ""
    where = (
        command(namespace, endpoint, dump)
        if endpoint
        else f"an endpoint with spec.poduid {dump.poduid} gives it"
    )
    return f"{died}; its core of {quantity(max(0, record.core.bytes))}{cut} is kept: {where}"[:LONGEST]


def _is_refused(dump: Dump) -> bool:
    """Whether there is no core, as endpoint.status counts it."""
    return dump.record.refused is not None or dump.record.core.stored_bytes <= 0


def _key(dump: Dump) -> tuple[int, str]:
    return latest(dump), dump.id
