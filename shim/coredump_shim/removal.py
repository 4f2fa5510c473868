"""Removing dumps from a store: out of sight at once, then from the disk.

Not here: which dumps (selection, controller.collect), and who may (the API).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from coredump_guard import store, tree
from coredump_shim import beneath

PURGED = ".purged-"
"""Begins the names of dumps that are being removed; no dump's id begins with a dot."""

Place = tuple[str, ...]
"""The names that lead from a store's root to a directory of dumps."""


class Placed(Protocol):
    """A dump, as far as it is needed to remove it."""

    @property
    def place(self) -> Place: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102


D = TypeVar("D", bound=Placed)


def remove(root: str, dumps: Iterable[D]) -> list[D]:
    """Remove dumps and their announcements, also what an earlier removal left half done beside them.

    Return those that were still there. Raises OSError; what was renamed by then is out of sight, and gone
    from the disk after the next removal in the same container.
    """
    removed = []
    places: dict[Place, None] = {}
    for dump in dumps:
        places[dump.place] = None
        if _hide(root, dump.place, dump.id):
            removed.append(dump)
    for place in places:
        sweep(root, place)
    return removed


def announce(root: str, dump: D) -> None:
    """Have the controller look at a dump's pod again: the announcement of one that is gone tells of no crash.

    Raises OSError. Where nothing was ever announced there is no controller to be told.
    """
    text = "/".join((*dump.place, dump.id)) + "\n"
    draft = f"{PURGED}{dump.id}-{secrets.token_hex(4)}"
    with _unless_gone(), beneath.directory(root) as top, beneath.directory(top, store.INBOX) as inbox:
        try:
            tree.write(inbox, draft, text.encode(), -1)
            os.rename(draft, dump.id, src_dir_fd=inbox, dst_dir_fd=inbox)
        except OSError:
            with suppress(OSError):
                tree.remove(inbox, draft)
            raise


def _hide(root: str, place: Place, dump_id: str) -> bool:
    hidden = f"{PURGED}{dump_id}-{secrets.token_hex(4)}"
    found = False
    with _unless_gone(), beneath.directory(root, *place) as fd:
        os.rename(dump_id, hidden, src_dir_fd=fd, dst_dir_fd=fd)
        found = True
    if found:
        # A directory of its name is no announcement: the controller puts it aside.
        with _unless_gone(), suppress(IsADirectoryError), beneath.directory(root, store.INBOX) as inbox:
            os.unlink(dump_id, dir_fd=inbox)
    return found


def sweep(root: str, place: Place) -> None:
    """Finish removals in a directory of dumps that were cut short. Raises OSError."""
    with _unless_gone(), beneath.directory(root, *place) as fd:
        for name in beneath.subdirectories(fd):
            if name.startswith(PURGED):
                # rmtree follows no symlink here: shutil.rmtree.avoids_symlink_attacks.
                with suppress(FileNotFoundError):
                    shutil.rmtree(name, dir_fd=fd)


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Leave the block quietly where what it works on is not there."""
    try:
        yield
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
