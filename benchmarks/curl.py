"""Downloads by curl, which speaks TLS as well as plain HTTP: the same client for both sides of a comparison.

Not here: downloads over plain HTTP that cost their reader nothing (load).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import SECONDS, Fetched, ended

AGAIN = 200
"""How often each of many clients downloads at most."""
_WRITTEN = "%{http_code} %header{content-length} %{size_download} %{time_starttransfer} %{time_total}\\n"


@dataclass(frozen=True)
class Server:
    """Where to download from."""

    url: str
    ca: Path | None = None
    """Bundle by which its certificate is verified; None for plain HTTP."""
    address: str = ""
    """`host:port` to connect to in place of what the URL names."""
    token: str = ""
    """Bearer token."""

    def options(self) -> list[str]:
        """Return the lines of a curl configuration: a secret is none for a command line."""
        lines = ["silent", "show-error", "fail", "http1.1"]
        lines += [f'cacert = "{self.ca}"'] if self.ca else []
        lines += [f'connect-to = "::{self.address}"'] if self.address else []
        return lines + ([f'header = "Authorization: Bearer {self.token}"'] if self.token else [])


def fetch(server: Server, path: str) -> Fetched:
    """Download once. Raises RuntimeError if that fails or not all of it comes."""
    lines = [*server.options(), f'write-out = "{_WRITTEN}"', *_request(server, path)]
    command = ["curl", "-q", "--config", "-"]
    done = subprocess.run(
        command, input="\n".join(lines), check=False, capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"curl {server.url}{path} ended with {done.returncode}: {done.stderr}")
    status, length, body, first, last = done.stdout.split()
    return Fetched(int(status), int(length), int(body), float(first), float(last))


@contextmanager
def fetching(server: Server, path: str, count: int) -> Iterator[Callable[[], bool]]:
    """Have clients download over and over; yields a function that says whether they still do.

    At the end they are cut off.
    """
    parallel = [
        "no-progress-meter",
        "parallel",
        "parallel-immediate",
        "fail-early",
        f"parallel-max = {count}",
    ]
    lines = [*parallel, *server.options(), *_request(server, path) * (count * AGAIN)]
    command = ["curl", "-q", "--config", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with ended(process):  # type: ignore[arg-type]
        assert process.stdin
        process.stdin.write("\n".join(lines))
        process.stdin.close()
        yield lambda: process.poll() is None


def _request(server: Server, path: str) -> list[str]:
    return [f'url = "{server.url}{path}"', 'output = "/dev/null"']
