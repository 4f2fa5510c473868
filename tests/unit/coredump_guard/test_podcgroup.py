"""A cgroup shaped like a pod's, on every layout of hierarchies."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from coredump_guard import container, podcgroup

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
SYSTEMD = "39 31 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd"
MEMORY = "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
CPU = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "1 0 8:1 / / rw,relatime - ext4 /dev/root rw"


@pytest.mark.parametrize(
    ("mounts", "root"),
    [
        ([OTHER, V2], "/sys/fs/cgroup"),
        ([CPU, MEMORY, SYSTEMD, UNIFIED], "/sys/fs/cgroup/unified"),
        ([CPU, MEMORY, SYSTEMD], "/sys/fs/cgroup/systemd"),
        ([CPU, MEMORY], "/sys/fs/cgroup/memory"),
    ],
)
def test_hierarchy(mounts: list[str], root: str) -> None:
    assert podcgroup.hierarchy("\n".join(mounts)) == root


def test_a_machine_without_is_told() -> None:
    with pytest.raises(OSError, match="no hierarchy of cgroups"):
        podcgroup.hierarchy("\n".join([OTHER, CPU]))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: cgroups")
def test_a_process_in_it_is_taken_for_a_pods_and_it_goes() -> None:
    poduid, container_id = str(uuid.uuid4()), "ab" * 32
    with podcgroup.made(poduid, container_id) as procs, podcgroup.made(str(uuid.uuid4()), container_id):
        enter = 'echo $$ >"$1"; exec cat /proc/self/cgroup'
        command = ["sh", "-c", enter, "sh", procs]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        found = container.parse(shown)
        assert found is not None
        assert (found.poduid, found.container_id, found.nested) == (poduid, container_id, False)
    assert not Path(procs).parent.parent.exists()
