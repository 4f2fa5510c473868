"""Python 3.9, the oldest a node may have, with nothing installed: guard and doorman work under it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_guard import arming, elfcore, store
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, core_of, node_guard, record

CHECKOUT = Path(__file__).parents[2]
PATTERN = SETTINGS[0]
HANDLER = CHECKOUT / "handler"
MODULES = sorted(path.stem for path in (HANDLER / "coredump_guard").glob("*.py") if path.stem != "__main__")


@pytest.fixture(scope="module")
def oldest() -> Path:
    """Return a CPython 3.9, fetched unless it is in the cache."""
    command = [CHECKOUT / "tools/oldest-python"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"no CPython 3.9: {done.stderr.strip()}")
    return Path(done.stdout.strip())


@contextmanager
def oldest_guard(directory: Path, mode: str, oldest: Path) -> Iterator[NodeGuard]:
    """Yield an armed guard that runs under the oldest Python, as does the doorman that the kernel starts."""
    with node_guard(directory, mode) as node:
        python = node.runtime / "python"  # short: core_pattern holds 127 characters
        python.symlink_to(oldest)
        node.command = [str(python), "-m", "coredump_guard"]
        node.environment = {"PYTHONPATH": str(HANDLER), "PYTHONDONTWRITEBYTECODE": "1"}
        node.configure(interpreter=python)
        node.start()
        PATTERN.write_text(arming.KERNEL_DEFAULT)
        node.run("arm")
        assert node.process is not None
        assert Path(f"/proc/{node.process.pid}/exe").readlink().name == "python3.9"
        yield node


def test_every_module_compiles_and_imports(oldest: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(HANDLER), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    imports = "import " + ", ".join(f"coredump_guard.{name}" for name in MODULES)
    for arguments in (["-m", "compileall", "-q", HANDLER], ["-c", imports]):
        done = subprocess.run(
            [oldest, "-W", "error", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.root
@pytest.mark.parametrize("mode", ["pipe", "socket"])
def test_a_crash_is_captured_compressed_and_delivered(
    mode: str, oldest: Path, crash_program: Path, tmp_path: Path
) -> None:
    if mode == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with oldest_guard(tmp_path, mode, oldest) as node, pod_cgroup() as prefix:
        crash([crash_program, "--memory", "heap:8"], prefix)
        dump = node.wait_for_dump()
        found = record(dump)
        assert (found.capture.mode, found.signal.name, found.core.truncated) == (mode, "SIGSEGV", None)
        assert not (dump / store.RAW_CORE).exists()
        assert found.core.stored_bytes < found.core.bytes
        assert elfcore.parse(core_of(dump)).expected_bytes == found.core.bytes > 8 << 20


@pytest.mark.root
def test_without_a_guard_the_doorman_captures_alone(
    oldest: Path, crash_program: Path, tmp_path: Path
) -> None:
    with oldest_guard(tmp_path, "pipe", oldest) as node, pod_cgroup() as prefix:
        node.stop()
        assert arming.current().core_pattern.startswith(f"|{node.runtime}/python -I -S ")
        crash([crash_program], prefix)
        waiting = wait_for("it is in the spool", lambda: sorted((node.spool / "ready").iterdir()))
        assert record(waiting[0]).capture.mode == "alone"
        node.start()
        dump = node.wait_for_dump()
        assert (dump.name, record(dump).core.truncated) == (waiting[0].name, None)
        core_of(dump)


@pytest.mark.root
def test_a_hosts_crash_is_handed_on(oldest: Path, crash_program: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with oldest_guard(tmp_path, "pipe", oldest) as node:
        crash([crash_program], ["prlimit", "--core=unlimited"], cwd=there)
        core = wait_for("the core that the kernel would have written", lambda: list(there.iterdir()))[0]
        assert core.read_bytes()[:4] == b"\x7fELF"
        assert not node.delivered()
