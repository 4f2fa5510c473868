"""The end of a log: what runtimes write, and what a hostile /var/log may hold."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import logtail
from coredump_guard.logtail import last_lines, tail

from .conftest import IDENTITY

T1, T2, T3 = (f"2026-11-24T00:00:0{n}.123456789Z" for n in range(1, 4))
Tail = Callable[..., bytes]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return the directory of the container's logs below a root of our own."""
    owner = IDENTITY
    path = tmp_path / "var/log/pods" / f"{owner.namespace}_{owner.pod}_{owner.poduid}" / owner.container
    path.mkdir(parents=True)
    return path


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Tail]:
    root = os.open(tmp_path, os.O_PATH)

    def read(size: int = 65536, **changes: object) -> bytes:
        return tail(root, replace(IDENTITY, **changes), size)  # type: ignore[arg-type]

    yield read
    os.close(root)


def line(text: str, time: str = T1, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"{time} {stream} {tag} {text}\n".encode()


def docker(text: str, time: str = T1, stream: str = "stdout") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n"


def test_cri_lines() -> None:
    raw = line("one") + line("two", T2, "stderr") + line("", T3)
    assert last_lines(raw, 1000).decode() == f"{T1} stdout one\n{T2} stderr two\n{T3} stdout \n"


def test_conmon_writes_its_offset() -> None:
    time = "2026-11-24T00:00:01.123456789+00:00"
    assert last_lines(line("x", time), 1000).decode() == f"{time} stdout x\n"


def test_parts_are_joined_for_each_stream() -> None:
    raw = line("a", T1, tag="P") + line("X", T2, "stderr", "P") + line("b", T2) + line("Y", T3, "stderr")
    assert last_lines(raw, 1000).decode() == f"{T1} stdout ab\n{T2} stderr XY\n"


def test_a_line_that_the_crash_cut_off_is_there() -> None:
    assert (
        last_lines(line("whole") + line("begun", T2, tag="P"), 1000).decode().endswith(f"{T2} stdout begun\n")
    )


def test_docker_lines_and_parts() -> None:
    raw = docker("one\n") + docker("tw", T2) + docker("o\n", T3) + docker("é\x1b[31m\n", T3, "stderr")
    assert last_lines(raw, 1000).decode() == f"{T1} stdout one\n{T2} stdout two\n{T3} stderr é\x1b[31m\n"


def test_no_text_forges_a_line() -> None:
    raw = docker(f"a\n{T2} stderr forged\n")
    assert last_lines(raw, 1000) == f"{T1} stdout a\\n{T2} stderr forged\n".encode()


def test_control_characters_stay() -> None:
    assert last_lines(line("\x1b[2J\0\x07\r"), 1000) == f"{T1} stdout \x1b[2J\0\x07\r\n".encode()


@pytest.mark.parametrize("size", [0, 1, 36, 73, 74, 75, 110, 111, 148])
def test_it_is_cut_at_a_line(size: int) -> None:
    raw = b"".join(line(f"{number}", time) for number, time in enumerate((T1, T2, T3, T1)))
    found = last_lines(raw, size)
    whole = last_lines(raw, 1000)
    assert whole.endswith(found[40:])
    if size > 40:
        assert len(found) <= size
        assert found.count(b"\n") == size // (len(whole) // 4)


def test_of_an_endless_line_the_end_is_kept() -> None:
    raw = b"".join(line("x" * 16000 + str(number), tag="P") for number in range(100))
    found = last_lines(raw, 1000)
    assert found.startswith(f"{T1} stdout x".encode())
    assert found.endswith(b"x99\n")
    assert len(found) <= 1000


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_bytes_raise_nothing(raw: bytes, size: int) -> None:
    last_lines(raw, size)


@given(st.lists(st.sampled_from([b"{", b'{"log":', b"null", b"[", T1.encode(), b" stdout P ", b"\n", b"F"])))
def test_shuffled_pieces_raise_nothing(parts: list[bytes]) -> None:
    last_lines(b"".join(parts), 100)


def test_the_current_file(logs: Path, read: Tail) -> None:
    (logs / "0.log").write_bytes(line("now"))
    (logs / "1.log").write_bytes(line("another start's"))
    assert read() == f"{T1} stdout now\n".encode()
    assert read(restarts=None) == f"{T1} stdout another start's\n".encode()


def test_rotated_files_where_the_current_is_short(logs: Path, read: Tail) -> None:
    (logs / "0.log").write_bytes(line("4", T3))
    (logs / "0.log.20261123-120000").write_bytes(line("3", T2))
    with gzip.open(logs / "0.log.20261122-120000.gz", "wb") as file:
        file.write(line("1") + line("2"))
    (logs / "1.log.20261124-120000").write_bytes(line("another start's"))
    (logs / "0.log.tmp").write_bytes(line("no log"))
    assert [text.split()[-1] for text in read().splitlines()] == [b"1", b"2", b"3", b"4"]
    assert [text.split()[-1] for text in read(size=84).splitlines()] == [b"3", b"4"]


def test_a_gzip_bomb_is_left_alone(logs: Path, read: Tail) -> None:
    (logs / "0.log").write_bytes(line("now"))
    with gzip.open(logs / "0.log.20261122-120000.gz", "wb", compresslevel=1) as file:
        for _ in range(logtail.MAX_INFLATED // (1 << 20) + 2):
            file.write(bytes(1 << 20))
    assert read() == f"{T1} stdout now\n".encode()


def test_a_damaged_gzip_file_is_left_alone(logs: Path, read: Tail) -> None:
    (logs / "0.log").write_bytes(line("now"))
    (logs / "0.log.20261122-120000.gz").write_bytes(b"\x1f\x8b\x08garbage" * 100)
    assert read() == f"{T1} stdout now\n".encode()


def test_a_file_without_newlines_costs_no_memory(logs: Path, read: Tail) -> None:
    with (logs / "0.log").open("wb") as file:
        file.truncate(10 << 30)
    assert read() == b""


def test_more_than_the_limit_is_never_kept(logs: Path, read: Tail) -> None:
    (logs / "0.log").write_bytes(line("x" * 16000) * 200)
    assert logtail.MAX_BYTES - 17000 < len(read(size=1 << 40)) <= logtail.MAX_BYTES


def test_cri_dockerds_link(logs: Path, read: Tail, tmp_path: Path) -> None:
    identifier = IDENTITY.container_id
    file = tmp_path / f"var/lib/docker/containers/{identifier}/{identifier}-json.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(docker("said\n"))
    (logs / "0.log").symlink_to(f"/var/lib/docker/containers/{identifier}/{identifier}-json.log")
    assert read() == f"{T1} stdout said\n".encode()
    assert read(container_id="d" * 64) == b""


@pytest.mark.parametrize(
    "target",
    ["/etc/shadow", "../../../../../secret", "/var/lib/docker/containers/x/x-json.log", "1.log",
     f"/var/lib/docker/containers/{'c' * 64}/../{'c' * 64}/{'c' * 64}-json.log"],
)  # fmt: skip
def test_no_other_link_is_followed(logs: Path, read: Tail, tmp_path: Path, target: str) -> None:
    for place in (tmp_path / "secret", logs / "1.log"):
        place.write_bytes(line("secret"))
    (logs / "0.log").symlink_to(target)
    assert read() == b""


def test_no_linked_directory_is_entered(logs: Path, read: Tail) -> None:
    other = logs.with_name("other")
    logs.rename(other)
    (other / "0.log").write_bytes(line("another's"))
    logs.symlink_to(other)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        read()


def test_neither_a_fifo_nor_a_device_is_read(logs: Path, read: Tail) -> None:
    os.mkfifo(logs / "0.log")
    assert read() == b""


@pytest.mark.parametrize("changes", [{"pod": ""}, {"container": "../.."}, {"poduid": "../x"}])
def test_who_is_not_named_has_no_log(logs: Path, read: Tail, changes: dict[str, str]) -> None:
    with pytest.raises(OSError, match="not named"):
        read(**changes)
