"""What a delivered dump is worth, told by its bytes: whatever its record claims is held against them."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from coredump_guard import elfcore, store
from tests.support.guard import record


def verdict(dump: Path) -> str:
    """Return whole, truncated or refused; fails if the record does not say just that."""
    known = record(dump)
    if known.refused is not None:
        assert not (dump / store.CORE).exists(), f"{dump} has a core that was refused: {known.refused}"
        assert known.core.bytes == 0
        return "refused"
    stored = (dump / store.CORE).read_bytes()
    core = gzip.decompress(stored)
    assert (len(stored), len(core)) == (known.core.stored_bytes, known.core.bytes)
    assert hashlib.sha256(stored).hexdigest() == known.core.stored_sha256
    assert hashlib.sha256(core).hexdigest() == known.core.sha256
    if known.core.truncated:
        return "truncated"
    assert elfcore.parse(core).expected_bytes == len(core), f"{dump} is cut, its record does not say so"
    return "whole"
