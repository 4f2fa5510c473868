"""Unpacking a tar archive as Python's tarfile does it, in every Python that we run on.

Not here: other readers of archives.
"""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpack everything, by the filter `data` where there is one (PEP 706).

    Debian 12's Python, 3.11.2, has none and takes no such argument; 3.12 and 3.13 warn if none is chosen.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extraction_filter = tarfile.data_filter
    archive.extractall(directory)  # noqa: S202 (our own archives, into a directory made for them)
