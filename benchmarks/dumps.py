"""A store with a gigabyte of cores, and the same cores uncompressed for the baseline.

The cores are real: processes that crash into files, which are then stored with the guard's own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from testbed.kernel import core_settings
from tests.support.dumps import write_dump

CORES = 4
MIB = 240
"""Of memory in each crashed process; its core is a little larger."""
NAMESPACE = "bench"
POD = "web"
FIRST = "c0"
"""One of the containers."""

PATTERN = Path("/proc/sys/kernel/core_pattern")


@dataclass(frozen=True)
class Dumps:
    """The same cores twice: in a store, and as plain files, one directory for each container."""

    store: Path
    raw: Path
    raw_bytes: int

    url = f"/apis/coredump.fujitsu.com/v1alpha1/namespaces/{NAMESPACE}/coredumpendpoints/{POD}/dump"
    """Where the shim serves all of them; where the baseline does it is /dump."""


def make(root: Path) -> Dumps:
    """Crash processes and store their cores below root, one for each of CORES containers."""
    dumps = Dumps(root / "store", root / "raw", CORES * MIB * load.MIB)
    for number in range(CORES):
        directory = dumps.raw / f"c{number}"
        directory.mkdir(parents=True)
        _crash_into(directory / "core")
        core = (directory / "core").read_bytes()
        write_dump(dumps.store, namespace=NAMESPACE, pod=POD, container=f"c{number}", core=core)
    return dumps


def _crash_into(path: Path) -> None:
    with core_settings(), load.crasher("heap", MIB) as crasher:
        PATTERN.write_text(str(path))
        crasher.prepare()
        crasher.go()
    assert path.stat().st_size >= MIB * load.MIB
