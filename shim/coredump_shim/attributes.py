"""What a request wants, in authorization's terms: verb and resource, or verb and path.

Not here: whether it is granted (authz).

Parsed as kube-apiserver does it (k8s.io/apiserver, endpoints/request/requestinfo.go), whose answers to
`kubectl auth can-i` are then ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_OF_COLLECTIONS = {"get": "list", "delete": "deletecollection"}

_PLAIN = re.compile(r"/|(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+")
_EXACT_NAME = re.compile(r"metadata\.name==?([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Resource:
    """A request for an object, a collection, or a part of one; fields as in a SubjectAccessReview."""

    verb: str
    namespace: str
    group: str
    version: str
    resource: str
    subresource: str = ""
    name: str = ""

    def asked(self) -> dict[str, dict[str, str]]:
        """Return its part of a SubjectAccessReview's spec."""
        return {"resourceAttributes": asdict(self)}


@dataclass(frozen=True)
class Path:
    """A request for anything else."""

    verb: str
    path: str

    def asked(self) -> dict[str, dict[str, str]]:
        """Return its part of a SubjectAccessReview's spec."""
        return {"nonResourceAttributes": asdict(self)}


Attributes = Resource | Path


def is_plain(uri: str, path: str) -> bool:
    """Whether a request's URI, as received, can only mean this path, to whoever reads it.

    No name in our API needs escaping; doubled slashes and dot segments are what somebody else may read
    differently.
    """
    return uri.partition("?")[0] == path and _PLAIN.fullmatch(path) is not None


def parse(method: str, path: str, query: Mapping[str, Sequence[str]]) -> Attributes:
    """Return what is wanted; the path is plain, the query's values are in the order given."""
    prefix, *parts = path.strip("/").split("/")
    needed = {"apis": 3, "api": 2}.get(prefix)
    if needed is None or len(parts) < needed:
        return Path(method.lower(), path)
    group = parts.pop(0) if prefix == "apis" else ""
    version, *parts = parts
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    resource, name, subresource = (*parts[:3], "", "")[:3]
    verb = _VERBS.get(method, "")
    if not name and verb in _OF_COLLECTIONS:
        verb, name = _of_collection(verb, query)
    return Resource(verb, namespace, group, version, resource, subresource, name)


def is_watch(query: Mapping[str, Sequence[str]]) -> bool:
    """Whether a GET of a collection is a watch; as in apimachinery, only the first value counts."""
    values = query.get("watch", ())
    return bool(values) and values[0].lower() not in ("false", "0")


def _of_collection(verb: str, query: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    if verb != "get":
        return _OF_COLLECTIONS[verb], ""
    return "watch" if is_watch(query) else "list", _selected_name(query.get("fieldSelector", ()))


def _selected_name(selectors: Sequence[str]) -> str:
    """Return the one name that a field selector leaves; "" for all that is less plain than that."""
    match = _EXACT_NAME.fullmatch(selectors[0]) if len(selectors) == 1 else None
    return match[1] if match and match[1] not in (".", "..") else ""
