"""What people did to endpoints, kept as files: those they created, and the marks of those they deleted.

Not here: endpoints as the API shows them (endpoints), and the dumps.

<state>/<namespace>/<name>    JSON: a `Kept`. The file is named as the endpoint, since a name of 253
                              characters leaves no room for a suffix. A leading dot: being written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from coredump_guard import store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """An endpoint that was created, or, where `deleted` is set, the mark that it was deleted."""

    uid: str = ""
    created: str = ""
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes creationTimestamp."""
    poduid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    deleted: str = ""
    """When it was deleted, RFC 3339 in UTC."""
    hidden: list[str] = field(default_factory=list)
    """Ids of the dumps that were there when it was deleted: any other dump brings the endpoint back."""


class Keeper:
    """The files below the state directory. Every name is checked before it becomes a path."""

    def __init__(self, state: str) -> None:
        self._state = Path(state)

    def namespaces(self) -> list[str]:
        """Return the namespaces in which something is kept. Raises OSError."""
        return [name for name in _listed(self._state) if store.is_namespace(name)]

    def all(self, namespace: str) -> dict[str, Kept]:
        """Return what is kept in a namespace, by the endpoint's name. Raises OSError."""
        if not store.is_namespace(namespace):
            return {}
        names = [name for name in _listed(self._state / namespace) if store.is_pod(name)]
        found = {name: _read(self._state / namespace / name) for name in names}
        return {name: kept for name, kept in found.items() if kept is not None}

    def put(self, namespace: str, name: str, kept: Kept) -> None:
        """Keep this, whole or not at all. Raises OSError, and ValueError for a name that cannot be."""
        if not (store.is_namespace(namespace) and store.is_pod(name)):
            raise ValueError(f"not an endpoint's name: {namespace!r}/{name!r}")
        directory = self._state / namespace
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(kept), indent=1) + "\n"
        fd, temporary = tempfile.mkstemp(prefix=".new-", dir=directory)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, directory / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _read(path: Path) -> Kept | None:
    try:
        return _kept(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        log.warning("left out %r, which is not a kept endpoint: %s", str(path), error)
        return None


def _kept(data: object) -> Kept:
    if not isinstance(data, dict):
        raise ValueError("not an object")  # noqa: TRY004 (a wrong file, not a wrong argument)
    values = {entry.name: data[entry.name] for entry in dataclasses.fields(Kept) if entry.name in data}
    for name, value in values.items():
        if type(value) is not type(getattr(_EMPTY, name)):
            raise ValueError(f"{name} has the wrong type")
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not all(isinstance(item, str) for item in inner):
            raise ValueError(f"{name} must hold strings")
    return Kept(**values)


_EMPTY = Kept()
