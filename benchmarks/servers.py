"""The servers that are compared: our shim, the Go baseline and nginx, each on a free loopback port.

Not here: what they serve (dumps) and who downloads it (load).
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.load import ended
from benchmarks.programs import go_server, tool
from testbed.waiting import wait_for

NGINX = """\
daemon off;
pid {prefix}/pid;
user root;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  default_type application/gzip;
  client_body_temp_path {prefix}/body; proxy_temp_path {prefix}/proxy; fastcgi_temp_path {prefix}/fastcgi;
  uwsgi_temp_path {prefix}/uwsgi; scgi_temp_path {prefix}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; location = /healthz {{ return 200 "ok"; }} }}
}}
"""
"""Debian's own settings as far as sending a file goes; only logs, temporary files and the port are ours."""


@contextmanager
def shim(store: Path) -> Iterator[int]:
    """Run the stand-alone shim on a store and yield its port."""
    port = _free_port()
    program = Path(sys.executable).with_name("coredump-shim")
    arguments = ["serve", "--standalone", "--store", str(store), "--listen", f"127.0.0.1:{port}"]
    with _serving([str(program), *arguments], port, {}):
        yield port


@contextmanager
def baseline(raw: Path, scratch: Path) -> Iterator[int]:
    """Run the Go baseline on a directory of uncompressed cores and yield its port."""
    port = _free_port()
    scratch.mkdir()  # its archives in the making
    with _serving([str(go_server()), f"127.0.0.1:{port}", str(raw)], port, {"TMPDIR": str(scratch)}):
        yield port


@contextmanager
def nginx(root: Path, prefix: Path) -> Iterator[int]:
    """Run nginx on a directory of files and yield its port."""
    port = _free_port()
    prefix.mkdir()
    config = prefix / "nginx.conf"
    config.write_text(NGINX.format(prefix=prefix, root=root, port=port))
    program = tool("nginx", "nginx-light")
    with _serving([program, "-p", str(prefix), "-c", str(config), "-e", "stderr"], port, {}):
        yield port


def healthy(port: int) -> bool:
    """Ask /healthz as a probe does, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def _serving(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:  # a pipe that nobody reads would hang it once full
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        with ended(process):
            wait_for(f"{command[0]} answers", lambda: _answers(process, port, log))
            yield


def _answers(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> bool:
    if process.poll() is not None:
        log.seek(0)
        said = log.read().decode(errors="replace")
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said}")
    return healthy(port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
