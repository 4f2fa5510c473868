"""The guard: doors, workers and delivery put together, from start to a clean end.

Not here: what each of them does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import resource
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

from coredump_guard import arming, config, engine, executables, log, pipedoor, socketdoor, status
from coredump_guard.accountant import Accountant
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.deliverer import Deliverer
from coredump_guard.engine import Outcome
from coredump_guard.keeper import Keeper
from coredump_guard.policy import SETTLE_SECONDS, Policy
from coredump_guard.salvage import salvage
from coredump_guard.spool import Spool


@dataclass
class Counts:
    """What became of the crashes since the guard started."""

    captured: int = 0
    handed_on: int = 0
    missed: int = 0
    last: str = ""
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, outcome: Outcome) -> None:
        """Count one crash."""
        name = outcome.kind.replace(" ", "_")
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)
            if outcome.record:
                self.last = outcome.record.id


def _descriptors() -> int:
    """Allow this process as many descriptors as it may have, and return how many.

    A waiting crash holds two. What a quarter of them cannot hold waits in the sockets' backlogs, so that
    workers always find some.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _claim(path: str) -> int:
    """Lock a file that says who holds it; raises BlockingIOError if that is another guard."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        reason = f"another guard holds this lock, process {holder}: stop it, or give this one its own runtime"
        raise BlockingIOError(error.errno, reason, path) from None
    os.truncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


class Guard:
    """One guard; `run` returns when it was told to end and everything accepted is in the spool."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.counts = Counts()
        self.started = time.time()
        self.policy = Policy(config)
        self.deliverer = Deliverer(config)
        self.accountant = Accountant(config, self.in_hand)
        self.keeper = Keeper(config)
        self.waiting: queue.Queue[Arrival | None] = queue.Queue(_descriptors() // 4)
        self.handling: set[int] = set()
        self._listening: list[socket.socket] = []
        self._lock = -1

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        end = threading.Event()

        def ask_to_end(_signal: int, _frame: FrameType | None) -> None:
            end.set()

        signal.signal(signal.SIGTERM, ask_to_end)
        signal.signal(signal.SIGINT, ask_to_end)
        self._prepare()
        account = self._thread(self.accountant.run)
        doors = self._open_doors()
        workers = [self._thread(self._work) for _ in range(self.config.workers)]
        delivery = self._thread(self.deliverer.run)
        executables.start(self.config, self.deliverer.wake)
        self._thread(self._settle, end)
        self._rearm()
        self.keeper.start()
        log.info("ready", node=self.config.node, spool=self.config.spool, store=self.config.store)
        end.wait()
        self.keeper.stop()
        self._close_doors(doors)
        for _ in workers:
            self.waiting.put(None)
        for worker in workers:
            worker.join()
        self.policy.settle()
        self.accountant.stop()
        account.join(timeout=5)
        self.deliverer.stop()
        delivery.join(timeout=5)  # a store that hangs must not keep us; what is not delivered waits
        log.info("ended", captured=self.counts.captured, handed_on=self.counts.handed_on)

    def _prepare(self) -> None:
        for directory in (self.config.runtime, self.config.state):
            os.makedirs(directory, 0o755, exist_ok=True)
        self._lock = _claim(f"{self.config.runtime}/guard.lock")  # until the process ends
        config.keep(self.config)
        self._look_at_spool()
        threading.Thread(target=self._look_for_store, daemon=True).start()  # a dead one may hold it up

    def _look_at_spool(self) -> None:
        """Take the spool over from the guard before; one that takes nothing now may do so again later."""
        spool = Spool(self.config.spool)
        try:
            spool.prepare()
            self._thread(self._salvage, spool, spool.abandoned())
        except OSError as error:
            log.error("the spool takes nothing: crashes will be missed", spool=spool.root, error=error)

    def _look_for_store(self) -> None:
        if not os.path.isdir(self.config.store):
            log.warning(
                "the store is not there: is it mounted? Dumps wait in the spool", store=self.config.store
            )

    def _open_doors(self) -> list[threading.Thread]:
        guard = pipedoor.listen(self.config.guard_socket, socket.SOCK_SEQPACKET)
        self._listening = [guard]
        doors = [self._thread(pipedoor.serve, guard, self.waiting.put, lambda: status.report(self))]
        if arming.door(self.config) == "socket":
            kernel = pipedoor.listen(self.config.kernel_socket, socket.SOCK_STREAM)
            self._listening.append(kernel)
            doors.append(self._thread(socketdoor.serve, kernel, self.waiting.put))
        return doors

    def _rearm(self) -> None:
        """Point a kernel that is armed at the door that is configured: a guard that ended left the pipe."""
        try:
            if arming.door_in_force(self.config) not in (None, arming.door(self.config)):
                arming.arm(self.config)
        except (arming.ArmingError, OSError) as error:
            log.warning("the kernel stays at another door than the one configured", error=error)

    def _close_doors(self, doors: list[threading.Thread]) -> None:
        """Stop listening; crashes from now on find the doorman, who can do it alone."""
        with contextlib.suppress(arming.ArmingError, OSError):
            if arming.door_in_force(self.config) == "socket":
                arming.arm(self.config, "pipe")
        for listening in self._listening:
            listening.shutdown(socket.SHUT_RDWR)
        for door in doors:
            door.join()
        for listening in self._listening:
            listening.close()

    def _work(self) -> None:
        while (arrival := self.waiting.get()) is not None:
            self.handling.add(pid := arrival.crash.pid)
            try:
                with contextlib.closing(arrival):
                    self._handle(arrival)
            except Exception as error:  # a machine out of descriptors or memory: the next crash counts again
                log.error("a crash's end was not written down", pid=pid, reason=repr(error))
            self.handling.discard(pid)

    def in_hand(self) -> set[int]:
        """Return the PIDs of the crashes that wait here or are being dealt with."""
        with self.waiting.mutex:
            waiting = {arrival.crash.pid for arrival in self.waiting.queue if arrival}
        return waiting | set(self.handling)

    def _handle(self, arrival: Arrival) -> None:
        outcome = engine.conclude(arrival, self.config, self.policy)
        self.counts.add(outcome)
        if outcome.record:
            self.deliverer.wake()

    def _settle(self, end: threading.Event) -> None:
        while not end.wait(SETTLE_SECONDS):
            try:
                self.policy.settle()
            except Exception as error:  # loops are worth less than the thread that counts them
                log.error("crash loops are not counted", reason=repr(error))

    def _salvage(self, spool: Spool, dump_ids: list[str]) -> None:
        """Bring to delivery what captures have left that were cut off; a large core takes its time."""
        for dump_id in dump_ids:
            try:
                salvage(spool, dump_id)
            except Exception as error:  # of this one: the others are still to be looked at
                log.warning("a capture that was cut off waits", dump=dump_id, error=error)
        self.deliverer.wake()

    @staticmethod
    def _thread(target: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread
