"""JSON merge patches (RFC 7396), the one form of PATCH that is served.

Not here: reading a patch from a request, and checking what comes out (bodies).
"""

from __future__ import annotations

from typing import Any

from coredump_shim.endpoint import Object
from coredump_shim.status import bad_request

MEDIA_TYPE = "application/merge-patch+json"


def apply(thing: Object, patch: Object) -> Object:
    """Return the object with the patch applied; it is not changed itself. Raises ApiError 400."""
    try:
        merged: Object = _merge(thing, patch)
    except RecursionError:
        raise bad_request("body", "is nested too deeply") from None
    return merged


def _merge(target: object, patch: object) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
