"""What users unpack a download with must take it: each reader, over a real server."""

from __future__ import annotations

import datetime
import hashlib
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from isal import igzip, isal_zlib

from coredump_guard import deflate
from coredump_guard.record import Core, Record
from tests.support import serving
from tests.support.dumps import write_dump
from tests.support.serving import DEADLINE, Shim
from tests.support.unpack import unpack

LONG = "longname-" * 6 + "ninechars"
"""As long as Kubernetes lets a container's name be."""
START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
GIB = 1 << 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dumps: with several files, with names too long for tar's header, and without a core."""
    root = tmp_path_factory.mktemp("store")
    noise = random.Random(3)
    core = b"".join(noise.choice([bytes(70_000), noise.randbytes(50_000)]) for _ in range(90))
    files = {"maps": b"55d0-55d1 r-xp\n" * 900, "log": b"", "status": b"x" * 512}
    write_dump(root, when=START, core=core, files=files)
    later = START + datetime.timedelta(seconds=5)
    write_dump(root, when=later, container=LONG, core=core[:1], files=files, executable="/" + "e" * 64)
    write_dump(root, when=later + datetime.timedelta(seconds=5), core=None)
    return root


@pytest.fixture(scope="module")
def shim(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    with serving.shim(store, tmp_path_factory.mktemp("log") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def archive(shim: Shim, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "coredump.tar.gz"
    run("curl", "-sSf", "-o", str(path), shim.dump)
    return path


def run(*command: str, cwd: Path | None = None, stdin: Path | None = None) -> str:
    with open(stdin or os.devnull, "rb") as source:
        done = subprocess.run(
            command, cwd=cwd, stdin=source, capture_output=True, text=True, timeout=DEADLINE * 4, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def check(directory: Path) -> None:
    """Compare everything unpacked with the sums that came along."""
    assert run("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=directory).count(": OK\n") == 11
    assert sum(path.is_file() for path in directory.rglob("*")) == 12
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["tar", "-xzf"], id="GNU tar"),
        pytest.param(["bsdtar", "-xf"], id="bsdtar"),
        pytest.param(["busybox", "tar", "-xzf"], id="busybox tar"),
    ],
)
def test_unpacks_with(archive: Path, tmp_path: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    run(*command, str(archive), cwd=tmp_path)
    check(tmp_path)


def test_unpacks_with_zcat_and_tar(archive: Path, tmp_path: Path) -> None:
    run("bash", "-c", 'set -o pipefail; zcat "$1" | tar -x', "-", str(archive), cwd=tmp_path)
    check(tmp_path)


@pytest.mark.parametrize("mode", ["r:gz", "r|gz"])
def test_unpacks_with_python(archive: Path, tmp_path: Path, mode: str) -> None:
    with archive.open("rb") as source, tarfile.open(fileobj=source, mode=mode) as opened:  # type: ignore[call-overload]
        unpack(opened, tmp_path)
    check(tmp_path)


def test_reads_with_go(archive: Path, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("needs go")
    program = Path(__file__).parent.parent / "support" / "readtar.go"
    listed = set(run("go", "run", str(program), stdin=archive).splitlines())
    run("tar", "-xzf", str(archive), cwd=tmp_path)
    sums = (tmp_path / "SHA256SUMS").read_bytes()
    own = f"{hashlib.sha256(sums).hexdigest()}  SHA256SUMS"
    assert listed == {*sums.decode().splitlines(), own}


def test_is_one_whole_gzip_member(archive: Path) -> None:
    run("gzip", "-t", str(archive))
    one = isal_zlib.decompressobj(31)
    one.decompress(archive.read_bytes())
    assert one.eof and one.unused_data == b""


def test_curl_resumes(shim: Shim, archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    partial = tmp_path / "partial"
    for size in (1, 10, len(whole) // 2, len(whole) - 1):
        partial.write_bytes(whole[:size])
        run("curl", "-sSf", "-C", "-", "-o", str(partial), shim.dump)
        assert partial.read_bytes() == whole


def test_parts_by_query_are_the_whole(shim: Shim, archive: Path) -> None:
    whole = archive.read_bytes()
    etag = ""
    parts = b""
    while len(parts) < len(whole):
        query = f"length=700001&offset={len(parts)}" + (f"&etag={etag}" if parts else "")
        with serving.get(f"{shim.dump}?{query}") as response:
            etag = response.headers["ETag"].strip('"')
            parts += response.read()
    assert parts == whole


def huge_dump(root: Path, size: int) -> str:
    """Write a dump whose core is this many zeros, a multiple of a piece, without ever having them."""
    directory = write_dump(root, core=b"\0")
    zeros = bytes(deflate.PIECE)
    piece, crc, total = deflate.piece(zeros), 0, 0
    with (directory / "core.gz").open("wb") as stored:
        stored.write(deflate.HEADER)
        while total < size:
            stored.write(piece)
            crc = isal_zlib.crc32_combine(crc, deflate.crc32(zeros), len(zeros))
            total += len(zeros)
        stored.write(deflate.trailer(crc, total))
        length = stored.tell()
    record = Record.from_json((directory / "info.json").read_bytes()).to_json()
    old = Record.from_json(record).core
    new = Core(bytes=total, stored_bytes=length)
    for before, after in (
        (f'"bytes": {old.bytes}', f'"bytes": {new.bytes}'),
        (f'"stored_bytes": {old.stored_bytes}', f'"stored_bytes": {new.stored_bytes}'),
        (old.sha256, ""),
    ):
        record = record.replace(before, after)
    (directory / "info.json").write_text(record)
    return directory.name


def test_core_over_8_gib(tmp_path: Path) -> None:
    """Larger than tar's octal sizes and than gzip's 32-bit length; streamed, never on disk."""
    store = tmp_path / "store"
    size = 8 * GIB + 512 * (1 << 20)
    name = huge_dump(store, size)
    with (
        serving.shim(store, tmp_path / "log") as shim,
        serving.get(shim.dump) as response,
        igzip.IGzipFile(fileobj=response) as unzipped,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=unzipped, mode="r|") as archive,
    ):
        sizes = {member.name: member.size for member in archive}
        assert sizes[f"app/{name}/core"] == size
        assert list(sizes)[-1] == "SHA256SUMS"
        assert unzipped.read() == b""  # and so gzip's trailer agrees
