"""download and first_byte: a gigabyte of cores to 1, 8 and 64 clients, beside a plain server and nginx.

nginx sends a file with the very bytes that ours puts together, the most that a server can do here.
"""

from __future__ import annotations

import tarfile
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import dumps, load, servers
from benchmarks.report import Row, at_least, at_most, compared, interleave

CLIENTS = {1: 3, 8: 1, 64: 1}
"""How many clients, and how often they are compared with the baseline, which takes minutes for 64."""
MANY = 64
"""So many take one container's core each, a quarter: the baseline would need ten minutes for all."""
NGINX_ROUNDS = 5
TIME_GOAL = at_most(0.03)
NGINX_GOAL = at_least(0.75)
FIRST_GOAL = at_most(0.002)

Fetch = Callable[[int], "list[load.Fetched]"]


def measure(scratch: Path) -> list[Row]:
    """Measure both against the Go server, then ours against nginx."""
    made = dumps.make(scratch)
    with servers.shim(made.store) as shim:
        archive = scratch / "files" / "archive"
        _save(f"http://127.0.0.1:{shim}{made.url}", archive, made.raw_bytes)
        with servers.baseline(made.raw, scratch / "tmp") as go:
            rows = _beside_go(partial(_ours, shim, made.url), partial(_baseline, go))
        with servers.nginx(archive.parent, scratch / "nginx") as nginx:
            rows += _beside_nginx(partial(load.fetch, shim, made.url), partial(load.fetch, nginx, "/archive"))
    return sorted(rows, key=lambda row: row.measure)


def _beside_go(ours: Fetch, baseline: Fetch) -> list[Row]:
    rows = []
    for clients, rounds in CLIENTS.items():
        runs = interleave(rounds, partial(ours, clients), partial(baseline, clients))
        times = [(_seconds(got), _seconds(other)) for got, other in runs]
        what = f"{_clients(clients)}{', a quarter each' if clients >= MANY else ''}, Go"
        rows.append(compared(("download", what), "s", times, TIME_GOAL))
        if clients == 1:
            first = [(got[0].first * 1000, other[0].first * 1000) for got, other in runs]
            rows.append(compared(("first_byte", "1 client, Go"), "ms", first, FIRST_GOAL))
    return rows


def _ours(port: int, url: str, clients: int) -> list[load.Fetched]:
    return load.fetch(port, f"{url}?container={dumps.FIRST}" if clients >= MANY else url, clients)


def _baseline(port: int, clients: int) -> list[load.Fetched]:
    return load.fetch(port, f"/dump/{dumps.FIRST}" if clients >= MANY else "/dump", clients)


def _beside_nginx(ours: Fetch, nginx: Fetch) -> list[Row]:
    rows = []
    for clients in CLIENTS:
        runs = interleave(NGINX_ROUNDS, partial(ours, clients), partial(nginx, clients))
        rates = [(_rate(got), _rate(other)) for got, other in runs]
        rows.append(compared(("download", f"{_clients(clients)}, nginx"), "MB/s", rates, NGINX_GOAL))
    return rows


def _save(url: str, archive: Path, raw_bytes: int) -> None:
    """Keep our archive for nginx, and make sure that it is one, with all the cores."""
    archive.parent.mkdir()
    urllib.request.urlretrieve(url, archive)  # noqa: S310 # our own server
    with tarfile.open(archive, "r|gz") as members:
        unpacked = sum(member.size for member in members if member.name.endswith("/core"))
    assert unpacked >= raw_bytes, f"the archive holds {unpacked} bytes of cores, not {raw_bytes}"


def _seconds(clients: list[load.Fetched]) -> float:
    return max(client.last for client in clients)


def _rate(clients: list[load.Fetched]) -> float:
    return sum(client.body for client in clients) / 1e6 / _seconds(clients)


def _clients(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"
