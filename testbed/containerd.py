"""A containerd of our own, beside whatever the machine runs: started, stopped, and removed without a trace.

Everything it makes lies below two directories named by `PREFIX`, or is noted there before it is made, so
that the next run can also clean up after one that was killed. Not here: pods and containers (pods).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed import images, pods, programs
from testbed.ending import end
from testbed.waiting import wait_for

PREFIX = "coredump-guard-pods-"
STATES = Path("/run")
ROOTS = Path("/var/lib")
SHIM_SOCKETS = Path("/run/containerd/s")
"""Built into containerd: where shims listen, whatever its state directory is."""

CONFIG = """\
version = 2
root = "{root}/containerd"
state = "{state}/containerd"
# What pods don't need, some of it writing outside our directories.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart", "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[debug]
  level = "warn"
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE nobody may lower it
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{root}/cni"
    conf_dir = "{root}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{state}/runc"
"""


@contextmanager
def containerd(within: Sequence[str] = ()) -> Iterator[Containerd]:
    """Run a containerd of our own; afterwards no process, mount, control group or file of it is left.

    `within` is a command that executes the one that follows it, nsenter with its options say.
    Raises RuntimeError with the end of its log if it does not come up.
    """
    sweep()
    state = Path(tempfile.mkdtemp(prefix=PREFIX, dir=STATES))
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runtime = Containerd(state, within)
        try:
            runtime.start()
            yield runtime
        finally:
            runtime.close()
            _remove(state)


def sweep() -> None:
    """Remove what runs left behind that were killed before they could do so."""
    for state in STATES.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (state / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(state)


class Containerd:
    """The daemon with its directories; `containerd()` makes one."""

    def __init__(self, state: Path, within: Sequence[str] = ()) -> None:
        self.state = state
        self._within = within
        self.socket = state / "containerd.sock"
        self.log = state / "containerd.log"
        self._root = ROOTS / state.name
        self._client = pods.Client(self.socket)
        self._pods: list[pods.Pod] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it can run pods."""
        pause = programs.program("pause")
        self._root.mkdir(mode=0o700, exist_ok=True)
        (self.state / "pods").mkdir(exist_ok=True)
        config = self.state / "config.toml"
        config.write_text(CONFIG.format(root=self._root, state=self.state, pause=images.image_name(pause)))
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for us, and it must live long enough to end its pods.
            self._process = subprocess.Popen(
                [*self._within, "containerd", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        wait_for("containerd is ready", self._ready)
        self.add_image(pause)

    def stop(self) -> None:
        """End the daemon; its pods run on, as they do on a node."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                end(self._process, 15)
            self._process = None

    def close(self) -> None:
        """End the pods in good order where the daemon still can, and then the daemon."""
        for pod in self._pods if self._process is not None else ():
            with contextlib.suppress(pods.CallError):  # it may have been stopped already; _remove is thorough
                pod.stop()
        self._client.close()
        self.stop()

    def add_image(self, executable: Path) -> str:
        """Import the image of a static program, unless it is there; returns the image's name."""
        name = images.image_name(executable)
        if not self._client.has_image(name):
            command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", "images", "import", "-"]
            archive = images.image_tar(executable)
            done = subprocess.run(command, check=False, input=archive, capture_output=True, timeout=60)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
            wait_for(f"containerd knows {name}", lambda: self._client.has_image(name))
        return name

    def set_network(self, configuration: dict[str, object]) -> None:
        """Have a network configuration, without which the node of a kubelet is not ready."""
        directory = self._root / "cni"
        directory.mkdir(exist_ok=True)
        (directory / "10-network.conflist").write_text(json.dumps(configuration))

    def run_pod(self, namespace: str, pod: str) -> pods.Pod:
        """Start a pod without containers."""
        name = pods.PodName(namespace, pod)
        (self.state / "pods" / name.uid).write_text(json.dumps(dataclasses.asdict(name)))
        running = pods.Pod(self._client, name)
        self._pods.append(running)
        return running

    def bundle(self, identifier: str) -> Path:
        """Return the OCI bundle of a container or sandbox, which is there while it runs."""
        return self.state / "containerd/io.containerd.runtime.v2.task/k8s.io" / identifier

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
            raise RuntimeError(f"containerd ended with status {self._process.returncode}:\n{tail}")
        return self._client.ready()


def _remove(state: Path) -> None:
    """Remove everything of a containerd with this state directory, whatever state it is in."""
    sockets = _shim_sockets(state)
    wait_for(f"processes of {state} end", lambda: not _kill(_processes(state)))
    for note in (state / "pods").glob("*"):
        pods.remove_traces(pods.PodName(**json.loads(note.read_text())))
    root = ROOTS / state.name
    _unmount(state)
    _unmount(root)
    for socket in sockets:
        socket.unlink(missing_ok=True)
    for directory in (SHIM_SOCKETS, SHIM_SOCKETS.parent):
        with contextlib.suppress(OSError):  # used by others, or not there
            directory.rmdir()
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(state)


def _processes(state: Path) -> list[int]:
    """Return containerd and its shims: the processes with our state directory among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if any(os.fsdecode(argument).startswith(f"{state}/") for argument in arguments[1:]):
                found.append(int(process.name))
    return found


def _kill(processes: list[int]) -> list[int]:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return processes


def _shim_sockets(state: Path) -> list[Path]:
    """Return the sockets of shims still known here; each bundle notes its shim's address."""
    found = []
    for note in state.glob("containerd/io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(note.read_text().strip().removeprefix("unix://"))
        if socket.parent == SHIM_SOCKETS:
            found.append(socket)
    return found


def _unmount(directory: Path) -> None:
    """Unmount everything below a directory, last mounted first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", mount], check=True, timeout=30)
