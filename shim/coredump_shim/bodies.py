"""What a caller sends: JSON bodies, checked field by field into what he wants.

Not here: whether he can have it (endpoints).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from flask import Request

from coredump_guard import store
from coredump_shim import names
from coredump_shim.change import Wanted
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, bad_request, conflict, invalid, shown

JSON = "application/json"

MAX_ANNOTATIONS = 256 << 10
"""Bytes of all annotations together (apimachinery, TotalAnnotationSizeLimitB)."""
MAX_POINTED_OUT = 10
"""Unknown fields that are named."""

_LABEL_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")

_TOP = {"apiVersion", "kind", "metadata", "spec", "status"}
_SPEC = {"poduid"}
_METADATA = {
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
}
"""metav1.ObjectMeta's fields that can be sent in good faith; what the others ask for is not done here."""


@dataclass(frozen=True)
class Preconditions:
    """What DeleteOptions ask to be true of the object."""

    uid: str = ""
    version: str = ""
    dry_run: bool = False

    def check(self, thing: Object) -> None:
        """Raise ApiError 409 unless the object is the one that is meant."""
        metadata = thing["metadata"]
        if self.uid not in ("", metadata["uid"]) or self.version not in ("", metadata["resourceVersion"]):
            raise conflict("the object is not the one that the preconditions name", metadata["name"])


def read(request: Request, media_type: str = JSON) -> dict[str, Any]:
    """Return the body, a JSON object. Raises ApiError 400, 413 or 415."""
    sent = request.mimetype or "nothing"
    if sent != media_type:
        raise ApiError(415, f"the body must be {media_type}, the Content-Type says {shown(sent)}")
    try:
        body = json.loads(request.get_data(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request("body", f"is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise bad_request("body", "must be a JSON object")
    return body


def delete_options(request: Request) -> Preconditions:
    """Return what a DELETE's body, if there is one, asks for. Raises ApiError 400 or 415."""
    options = read(request) if request.get_data() else {}
    wanted = _object(options, "preconditions", "DeleteOptions")
    return Preconditions(
        _text(wanted, "uid", "DeleteOptions", "preconditions."),
        _text(wanted, "resourceVersion", "DeleteOptions", "preconditions."),
        _is_dry_run(options.get("dryRun") or []),
    )


def is_dry_run(request: Request) -> bool:
    """Whether `dryRun=All` is asked for. Raises ApiError 400 for anything else."""
    return _is_dry_run(request.args.getlist("dryRun"))


def wanted(body: dict[str, Any], namespace: str, name: str | None = None) -> Wanted:
    """Return what the body wants of an endpoint in this namespace; `name` is the path's, where it has one.

    Raises ApiError 400 where body and path disagree, and 422 naming the field.
    """
    _check_kind(body)
    metadata = _object(body, "metadata", name or "")
    own = _text(metadata, "name", name or "", "metadata.") or (name or "")
    if name is not None and own != name:
        raise bad_request("metadata.name", f"{shown(own)} is not {shown(name)}, which the path names")
    if _text(metadata, "namespace", own, "metadata.") not in ("", namespace):
        raise bad_request("metadata.namespace", f"is not {shown(namespace)}, which the path names")
    _check_names(namespace, own)
    spec = _object(body, "spec", own)
    return Wanted(
        name=own,
        poduid=_text(spec, "poduid", own, "spec."),
        labels=_labels(metadata, own),
        annotations=_annotations(metadata, own),
        uid=_text(metadata, "uid", own, "metadata."),
        version=_text(metadata, "resourceVersion", own, "metadata."),
    )


def unknown_fields(body: dict[str, Any]) -> list[str]:
    """Return, quoted, the paths of fields that an endpoint does not have; the first few."""
    inner = (("metadata.", body.get("metadata"), _METADATA), ("spec.", body.get("spec"), _SPEC))
    found = [key for key in body if key not in _TOP]
    for prefix, part, known in inner:
        if isinstance(part, dict):
            found += [prefix + key for key in part if key not in known]
    return [shown(path) for path in found[:MAX_POINTED_OUT]]


def _is_dry_run(stages: object) -> bool:
    if stages not in ([], ["All"]):
        raise bad_request("dryRun", "must be All")
    return stages == ["All"]


def _check_kind(body: dict[str, Any]) -> None:
    if (body.get("apiVersion"), body.get("kind")) != (names.API_VERSION, names.KIND):
        sent = f"{body.get('apiVersion')}, {body.get('kind')}"
        raise bad_request("apiVersion, kind", f"{shown(sent)} is not {names.API_VERSION}, {names.KIND}")


def _check_names(namespace: str, name: str) -> None:
    if not name:
        raise invalid(name, "metadata.name", "is required: the name of the pod")
    if not store.is_pod(name):
        raise invalid(name, "metadata.name", "must be a pod's name: lower-case letters, digits, '-' and '.'")
    if not store.is_namespace(namespace):
        raise invalid(name, "metadata.namespace", "must be a DNS label: lower-case letters, digits and '-'")


def _labels(metadata: dict[str, Any], name: str) -> dict[str, str]:
    labels = _texts(metadata, "labels", name)
    for key, value in labels.items():
        if not (_LABEL_KEY.match(key) and _LABEL_VALUE.match(value)):
            sentence = f"{shown(f'{key}={value}')} is not a label Kubernetes allows"
            raise invalid(name, "metadata.labels", sentence)
    return labels


def _annotations(metadata: dict[str, Any], name: str) -> dict[str, str]:
    annotations = _texts(metadata, "annotations", name)
    for key in annotations:
        if not _LABEL_KEY.match(key):
            raise invalid(name, "metadata.annotations", f"{shown(key)} is not a key Kubernetes allows")
    if sum(len(json.dumps(pair)) for pair in annotations.items()) > MAX_ANNOTATIONS:
        raise invalid(name, "metadata.annotations", f"must be at most {MAX_ANNOTATIONS} bytes together")
    return annotations


def _object(body: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise invalid(name, key, "must be an object")
    return value or {}


def _texts(metadata: dict[str, Any], key: str, name: str) -> dict[str, str]:
    texts = _object(metadata, key, name)
    for text in texts.values():
        if not isinstance(text, str):
            raise invalid(name, f"metadata.{key}", "must hold strings; quote numbers, true and false")
    return texts


def _text(body: dict[str, Any], key: str, name: str, prefix: str) -> str:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise invalid(name, prefix + key, "must be a string; quote it")
    return value or ""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
