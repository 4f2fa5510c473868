"""A server in kube-apiserver's place, for answers that a real one cannot be made to give, or not as many.

Not here: the real one (testbed.cluster), against which everything is tested that it does answer.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

ENDPOINTS = "/apis/coredump.fujitsu.com/v1/coredumpendpoints"


@dataclass
class World:
    """What the server has: lists by their path, objects by theirs; anything else it has not."""

    lists: dict[str, list[Object]] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Codes with which paths are answered."""
    expired: set[str] = field(default_factory=set)
    """Paths of lists whose second page comes too late."""
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""

    def answer(self, method: str, url: str) -> tuple[int, Object]:
        """Return code and body."""
        parts = urlsplit(url)
        self.asked.append(f"{method} {parts.path}")
        if parts.path in self.errors:
            return self.errors[parts.path], {"kind": "Status", "reason": "", "message": "as it was told"}
        if parts.path in self.lists:
            query = parse_qs(parts.query)
            if parts.path in self.expired and "continue" in query:
                return 410, {"kind": "Status", "reason": "Expired", "message": "continue is too old"}
            return 200, _page(self.lists[parts.path], query)
        if parts.path in self.objects:
            return 200, self.objects[parts.path]
        *_, kind, name = parts.path.split("/")
        details = {"kind": kind, "name": name}
        return 404, {"kind": "Status", "reason": "NotFound", "message": "not found", "details": details}


def world(pods: dict[str, list[str]], endpoints: list[Object] | None = None) -> World:
    """Return a world with these pods, the UIDs by namespace; a pod's name is its UID."""
    made = World()
    long_ago = {"creationTimestamp": "2020-01-01T00:00:00Z"}
    system = {"metadata": {"name": "kube-system", "uid": "0c0c0c0c-1111-4222-8333-444444444444", **long_ago}}
    namespaces = {name: {"metadata": {"name": name, **long_ago}} for name in pods}
    made.lists["/api/v1/namespaces"] = [system, *namespaces.values()]
    everywhere = [
        {"metadata": {"name": uid, "namespace": namespace, "uid": uid}}
        for namespace, uids in pods.items()
        for uid in uids
    ]
    made.lists["/api/v1/pods"] = everywhere
    made.lists[ENDPOINTS] = endpoints or []
    made.objects["/api/v1/namespaces/kube-system"] = system
    made.objects |= {f"/api/v1/namespaces/{name}": thing for name, thing in namespaces.items()}
    for pod in everywhere:
        at = pod["metadata"]
        made.objects[f"/api/v1/namespaces/{at['namespace']}/pods/{at['name']}"] = pod
        made.lists.setdefault(f"/api/v1/namespaces/{at['namespace']}/pods", []).append(pod)
    return made


@contextlib.contextmanager
def answering(directory: Path, served: World) -> Iterator[str]:
    """Serve a world; yield the path of a kubeconfig for it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two would wait for each other (Nagle, delayed ACK)

        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, body = served.answer(self.command, self.path)
            text = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 (its names)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = True  # clients keep their connections
        serving.block_on_close = False
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield str(kubeconfig(directory, f"http://127.0.0.1:{serving.server_address[1]}"))
        finally:
            serving.shutdown()
            thread.join()


def _page(items: list[Object], query: dict[str, list[str]]) -> Object:
    start, count = int(query.get("continue", ["0"])[0]), int(query.get("limit", ["500"])[0])
    end = start + count
    metadata = {"continue": str(end)} if end < len(items) else {}
    return {"kind": "List", "metadata": metadata, "items": items[start:end]}


def kubeconfig(directory: Path, url: str) -> Path:
    """Write a kubeconfig for a server and return its path."""
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "nobodys"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))  # JSON is YAML
    return path
