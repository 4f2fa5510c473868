"""A document's shell blocks, and what it says that they print.

Not here: running them (sandbox).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANYTHING = "…"
"""Stands for what differs from run to run: a part of a line, or, alone on a line, any lines."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands to paste, and what they print: None if the document does not say."""

    line: int
    commands: str
    printed: str | None


def blocks(text: str) -> list[Block]:
    """Return the blocks marked `sh`, each with the block marked `text` right behind it, in their order."""
    fences = list(_FENCE.finditer(text))
    found = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] == "sh":
            behind = following and following[1] == "text" and following.start() == fence.end() + 1
            printed = following[2] if following and behind else None
            found.append(Block(text.count("\n", 0, fence.start()) + 1, fence[2], printed))
    return found


def fits(printed: str, said: str) -> bool:
    """Whether something printed is what a document says; spaces in a row are as one."""
    pattern = "".join(_line(line) for line in said.splitlines())
    return re.fullmatch(pattern, "".join(f"{_squeezed(line)}\n" for line in printed.splitlines())) is not None


def _line(line: str) -> str:
    if line == ANYTHING:
        return r"(?:.*\n)*"
    return ".*".join(map(re.escape, _squeezed(line).split(ANYTHING))) + r"\n"


def _squeezed(line: str) -> str:
    return re.sub(" +", " ", line).strip()
