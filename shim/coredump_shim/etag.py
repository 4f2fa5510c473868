"""The entity tag of an archive: which archive it was, and which dumps there were when it was made.

Not here: what an archive's digest covers (archive) and the query parameter (selection).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r'"?(?P<cutoff>[0-9a-f]{1,16})-(?P<digest>[0-9a-f]{32})"?\Z')


@dataclass(frozen=True)
class ETag:
    """Tells one archive from every other, and lets it be made again after more dumps have arrived."""

    cutoff: int
    """When the last of its dumps arrived; what arrived later was not there yet."""
    digest: str

    def __str__(self) -> str:
        """Return it as it stands in a query; a header has it in double quotes."""
        return f"{self.cutoff:x}-{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ETag:
        """Read what str() wrote, in double quotes or without. Raises ValueError."""
        match = _FORM.match(text)
        if match is None:
            raise ValueError("is not an ETag of such an archive")
        return cls(int(match["cutoff"], 16), match["digest"])
