"""Downloads that kube-apiserver will probably cut: the words that warn of it, and the forms it does not cut.

Not here: which bytes an answer carries (parts) and sending them (downloads).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

from coredump_shim.parts import Part

SECONDS = 60
"""kube-apiserver's --request-timeout: what is not long-running is aborted then, also while bytes flow
(kubernetes/apiserver, pkg/server/config.go: RequestTimeout and LongRunningFunc)."""
MODEST_RATE = 4_000_000
"""Bytes a second that a VPN or a busy office line has. Warning in vain costs a line, not warning a minute."""
LIKELY = SECONDS * MODEST_RATE
"""So many bytes do not arrive in time on such a network."""
PART = 15 * MODEST_RATE
"""Length of the parts that are proposed: in time at a quarter of that rate, too."""

_PARTS = ("offset", "length", "etag")


def warning(part: Part, path: str, query: Iterable[tuple[str, str]]) -> str | None:
    """Return what the header Warning says to a download by this path and query, both decoded, if it is long.

    kubectl prints the text in double quotes on stderr before it writes the first byte.
    """
    length = part.stop - part.start
    if length < LIKELY:
        return None
    asked = list(query)
    rest = [(name, value) for name, value in asked if name not in _PARTS]
    first = [("offset", str(part.start)), ("length", str(PART)), ("etag", str(part.plan.etag))]
    proxy = _command(f"{path.removesuffix('/dump')}/proxy/dump", asked)
    text = (
        f"kube-apiserver cuts this download after {SECONDS} s, and {length / 1e6:.0f} MB may take longer; "
        f"not cut: {proxy}; in parts: {_command(path, rest + first)}, "
        f"then with offset={part.start + PART} and so on, below {part.stop}"
    )
    return f'299 - "{text}"'


def _command(path: str, query: list[tuple[str, str]]) -> str:
    """Return what a shell takes; of what is quoted by percent signs nothing is special to it or to HTTP."""
    return f"kubectl get --raw '{quote(path)}{'?' if query else ''}{urlencode(query)}'"
