"""What HAProxy answers by itself while no shim process does: discovery, word for word as the shim would.

Not here: the documents' contents (discovery, openapi), and HAProxy's rules (haproxy).

Everything that a namespace's deletion, kubectl and kube-apiserver's own discovery ask for is here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import Flask

from coredump_shim import discovery, names, openapi

LEGACY = "application/json"
_AGGREGATED = LEGACY + ";g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"

ASKED = (
    *(("/apis", form, _AGGREGATED.format(form)) for form in ("v2", "v2beta1")),
    *(
        (path, "", LEGACY)
        for path in (
            "/apis",
            f"/apis/{names.GROUP}",
            names.ROOT,
            "/openapi/v2",
            "/openapi/v3",
            f"/openapi/v3{names.ROOT}",
            "/version",
        )
    ),
)
"""Path, form, and the Accept header that asks for it; the plain form of a path comes last."""

PATHS = tuple(dict.fromkeys(path for path, _, _ in ASKED))


@dataclass(frozen=True)
class Document:
    """One answer."""

    path: str
    form: str
    """The version of apidiscovery.k8s.io that its reader must ask for; "" for the plain document."""
    content_type: str
    etag: str
    """Without quotes; "" if it has none."""
    body: bytes

    @property
    def file(self) -> str:
        """Return a name for a file of it."""
        return re.sub(r"[^a-z0-9.]+", "-", f"{self.path[1:]} {self.form}".strip()) + ".json"


def documents() -> list[Document]:
    """Return them as the application itself answers."""
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider's
    app.register_blueprint(discovery.blueprint())
    app.register_blueprint(openapi.blueprint())
    client = app.test_client()
    found = []
    for path, form, wanted in ASKED:
        answer = client.get(path, headers={"Accept": wanted})
        etag, _ = answer.get_etag()
        found.append(Document(path, form, str(answer.content_type), etag or "", answer.get_data()))
    return found
