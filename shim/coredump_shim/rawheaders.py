"""A request's headers as they were received: each of them apart, in order, as bytes.

Not here: what they mean (frontproxy, authn).

waitress folds repeated headers into one, `g1, g2`. Then nobody can tell two groups from one group whose name
has a comma in it, and a group named `a, system:masters` would be an administrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitress.parser import HTTPRequestParser, get_header_lines
from waitress.task import WSGITask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from _typeshed.wsgi import WSGIEnvironment

KEY = "coredump.headers"
"""Where an application finds them in the WSGI environment."""

Headers = tuple[tuple[str, bytes], ...]
"""Names, in lower case, and values."""


class RawParser(HTTPRequestParser):  # type: ignore[misc] # waitress has no types
    """Keeps what waitress folds."""

    raw_headers: Headers = ()

    def parse_header(self, header_plus: bytes) -> None:
        """Parse request line and headers. Raises waitress' ParsingError, of which it makes a 400."""
        super().parse_header(header_plus)
        self.raw_headers = parsed(header_plus)


class RawTask(WSGITask):  # type: ignore[misc] # waitress has no types
    """Brings them to the application."""

    def get_environment(self) -> WSGIEnvironment:
        """Return the WSGI environment."""
        environ: WSGIEnvironment = super().get_environment()
        environ[KEY] = getattr(self.request, "raw_headers", ())
        return environ


def parsed(head: bytes) -> Headers:
    """Return the headers of a request line with headers that waitress takes for well-formed.

    Names with `_` are dropped, as waitress drops them: in an environment they are the same as those with `-`.
    """
    _, _, lines = head.partition(b"\r\n")
    pairs = (line.partition(b":") for line in get_header_lines(lines))
    return tuple(
        (name.decode("latin-1").lower(), value.strip(b" \t")) for name, _, value in pairs if b"_" not in name
    )


def of(environ: Mapping[str, Any]) -> Headers:
    """Return a request's headers; none where the server does not tell them."""
    found: Headers = environ.get(KEY, ())
    return found


def values(headers: Headers, name: str) -> list[bytes]:
    """Return what all headers of this name say, in order."""
    wanted = name.lower()
    return [value for found, value in headers if found == wanted]
