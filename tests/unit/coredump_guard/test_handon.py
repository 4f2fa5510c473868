"""Handing on a host's crash: expansion as the kernel's, real programs, files with the crasher's rights."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import handon, launcher
from coredump_guard.arrival import Arrival
from coredump_guard.handon import CannotHandOn, expand, hand_on, specifiers
from coredump_guard.pattern import UNLIMITED, Crash
from coredump_guard.process import Process
from coredump_guard.socketdoor import SocketArrival
from testbed.waiting import wait_for
from tests.support import fuse

from .conftest import wait_for_log

CORE = b"\x7fELF" + bytes(5000)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take another user's rights")


def handed(arrival: Arrival, held: Process, original: str, seconds: float = 30) -> str:
    return hand_on(arrival, held, original, time.monotonic() + seconds)


@contextmanager
def crashed(
    cwd: Path, *, uid: int | None = None, wrapper: tuple[str, ...] = (), core: bytes = CORE, **known: object
) -> Iterator[tuple[Arrival, Process]]:
    """Return a crash of a living process that stands for the dying one; its core is in a pipe."""
    command = [*wrapper, shutil.which("sleep") or "sleep", "60"]
    with subprocess.Popen(command, cwd=cwd, user=uid, group=uid, extra_groups=[] if uid else None) as process:
        try:
            comm = Path(f"/proc/{process.pid}/comm")
            wait_for("the program", lambda: comm.read_text() == "sleep\n")
            read_end, write_end = os.pipe()
            os.write(write_end, core)
            os.close(write_end)
            crash = Crash(process.pid, process.pid, 11, 1_700_000_000.0, hostname="host", comm="sleep")
            arrival = Arrival(Crash(**{**vars(crash), **known}), read_end)
            try:
                with Process("/proc", process.pid) as held:
                    yield arrival, held
            finally:
                arrival.close()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("core", "core"),
        ("core.%p", "core.300"),
        ("%e-%s", "app-11"),
        ("%%p", "%p"),
        ("%%%p%%", "%300%"),
        ("100%", "100"),
        ("a%xb", "ab"),
        ("%\n", ""),
        ("", ""),
    ],
)
def test_expansion(word: str, expected: str) -> None:
    assert expand(word, {"p": "300", "e": "app", "s": "11", "%": "%"}) == expected


def test_what_is_expanded_is_not_expanded_again() -> None:
    assert expand("%e", {"e": "%p", "p": "300"}) == "%p"


@given(st.text(), st.dictionaries(st.text(max_size=1), st.text()))
def test_any_word_is_expanded_without_exception(word: str, values: dict[str, str]) -> None:
    assert isinstance(expand(word, values), str)


def test_specifiers_mean_what_core_5_says(tmp_path: Path) -> None:
    with crashed(tmp_path, rlimit_core=4096, dumpable=2) as (arrival, held):
        values = specifiers(arrival, held)
        executable = os.path.realpath(shutil.which("sleep") or "sleep")
    pid = str(arrival.crash.pid)
    assert values == {
        "h": "host",
        "e": "sleep",
        "E": executable.replace("/", "!"),
        "f": "sleep",
        **dict.fromkeys("pPiI", pid),
        "u": str(os.getuid()),
        "g": str(os.getgid()),
        "d": "2",
        "s": "11",
        "t": "1700000000",
        "c": "4096",
        "C": "0",
        "F": "",
        "%": "%",
    }


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("..", "!."),
        (".", "!"),
        ("a/b", "a!b"),
        ("../../x", "..!..!x"),
        ("/", "!"),
        ("...", "..."),
        ("a b", "a b"),
    ],
)
def test_cve_2021_3710_no_name_forms_a_path(tmp_path: Path, name: str, part: str) -> None:
    with crashed(tmp_path, comm=name, hostname=name) as (arrival, held):
        values = specifiers(arrival, held)
    assert (values["e"], values["h"]) == (part, part)
    path = expand("/var/cores/%h/%e/core", values)
    assert os.path.normpath(path) == path


@pytest.mark.parametrize(("mode", "limit"), [("pipe", 5), ("socket", 8192)])
def test_rlimit_core_comes_with_the_pipe_or_from_proc(tmp_path: Path, mode: str, limit: int) -> None:
    with crashed(tmp_path, rlimit_core=5, mode=mode) as (arrival, held):
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.prlimit(held.pid, resource.RLIMIT_CORE, (8192, hard))
        assert handon.core_limit(arrival, held) == limit


def test_no_limit_is_the_kernels_largest(tmp_path: Path) -> None:
    with crashed(tmp_path, mode="socket") as (arrival, held):
        if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
            pytest.skip("RLIMIT_CORE is limited here")
        resource.prlimit(held.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        assert handon.core_limit(arrival, held) == UNLIMITED


REPORT = """
import json, os, sys
core = sys.stdin.buffer.read()
out = sys.argv[1]
with open(out + ".new", "w") as file:
    json.dump([sys.argv[2:], len(core), os.getcwd(), sorted(os.environ)], file)
os.rename(out + ".new", out)
"""


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(text)
    return f"|{sys.executable} -I -S {path}"


def test_a_previous_program_gets_the_core_and_its_own_arguments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with crashed(tmp_path, comm="a b") as (arrival, held):
        said = handed(arrival, held, program(tmp_path, REPORT) + f" {out} %P  %e %s -- %% %x")
        text = wait_for("the program's report", lambda: out.read_text() if out.exists() else "")
        pid = str(arrival.crash.pid)
    assert said == f"to {sys.executable}"
    arguments, size, cwd, environment = json.loads(text)
    assert arguments == [pid, "a b", "11", "--", "%", ""]
    assert (size, cwd) == (len(CORE), "/")
    assert [name for name in environment if name != "LC_CTYPE"] == []  # Python's own (PEP 538)


def test_cve_2025_12744_no_shell_reads_the_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with crashed(tmp_path, comm="$(touch x);`id`") as (arrival, held):
        handed(arrival, held, program(tmp_path, REPORT) + f" {out} %e")
        text = wait_for("the program's report", lambda: out.read_text() if out.exists() else "")
    assert '["$(touch x);`id`"]' in text
    assert not (tmp_path / "x").exists()


def test_a_program_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with crashed(tmp_path) as (arrival, held):
        handed(arrival, held, "|/bin/false")
        said = wait_for_log(capsys, "program failed")
    assert "program=/bin/false status=1" in said


@pytest.mark.parametrize(
    ("original", "reason"),
    [
        ("@/run/x", "is a socket"),
        ("@@/run/x", "is a socket"),
        ("|", "a pipe to nothing"),
        ("| ", "a pipe to nothing"),
        ("|/no/such/program %p", "/no/such/program could not be started: No such file"),
        ("|/etc/passwd", "/etc/passwd could not be started"),
    ],
)
def test_what_cannot_be_handed_on_says_why(tmp_path: Path, original: str, reason: str) -> None:
    with crashed(tmp_path) as (arrival, held), pytest.raises(CannotHandOn, match=reason):
        handed(arrival, held, original)


@pytest.fixture
def no_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let core_uses_pid be 0, whatever it is on this machine."""
    monkeypatch.setattr(handon, "_uses_pid", lambda: False)


def test_a_previous_file_lies_in_the_working_directory(tmp_path: Path, no_pid: None) -> None:
    with crashed(tmp_path) as (arrival, held):
        assert handed(arrival, held, "core.%s") == "to the file 'core.11'"
    assert (tmp_path / "core.11").read_bytes() == CORE
    assert (tmp_path / "core.11").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("original", "name"), [("core", "core.PID"), ("core.%p", "core.PID"), ("", "core.PID")]
)
def test_core_uses_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: str, name: str) -> None:
    monkeypatch.setattr(handon, "_uses_pid", lambda: True)
    with crashed(tmp_path) as (arrival, held):
        handed(arrival, held, original)
        assert os.listdir(tmp_path) == [name.replace("PID", str(arrival.crash.pid))]


def test_a_core_before_is_replaced(tmp_path: Path, no_pid: None) -> None:
    (tmp_path / "core").write_bytes(b"x" * 100_000)
    with crashed(tmp_path) as (arrival, held):
        handed(arrival, held, "core")
    assert (tmp_path / "core").read_bytes() == CORE


def test_an_absolute_file(tmp_path: Path, no_pid: None) -> None:
    with crashed(Path("/")) as (arrival, held):
        handed(arrival, held, f"{tmp_path}/core.%e")
    assert (tmp_path / "core.sleep").read_bytes() == CORE


@pytest.mark.parametrize(("limit", "size"), [(4096, 4096), (UNLIMITED, len(CORE))])
def test_rlimit_core_bounds_a_file(tmp_path: Path, no_pid: None, limit: int, size: int) -> None:
    with crashed(tmp_path, rlimit_core=limit) as (arrival, held):
        handed(arrival, held, "core")
    assert (tmp_path / "core").read_bytes() == CORE[:size]


@pytest.mark.parametrize("limit", [0, 1, 4095])
def test_rlimit_core_forbids_a_file(tmp_path: Path, no_pid: None, limit: int) -> None:
    with crashed(tmp_path, rlimit_core=limit) as (arrival, held):
        assert "RLIMIT_CORE forbids" in handed(arrival, held, "core")
    assert os.listdir(tmp_path) == []


def test_cve_2013_1067_a_set_uid_process_gets_no_core_in_its_directory(tmp_path: Path, no_pid: None) -> None:
    with crashed(tmp_path, dumpable=2) as (arrival, held):
        assert "names no absolute path" in handed(arrival, held, "core")
    assert os.listdir(tmp_path) == []


@needs_root
def test_cve_2017_14177_the_core_of_a_set_uid_process_is_roots(tmp_path: Path, no_pid: None) -> None:
    tmp_path.chmod(0o777)
    with crashed(Path("/"), uid=4242, dumpable=2) as (arrival, held):
        handed(arrival, held, f"{tmp_path}/core")
    status = (tmp_path / "core").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)


@needs_root
def test_cve_2015_1324_a_users_file_does_not_receive_roots_core(tmp_path: Path, no_pid: None) -> None:
    (tmp_path / "core").write_text("mine")
    os.chown(tmp_path / "core", 4242, 4242)
    with (
        crashed(Path("/"), dumpable=2) as (arrival, held),
        pytest.raises(CannotHandOn, match=r"of the process's own|not be made"),
    ):
        handed(arrival, held, f"{tmp_path}/core")
    assert (tmp_path / "core").read_text() == "mine"


@pytest.fixture
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a directory of user 4242 that the user can reach: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o711)  # noqa: S103 # so that the user reaches what is below
        path = Path(directory, "home")
        path.mkdir()
        os.chown(path, 4242, 4242)
        yield path


@needs_root
def test_a_users_core_is_the_users(users: Path, no_pid: None) -> None:
    with crashed(users, uid=4242) as (arrival, held):
        handed(arrival, held, "core")
    status = (users / "core").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (4242, 4242, 0o600)
    assert (os.stat("/proc/self").st_uid, os.geteuid()) == (0, 0)


def link_to_root(users: Path, secret: Path) -> None:
    (users / "core").symlink_to(secret)


def hard_link(users: Path, secret: Path) -> None:
    os.link(secret, users / "core")


def fifo(users: Path, _: Path) -> None:
    os.mkfifo(users / "core")
    os.chown(users / "core", 4242, 4242)


def roots_file(users: Path, _: Path) -> None:
    (users / "core").write_text("root's")


def directory_link(users: Path, secret: Path) -> None:
    (users / "core").mkdir()


@needs_root
@pytest.mark.parametrize("plant", [link_to_root, hard_link, fifo, roots_file, directory_link])
def test_cve_2019_7307_what_lies_in_a_users_directory_is_not_followed(
    users: Path, no_pid: None, plant: Callable[[Path, Path], None]
) -> None:
    secret = users.parent / "secret"
    secret.write_text("root's secret")
    plant(users, secret)
    with crashed(users, uid=4242) as (arrival, held), pytest.raises(CannotHandOn, match="could not be made"):
        handed(arrival, held, "core")
    assert secret.read_text() == "root's secret"
    assert secret.stat().st_uid == 0


@needs_root
def test_a_link_among_the_directories_is_followed_with_the_users_rights_only(
    users: Path, no_pid: None
) -> None:
    roots = users.parent / "roots"
    roots.mkdir(0o755)
    (users / "cores").symlink_to(roots)
    with crashed(users, uid=4242) as (arrival, held), pytest.raises(CannotHandOn, match="Permission denied"):
        handed(arrival, held, "cores/core")
    assert os.listdir(roots) == []


@needs_root
def test_a_process_in_a_root_of_its_own_gets_no_file_in_ours(tmp_path: Path, no_pid: None) -> None:
    (tmp_path / "root").mkdir()
    # A container: pivot_root(2) leaves "/" in its link.
    pivot = (
        f"mount -t tmpfs none {tmp_path}/root && cd {tmp_path}/root && mkdir usr bin lib lib64 old && "
        'for d in usr bin lib lib64; do mount --rbind /$d $d; done; pivot_root . old && exec "$@"'
    )
    with crashed(Path("/"), wrapper=("unshare", "-m", "sh", "-c", pivot, "sh")) as (arrival, held):
        assert held.link("root") == "/"
        with pytest.raises(CannotHandOn, match="a root directory of its own"):
            handed(arrival, held, f"{tmp_path}/core")
    assert not (tmp_path / "core").exists()


def test_a_process_that_has_gone_meanwhile_is_not_lost(tmp_path: Path, no_pid: None) -> None:
    with crashed(tmp_path) as (arrival, held):
        os.kill(held.pid, 9)
        os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)
        for original in ("core", f"{tmp_path}/core"):
            with pytest.raises(CannotHandOn, match="could not be made"):
                handed(arrival, held, original)
        assert os.read(arrival.core, 4) == b"\x7fELF"


def test_a_writer_that_stands_still_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    with crashed(tmp_path) as (arrival, held):
        os.close(arrival.core)
        arrival.core, writer = os.pipe()
        try:
            os.write(writer, b"some of it")
            assert "cut short: the deadline passed" in handed(arrival, held, "core", 0.2)
        finally:
            os.close(writer)


def test_the_previous_program_has_the_kernels_limit_of_descriptors(tmp_path: Path) -> None:
    """The guard may hold many more; a program that closes all it might have open would take for ever."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncd {tmp_path}\ncat /proc/self/limits > new\nmv new limits\n")
    program.chmod(0o755)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        with crashed(tmp_path) as (arrival, held):
            handed(arrival, held, f"|{program}")
        wait_for("the program has run", (tmp_path / "limits").exists)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    line = next(
        li for li in (tmp_path / "limits").read_text().splitlines() if li.startswith("Max open files")
    )
    assert line.split()[3:5] == [str(min(limit, before[1])) for limit in launcher.DESCRIPTORS]


@needs_root
def test_a_dead_file_server_keeps_a_bounded_number_of_threads(
    tmp_path: Path, no_pid: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(handon, "_CREATORS", slots)
    monkeypatch.setattr(handon, "CREATE_SECONDS", 0.1)
    before, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with fuse.mounted(tmp_path, b"") as server, crashed(tmp_path) as (arrival, held):
        server.silent.set()
        for _ in range(3):
            with pytest.raises(CannotHandOn, match="its directory does not answer"):
                handed(arrival, held, "core")
        assert threading.active_count() == before + 2  # the server's, and the one that was given up
        assert os.read(arrival.core, 4) == b"\x7fELF"
        server.speak()
        assert slots.acquire(timeout=30)
    wait_for("its descriptors are closed", lambda: len(os.listdir("/proc/self/fd")) == fds)


def test_what_opens_the_dead_ones_directories_may_be_given_up(
    tmp_path: Path, no_pid: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open of cwd or root that hangs, as NFS lets it, holds nobody; what it yields late is closed."""
    answers, real = threading.Event(), os.open

    def slow(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path in ("cwd", "root"):
            answers.wait(30)
        return real(path, flags, mode, dir_fd=dir_fd)

    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(handon, "CREATE_SECONDS", 0.1)
    fds = len(os.listdir("/proc/self/fd"))
    with crashed(tmp_path) as (arrival, held):
        for original in ("core", f"{tmp_path}/core"):
            answers.clear()
            with monkeypatch.context() as patched:
                patched.setattr(handon, "_CREATORS", slots)
                patched.setattr(os, "open", slow)
                with pytest.raises(CannotHandOn, match="its directory does not answer"):
                    handed(arrival, held, original)
                answers.set()
                assert slots.acquire(timeout=30)
                slots.release()
    assert len(os.listdir("/proc/self/fd")) == fds


def test_previous_programs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(handon, "_PROGRAMS", slots)
    still = "|/bin/cat"  # until its input ends
    with crashed(tmp_path) as (arrival, held):
        os.close(arrival.core)
        arrival.core, writer = os.pipe()
        try:
            assert handed(arrival, held, still) == "to /bin/cat"
            with pytest.raises(CannotHandOn, match="too many started before still run"):
                handed(arrival, held, still, 0.1)
        finally:
            os.close(writer)
        assert slots.acquire(timeout=30)
        slots.release()
        assert handed(arrival, held, still) == "to /bin/cat"
        assert slots.acquire(timeout=30)


@pytest.mark.parametrize("original", ["|/bin/cat", "core"])
def test_a_guard_at_its_limit_of_threads_still_has_the_core(
    tmp_path: Path, no_pid: None, monkeypatch: pytest.MonkeyPatch, original: str
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with crashed(tmp_path) as (arrival, held):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            for _ in range(100):  # more than there are slots
                with pytest.raises(CannotHandOn, match="can't start new thread"):
                    handed(arrival, held, original)
        assert os.read(arrival.core, 4) == b"\x7fELF"


def test_a_process_that_died_before_its_core_is_kept_not_missed(tmp_path: Path) -> None:
    ours, kernels = socket.socketpair()
    kernels.close()
    with (
        crashed(tmp_path) as (arrival, held),
        closing(SocketArrival(arrival.crash, ours.detach())) as died,
        pytest.raises(CannotHandOn, match="/bin/cat could not be started"),
    ):
        handed(died, held, "|/bin/cat")
