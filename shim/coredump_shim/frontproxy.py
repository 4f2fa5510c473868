"""Who asks, as the front proxy says it in headers: X-Remote-User, -Uid, -Group and -Extra-*.

Not here: whether it is the front proxy that says so (authn), and what its headers are called (trust).

Read as kube-apiserver's own library does (k8s.io/apiserver, authentication/request/headerrequest), but for
what it never sends: that is refused.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote_to_bytes

from coredump_shim import rawheaders
from coredump_shim.caller import Caller
from coredump_shim.rawheaders import Headers
from coredump_shim.status import ApiError
from coredump_shim.trust import Front

LONGEST = 4096
"""Bytes of one header's value."""


def caller(headers: Headers, front: Front) -> Caller | None:
    """Return who asks; None if no user is named.

    Raises ApiError 400 for a user named twice, and for text that is too long, is not UTF-8 or has control
    characters.
    """
    user = _single(headers, front.user_headers)
    if not user:
        return None
    groups = [text(name, value) for name in front.group_headers for value in rawheaders.values(headers, name)]
    return Caller(
        user,
        _single(headers, front.uid_headers),
        tuple(group for group in groups if group),
        _extra(headers, front.extra_prefixes),
    )


def text(name: str, value: bytes) -> str:
    """Return a header's value. Raises ApiError 400, naming the header."""
    if len(value) > LONGEST:
        raise ApiError(400, f"header {name} is longer than {LONGEST} bytes")
    return _text(f"header {name}", value)


def _single(headers: Headers, names: tuple[str, ...]) -> str:
    """Return the value of the first of these headers that has one; "" without."""
    for name in names:
        values = rawheaders.values(headers, name)
        if len(values) > 1:
            raise ApiError(400, f"header {name} is given more than once")
        if values and values[0]:
            return text(name, values[0])
    return ""


def _extra(headers: Headers, prefixes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in prefixes:
        for name, value in headers:
            if name.startswith(prefix):
                key = _key(name, prefix)
                extra[key] = (*extra.get(key, ()), text(name, value))
    return extra


def _key(name: str, prefix: str) -> str:
    return _text(f"the name of header {name}", unquote_to_bytes(name.removeprefix(prefix)))


def _text(what: str, value: bytes) -> str:
    try:
        found = value.decode()
    except UnicodeDecodeError:
        raise ApiError(400, f"{what} is not UTF-8") from None
    if any(unicodedata.category(character) == "Cc" for character in found):
        raise ApiError(400, f"{what} has control characters")
    return found
