"""HAProxy's configuration: the template beside this module, filled in.

Not here: writing it, and the files that it names (haproxy). docs/gateway.md says what it does and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from string import Template

from coredump_shim import front, names, rundir, status
from coredump_shim.discovery import Document
from coredump_shim.status import ApiError

TEMPLATE = "haproxy.cfg.template"
BUFFER = 1 << 16
"""HAProxy's buffers, in bytes: a request's head, and a document that it answers with, must fit into one."""
SOURCE = 600
"""Connections of one address; all backends together serve it no more than about 500 at a time."""
STRANGER = 64
"""Connections of one address whose certificate is none, not verified, or still to come."""
CONNECTIONS = 2400
"""Of all addresses together."""
NEWCOMERS = CONNECTIONS // 2
"""Connections of all addresses from which no verified certificate has come within a day."""
RETRY_AFTER = 2
"""Seconds; kubectl tries ten times, and a shim that is started again is back sooner."""

ERRORS = (
    ApiError(400, "the request is malformed, or its path is not one of this API"),
    ApiError(405, "the server does not allow this method on the requested resource"),
    ApiError(408, "the request did not arrive in time", reason="Timeout"),
    ApiError(413, "the request's body is too large"),
    ApiError(500, "an internal error occurred in the gateway; its log says more"),
    ApiError(502, "the shim broke off; try again", reason=status.REASONS[503], retry_after=RETRY_AFTER),
    status.unavailable("no shim answers here, or it has too much to do; try again", RETRY_AFTER),
    ApiError(504, "the shim does not answer in time", retry_after=RETRY_AFTER),
)
"""What HAProxy says by itself, as a Status like the shim's."""


@dataclass(frozen=True)
class Settings:
    """What differs from site to site; paths and names of plain characters only."""

    run_dir: str
    certificate: str
    host: str
    port: int
    downloads: int
    """At one time."""
    user: str | None = None
    group: str | None = None


def text(settings: Settings, documents: Iterable[Document]) -> str:
    """Return haproxy.cfg; the documents are what HAProxy answers by itself while no shim does."""
    # Who asks for a form of a document gets it, who asks for none of them the plain one.
    ordered = sorted(documents, key=lambda document: (document.path, not document.form, document.form))
    template = Template(resources.files(__package__).joinpath(TEMPLATE).read_text())
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return template.substitute(
        identity=_identity(settings),
        group=f" group {settings.group}" if settings.group else "",
        owner=f" user {settings.user}" if settings.user else "",
        admin=rundir.path(settings.run_dir, rundir.ADMIN_SOCKET),
        shim=rundir.path(settings.run_dir, rundir.SHIM_SOCKET),
        offline=rundir.path(settings.run_dir, rundir.OFFLINE_SOCKET),
        ca=rundir.path(settings.run_dir, rundir.REQUESTHEADER_CA),
        certificate=settings.certificate,
        listen=f"{host}:{settings.port}",
        bufsize=BUFFER,
        client_cn=names.CLIENT_CN,
        discovery=" ".join(dict.fromkeys(document.path for document in ordered)),
        dump=front.DUMP,
        downloads=settings.downloads,
        source=SOURCE,
        stranger=STRANGER,
        connections=CONNECTIONS,
        newcomers=NEWCOMERS,
        errors="\n".join(map(_error, ERRORS)),
        documents="\n".join(line for document in ordered for line in _rules(settings, document)),
    )


def file(run_dir: str, document: Document) -> str:
    """Return where a document is written for HAProxy."""
    name = re.sub(r"[^a-z0-9.]+", "-", f"{document.path[1:]} {document.form}".strip())
    return rundir.path(run_dir, f"{rundir.OFFLINE}/{name}.json")


def _identity(settings: Settings) -> str:
    lines = (("user", settings.user), ("group", settings.group))
    return "\n".join(f"    {word} {name}" for word, name in lines if name)


def _error(error: ApiError) -> str:
    _, headers, body = error.plain()
    more = [f"hdr {name} {value}" for name, value in headers if name == "Retry-After"]
    said = f"content-type application/json string {_quoted(body.decode())}"
    return " ".join([f"    http-error status {error.code} {said}", *more])


def _rules(settings: Settings, document: Document) -> list[str]:
    """Return the rules that answer with a document, or with 304 whoever has it."""
    asked = f"{{ path {document.path} }}"
    if document.form:
        asked += f" {{ req.hdr(accept) -m reg '^application/json;.*v={document.form}(;|$)' }}"
    etag = _quoted(document.etag)
    headers = f"hdr ETag {etag} hdr Vary Accept"
    content = f"content-type {_quoted(document.content_type)} file {file(settings.run_dir, document)}"
    return [
        f"    http-request return status 304 {headers} if {asked} {{ req.hdr(if-none-match) -m str {etag} }}",
        f"    http-request return status 200 {content} {headers} if {asked}",
    ]


def _quoted(word: str) -> str:
    """Return a word of HAProxy's configuration, in which nothing but a single quote means anything."""
    return "'" + word.replace("'", "'\\''") + "'"
