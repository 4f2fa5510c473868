"""How downloads are served: by a process of their own, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest

from tests.support import serving
from tests.support.dumps import write_dump
from tests.support.serving import DEADLINE, ENDPOINTS, Shim, gone, waiting

MIB = 1 << 20
DUMP = f"{ENDPOINTS}/web/dump"
CORE = random.Random(5).randbytes(40 * MIB)
"""Does not compress, and is more than any socket's buffers hold."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    return root


@pytest.fixture
def shim(store: Path, tmp_path: Path) -> Iterator[Shim]:
    with serving.shim(store, tmp_path / "log", stall_seconds=4) as running:
        yield running


class Client:
    """Connections to a shim, all closed in the end."""

    def __init__(self, shim: Shim, stack: contextlib.ExitStack) -> None:
        self.port, self.stack = shim.port, stack

    def connect(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        self.stack.callback(connection.close)
        return connection

    def ask(
        self, connection: HTTPConnection, path: str, method: str = "GET", body: bytes = b""
    ) -> HTTPResponse:
        connection.request(method, path, body or None)
        return self.stack.enter_context(connection.getresponse())

    def begin(self, read: int = 1) -> HTTPResponse:
        """Begin a download over a connection that holds little, and read a few bytes of it."""
        connection = self.connect()
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(("127.0.0.1", self.port))
        response = self.ask(connection, DUMP)
        assert response.status == 200, response.read()
        assert len(response.read(read)) == read
        return response


@pytest.fixture
def client(shim: Shim) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        yield Client(shim, stack)


def healthy(shim: Shim) -> bool:
    with serving.get(f"{shim.url}/healthz") as response:
        return response.read() == b"ok"


def memory(pid: int) -> int:
    """Return the bytes of memory that are the process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = [line.split() for line in text.splitlines() if line.startswith("Private_")]
    return sum(int(line[1]) for line in lines) * 1024


def aborted(response: HTTPResponse) -> None:
    with pytest.raises((IncompleteRead, ConnectionResetError)):
        response.read()


def test_answers_end_their_connection_and_have_a_length(store: Path, shim: Shim) -> None:
    write_dump(store)
    with serving.get(shim.dump) as response:
        assert response.headers["Connection"] == "close"
        assert len(response.read()) == int(response.headers["Content-Length"])


def test_dump_after_other_requests_on_one_connection(store: Path, client: Client) -> None:
    """kubectl and kube-apiserver keep connections."""
    write_dump(store)
    connection = client.connect()
    for _ in range(20):
        assert client.ask(connection, "/healthz").read() == b"ok"
    response = client.ask(connection, DUMP)
    assert response.status == 200
    assert len(response.read()) == int(response.headers["Content-Length"])


@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
def test_other_methods_reach_the_dump_too(store: Path, client: Client, method: str) -> None:
    write_dump(store)
    path = f"{ENDPOINTS}/web/proxy/dump"
    response = client.ask(client.connect(), path, method, b'{"kind":"DeleteOptions"}')
    assert response.status == 200
    assert (response.read() == b"") == (method == "HEAD")


def test_request_in_many_pieces(store: Path, shim: Shim) -> None:
    write_dump(store)
    with socket.create_connection(("127.0.0.1", shim.port), timeout=DEADLINE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in f"GET {DUMP} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode():
            connection.send(bytes([byte]))
            time.sleep(0.0005)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_pipelined_request_is_not_served_by_the_front(store: Path, shim: Shim) -> None:
    """Two requests at once cannot be taken apart: the second is refused rather than read by the front."""
    write_dump(store)
    with socket.create_connection(("127.0.0.1", shim.port), timeout=DEADLINE) as connection:
        health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(health + health.replace(b"/healthz", DUMP.encode()) + health)
        answer = b""
        while answer.count(b"HTTP/1.1 ") < 3:
            answer += connection.recv(65536)
    assert [code[:3] for code in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"503", b"200"]


def test_hostile_requests(store: Path, client: Client) -> None:
    write_dump(store)
    for path, code in (
        (f"{DUMP}?container=../../x", 400),
        (f"{DUMP}?id=%00", 400),
        (f"{DUMP}?container={'a' * 10_000}", 400),
        (DUMP.replace("/web/", f"/{'w' * 10_000}/"), 404),
        (DUMP.replace("/demo/", "/..%2f..%2fdemo/"), 404),
        (DUMP.replace("/web/", "/web%00/"), 404),
    ):
        response = client.ask(client.connect(), path)
        body = json.loads(response.read())
        assert (response.status, body["kind"], body["code"]) == (code, "Status", code), path


def test_missing_dumps_are_a_status_and_nothing_else(shim: Shim, tmp_path: Path) -> None:
    body = tmp_path / "body"
    curl = ["curl", "-sS", "--fail", "-o", str(body), shim.dump]
    failed = subprocess.run(curl, timeout=DEADLINE, check=False, capture_output=True)
    assert failed.returncode == 22
    assert not body.exists()


def test_symlinks_in_the_store_are_not_followed(store: Path, shim: Shim, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's secret")
    elsewhere = tmp_path / "elsewhere"
    other = write_dump(elsewhere)
    dump = write_dump(store, files={"maps": b"maps", "log": b"log"})
    (dump / "maps").unlink()
    (dump / "maps").symlink_to(secret)
    (dump / "core.gz").rename(tmp_path / "core.gz")
    (dump / "core.gz").symlink_to(tmp_path / "core.gz")
    (dump.parent / other.name).symlink_to(other)
    (dump.parent.parent / "linked").symlink_to(other.parent)
    with serving.get(shim.dump) as response:
        (tmp_path / "got.tar.gz").write_bytes(response.read())
    names = subprocess.check_output(["tar", "-tzf", tmp_path / "got.tar.gz"], text=True).split()
    files = [name.rpartition("/")[2] for name in names if not name.endswith("/")]
    assert files == ["info.json", "core.missing", "log", "SHA256SUMS"]


def test_64_stalled_readers_leave_the_rest_alone(store: Path, shim: Shim, client: Client) -> None:
    write_dump(store, core=CORE)
    for _ in range(64):
        client.begin()
    assert healthy(shim)
    with serving.get(f"{shim.url}/apis/coredump.fujitsu.com/v1alpha1/coredumpendpoints") as listed:
        assert len(json.load(listed)["items"]) == 1
    with serving.get(shim.dump) as response:
        assert len(response.read()) == int(response.headers["Content-Length"])


def test_stalled_reader_is_closed_and_a_slow_one_is_not(store: Path, shim: Shim, client: Client) -> None:
    write_dump(store, core=CORE)
    stalled, slow = client.begin(), client.begin()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert slow.read(256 << 10)
        time.sleep(0.1)
    aborted(stalled)
    assert slow.read()[-4:] != b""
    shim.wait_for_log("stood still")


def test_memory_is_constant(store: Path, shim: Shim, client: Client) -> None:
    write_dump(store, core=CORE, files={"maps": b"m" * 100_000})
    for _ in range(10):
        write_dump(store, core=CORE[: 4 * MIB])
    process = shim.process("shim-downloads")
    with serving.get(shim.dump) as response:
        response.read()
    before = memory(process)
    for _ in range(32):
        client.begin(3 * MIB)
    assert memory(process) - before < 24 * MIB
    client.stack.close()
    descriptors = Path(f"/proc/{process}/fd")
    for _ in waiting("descriptors are left open"):
        if len(list(descriptors.iterdir())) < 20:
            break


@pytest.mark.parametrize("damage", ["cut", "gone", "replaced", "gone before the second"])
def test_core_that_changes_under_way_aborts(store: Path, shim: Shim, client: Client, damage: str) -> None:
    dumps = sorted([write_dump(store, core=CORE, pid=pid) for pid in (1, 2)])
    response = client.begin(MIB)
    if damage == "cut":
        os.truncate(dumps[0] / "core.gz", 30 * MIB)
    elif damage == "gone":
        shutil.rmtree(dumps[1])
    elif damage == "replaced":
        stored = bytearray((dumps[1] / "core.gz").read_bytes())
        stored[-8] ^= 1
        (dumps[1] / "core.gz").write_bytes(stored)
    else:
        (dumps[1] / "info.json").write_text("{}")
    aborted(response)
    shim.wait_for_log("aborted")
    assert healthy(shim)


def test_curl_fails_when_a_core_is_cut(store: Path, shim: Shim, tmp_path: Path) -> None:
    dump, got = write_dump(store, core=CORE), tmp_path / "got"
    curl = ["curl", "-sS", "--fail", "--no-buffer", "--limit-rate", "15M", "-o", str(got), shim.dump]
    with subprocess.Popen(curl, stderr=subprocess.PIPE, text=True) as download:
        for _ in waiting("curl does not begin"):
            if got.exists() and got.stat().st_size:
                break
        os.truncate(dump / "core.gz", 39 * MIB)
        _, errors = download.communicate(timeout=DEADLINE)
    assert download.returncode == 18, errors  # partial file


def test_downloads_process_killed_is_started_again(store: Path, shim: Shim, client: Client) -> None:
    write_dump(store, core=CORE)
    response = client.begin()
    first = shim.process("shim-downloads")
    os.kill(first, signal.SIGKILL)
    aborted(response)
    assert healthy(shim)
    with serving.get(shim.dump) as again:  # waits for the new process
        assert len(again.read()) == int(again.headers["Content-Length"])
    assert shim.process("shim-downloads") != first


def test_downloads_process_that_hangs_is_answered_for(store: Path, shim: Shim, client: Client) -> None:
    """As a store on a dead NFS server makes it: the front says so, in bounded time, and serves the rest."""
    write_dump(store)
    process = shim.process("shim-downloads")
    os.kill(process, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        response = client.ask(client.connect(), DUMP)
        assert (response.status, json.loads(response.read())["reason"]) == (503, "ServiceUnavailable")
        assert time.monotonic() - begun < DEADLINE
        assert healthy(shim)
    finally:
        os.kill(process, signal.SIGCONT)
    for _ in waiting("the process does not serve again"):
        if client.ask(client.connect(), DUMP).status == 200:
            break


def test_front_killed_is_started_again(store: Path, shim: Shim) -> None:
    write_dump(store)
    first = shim.process("shim-front")
    os.kill(first, signal.SIGKILL)
    for _ in waiting("no new front"):
        if shim.process("shim-front") != first:
            break
    assert healthy(shim)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_shim(store: Path, tmp_path: Path, number: signal.Signals) -> None:
    write_dump(store, core=CORE)
    with serving.shim(store, tmp_path / "log") as shim, contextlib.ExitStack() as stack:
        processes = [shim.process(name) for name in ("shim-front", "shim-downloads")]
        response = Client(shim, stack).begin()
        os.kill(shim.pid, number)
        for _ in waiting("a process is left"):
            if all(map(gone, processes)):
                break
        aborted(response)


def test_many_at_once(store: Path, shim: Shim) -> None:
    write_dump(store, core=CORE[: 2 * MIB])
    wrong = []

    def download() -> None:
        with serving.get(shim.dump) as response:
            if len(response.read()) != int(response.headers["Content-Length"]):
                wrong.append(response)

    threads = [threading.Thread(target=download) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert not wrong
