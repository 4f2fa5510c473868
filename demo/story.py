"""What the demo shows: the crash, the endpoint, the download, the backtrace."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from demo.place import CHECKOUT, WORK, Place
from demo.service import wait_for_service
from demo.stage import WHAT_IT_SAYS, Stage, answers
from demo.steps import run, show, step
from testbed.containerd import Containerd
from testbed.programs import compiled

NAMESPACE, POD, CONTAINER = "demo", "web", "app"
ENDPOINT = f"/apis/coredump.fujitsu.com/v1alpha1/namespaces/{NAMESPACE}/coredumpendpoints/{POD}"
CALLS = ["expiry_after", "find_expiry", "handle_request", "serve", "main"]
"""The functions of web.c that were running, innermost first."""


def crash(runtime: Containerd) -> Path:
    """Let the program crash in a pod; returns its executable."""
    with step("compile the program", "see what the compiler says"):
        program = compiled(CHECKOUT / "demo" / "web.c")
    with step("start a pod", WHAT_IT_SAYS, runtime.log) as details:
        pod = runtime.run_pod(NAMESPACE, POD)
        container = pod.start(CONTAINER, runtime.add_image(program))
        details.append(f"namespace {NAMESPACE}, pod {POD}, container {CONTAINER}, process {container.pid}")
    with step("its program crashes", WHAT_IT_SAYS, runtime.log) as details:
        code = container.wait()
        if code != 128 + signal.SIGSEGV:
            raise RuntimeError(f"exit status {code} is not that of a crash by SIGSEGV")
        details.append(f"exit status {code}")
    return program


def look(stage: Stage) -> None:
    """Show the pod's endpoint with kubectl."""
    place = stage.place
    with step("wait for the endpoint", WHAT_IT_SAYS, place.guard_log):
        address = place.server + ENDPOINT
        wait_for_service(stage.guard, f"{address} answers", lambda: answers(address))
    arguments = ["get", "coredumpendpoints", "-n", NAMESPACE]
    with step(f"kubectl {' '.join(arguments)}", WHAT_IT_SAYS, place.shim_log):
        table = run(place.kubectl(*arguments))
        if not re.search(rf"^{POD}\b", table, re.MULTILINE):
            raise RuntimeError(f"no line for {POD} in:\n{table}")
    show(table)


def fetch(place: Place) -> None:
    """Fetch the pod's dump with kubectl."""
    path = f"{ENDPOINT}/dump?container={CONTAINER}"
    shown = place.archive.relative_to(CHECKOUT)
    with step(f"kubectl get --raw '{path}' > {shown}", WHAT_IT_SAYS, place.shim_log) as details:
        with place.archive.open("wb") as output:
            run(place.kubectl("get", "--raw", path), output=output)
        details.append(f"{place.archive.stat().st_size / 1e6:.1f} MB")


def unpack(place: Place) -> Path:
    """Unpack the dump and check it; returns the core."""
    place.unpacked.mkdir()
    with step(f"tar -zxvf {place.archive.name}", f"look at {place.archive}") as details:
        names = run(["tar", "-zxvf", str(place.archive), "-C", str(place.unpacked)])
        cores = list(place.unpacked.glob(f"{CONTAINER}/*/core"))
        if len(cores) != 1:
            raise RuntimeError(f"{len(cores)} cores instead of one in:\n{names}")
        details.append(
            f"{len(names.splitlines())} files, the core has {cores[0].stat().st_size / 1e6:.1f} MB"
        )
    show(names)
    with step("sha256sum -c SHA256SUMS", f"look at {place.unpacked}") as details:
        checked = run(["sha256sum", "-c", "SHA256SUMS"], directory=place.unpacked).splitlines()
        if not any(line.endswith("/core: OK") for line in checked):
            raise RuntimeError("\n".join(["SHA256SUMS does not speak of the core:", *checked]))
        details.append(f"{len(checked)} files are what they were")
    return cores[0]


def backtrace(program: Path, core: Path) -> None:
    """Show the calls that led to the crash."""
    options = ["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "backtrace"]
    command = f"gdb -batch -ex backtrace {program.name} {core.relative_to(WORK)}"
    with step(command, f"open it by hand: gdb {program} {core}"):
        printed = run(["gdb", *options, str(program), str(core)])
        stack = "#0" + printed.rpartition("\n#0")[2]  # opening a core prints frame 0 once more
        frames = re.findall(r"^#.*", stack, re.MULTILINE)
        called = [name for frame in frames for name in re.findall(r"(\w+) \(", frame)[:1]]
        if called != CALLS:
            raise RuntimeError(f"the calls are {called} instead of {CALLS}")
    show("\n".join(frames))
