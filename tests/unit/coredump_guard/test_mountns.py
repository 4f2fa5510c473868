"""Init's mount namespace: work is done there, and nobody else moves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from coredump_guard import mountns

WHERE = """
import os
from coredump_guard import mountns
print(os.readlink("/proc/self/ns/mnt"))
print(mountns.in_init(lambda: os.readlink("/proc/thread-self/ns/mnt")))
print(os.readlink("/proc/self/ns/mnt"))
"""


def whoami() -> str:
    return os.readlink("/proc/thread-self/ns/mnt")


def test_work_is_done_where_we_are_if_that_is_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountns, "_elsewhere", lambda: None)
    assert mountns.in_init(whoami) == whoami()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: setns(2)")
def test_work_is_done_in_inits_namespace_by_a_thread_alone() -> None:
    command = ["unshare", "--mount", sys.executable, "-c", WHERE]
    path = {"PYTHONPATH": os.path.dirname(os.path.dirname(mountns.__file__))}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=path)
    before, inside, after = done.stdout.split()
    assert before == after != inside
    assert inside == whoami()


def test_what_the_work_raises_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountns, "_elsewhere", lambda: os.open("/proc/self/ns/mnt", os.O_RDONLY))
    with pytest.raises(ZeroDivisionError):
        mountns.in_init(lambda: 1 // 0)


def test_only_the_kernels_own_thread_stands_for_init() -> None:
    assert not mountns._is_kernel_thread("/proc/self")
