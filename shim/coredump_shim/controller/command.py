"""The command `coredump-shim controller`: its options, and the works that it does.

Not here: the works themselves, and when they are done (loop).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import socket
import sys
import threading

from coredump_shim import options, supervisor
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster
from coredump_shim.config import ConfigError
from coredump_shim.controller import gateways, leftover, loop, ownership, rules
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.arrivals import Arrivals
from coredump_shim.controller.collect import collect, own
from coredump_shim.controller.collect import namespace as collect_namespace
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.endpoints import Endpoints
from coredump_shim.controller.endpointwatch import EndpointWatch
from coredump_shim.controller.events import Events
from coredump_shim.controller.inbox import Inbox
from coredump_shim.controller.lease import Lease, Times, identity
from coredump_shim.controller.loop import GoingOn, Silence, Work
from coredump_shim.controller.namespacewatch import NamespaceWatch
from coredump_shim.controller.newcomers import Newcomers
from coredump_shim.controller.pace import PAUSE, Pace
from coredump_shim.controller.roster import Roster
from coredump_shim.controller.rules import Rules
from coredump_shim.controller.sync import Sync
from coredump_shim.controller.trouble import said
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Keep endpoints, Events and the store in step with each other and with the cluster. Any number may run: "
    "the one that holds the lease acts."
)
POLL = 1.0
"""Seconds between two looks into the inbox or for endpoints that are not in step, and between two watches."""
TIDY = 60.0
"""Seconds between two looks at what is left over in the inbox."""
PROBE = 3.0
"""Seconds between two probes of the gateways."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_cluster(parser)
    options.add_store(parser)
    parser.add_argument(
        "--resync",
        type=_seconds,
        default=300,
        metavar="SECONDS",
        help="from one whole pass to the next (default: %(default)s)",
    )
    rules.add_options(parser)
    parser.add_argument(
        "--identity",
        type=_name,
        default=socket.gethostname(),
        metavar="NAME",
        help="what it calls itself in the lease, something random is added (default: %(default)s)",
    )
    parser.add_argument(
        "--lease-seconds",
        type=_seconds,
        default=15,
        metavar="SECONDS",
        help="how long a leader that fell silent is waited for (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="do one whole pass and end")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what one whole pass would do, change nothing, and end"
    )
    options.add_log_level(parser, ": what is changed")


def run(arguments: argparse.Namespace) -> int:
    """Run the controller; return the exit status. Raises ConfigError."""
    logging.getLogger("coredump_shim.cluster").setLevel(logging.ERROR)  # what fails is logged once, here
    controller = Controller(arguments)
    if arguments.once or arguments.dry_run:
        for number in supervisor.END:
            signal.signal(number, _ended)
        return controller.once()
    supervisor.run({"controller": controller.lead})
    return 0


class Controller:
    """Everything one controller has. Nothing is asked of store or cluster before it works."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._root = os.path.abspath(arguments.store)
        self._rules = _rules(arguments)
        self._resync = arguments.resync
        self._cluster = Cluster(arguments.kubeconfig)
        self._identity = identity(arguments.identity)
        self._times = Times(arguments.lease_seconds)
        self._owned = False
        self._owning = Pace()
        self._acting = Acting(dry_run=arguments.dry_run)
        self._collecting = threading.Lock()
        self._namespaces = NamespaceWatch(self._cluster)
        roster = Roster()
        self._watch = EndpointWatch(self._cluster, roster)
        endpoints = Endpoints(self._cluster, self._acting)
        self._sync = Sync(
            Catalog(self._root),
            endpoints,
            roster,
            Bygones(self._cluster),
            lambda: ownership.confirm(self._cluster, self._root),
        )
        self._newcomers = Newcomers(roster, self._sync, Pace())
        self._arrivals = Arrivals(
            self._root,
            Inbox(self._root),
            self._sync,
            Events(self._cluster, self._identity, self._acting),
            self._acting,
            Pace(pause=0 if arguments.once or arguments.dry_run else PAUSE),
            self._rules.namespace_quota,
        )

    def lead(self, lifeline: int) -> None:
        """Work for as long as it leads, which it waits for, and as `lifeline` has no end."""
        works = [
            Work("inbox", POLL, self._work_at_inbox),
            Work("watch", POLL, self._watch.follow),
            Work("endpoints", POLL, self._newcomers.round),
            Work("watch of namespaces", POLL, self._namespaces.follow),
            Work("namespaces that ended", POLL, self._collect_ended),
            Work("inbox's rest", TIDY, lambda _going_on: leftover.tidy(self._root)),
            Work("pass", self._resync, self._pass),
            Work("gateways", PROBE, lambda _going_on: gateways.mark(self._cluster)),
        ]
        loop.lead(self._lease(), Silence(self._root), works, lifeline)

    def once(self) -> int:
        """Do one pass, under the lease if it may change things; return 1 if anything failed, else 0."""
        if self._acting.dry_run:
            return loop.do_once(self._one_pass)
        lease = self._lease()
        refused = loop.await_lease(lease, Silence(self._root), 2 * self._times.duration)
        if refused:
            print(f"coredump-shim: no pass was made: {refused}", file=sys.stderr)
            return 1
        return loop.do_once(self._one_pass, lease)

    def _one_pass(self, going_on: GoingOn) -> int:
        try:
            failed = self._announcements(going_on) + self._sync.all(going_on)
            if going_on():
                self._collect(going_on)
        except (ApiError, OSError, Doubt) as error:
            print(f"coredump-shim: {said(error)}", file=sys.stderr)
            return 1
        if self._acting.dry_run and not (failed or self._acting.asked):
            print("there is nothing to do")
        return 1 if failed else 0

    def _lease(self) -> Lease:
        return Lease(self._cluster, self._identity, self._times)

    def _announcements(self, going_on: GoingOn) -> int:
        """Work at all announcements that are there; return how many pods failed."""
        total = 0
        while True:
            done, failed = self._arrivals.round(going_on)
            total += failed
            if not done or self._acting.dry_run:
                return total

    def _work_at_inbox(self, going_on: GoingOn) -> None:
        done, _ = self._arrivals.round(going_on)
        if done and not self._owned and self._owning.take(""):
            self._own()

    def _own(self) -> None:
        """Have the first crash of a pod that is there show whose store it is; a pass says if none does."""
        try:
            own(self._cluster, self._root)
            self._owned = True
        except Doubt:
            self._owning.failed("")

    def _pass(self, going_on: GoingOn) -> None:
        failed = self._sync.all(going_on)
        if failed:
            log.warning("the endpoints of %d pods could not be kept; the next pass tries again", failed)
        if going_on():
            self._collect(going_on)

    def _collect_ended(self, going_on: GoingOn) -> None:
        """Remove what namespaces left whose end was heard of; never beside a pass, which does the same."""
        for name in self._namespaces.ended():
            if not going_on() or not self._collecting.acquire(blocking=False):
                return
            try:
                follow = self._sync.pod
                collect_namespace(
                    self._cluster, self._root, self._rules, name, follow=follow, going_on=going_on
                )
            finally:
                self._collecting.release()
            self._namespaces.done(name)

    def _collect(self, going_on: GoingOn) -> None:
        try:
            with self._collecting:
                actions = collect(
                    self._cluster,
                    self._root,
                    self._rules,
                    dry_run=self._acting.dry_run,
                    follow=self._sync.pod,
                    going_on=going_on,
                )
        except Doubt as error:
            raise Doubt(f"nothing is collected: {error}") from None
        self._arrivals.low = {action.usage.namespace: action.usage for action in actions if action.usage}
        if self._acting.dry_run:
            for action in actions:
                self._acting.may(str(action))


def _rules(arguments: argparse.Namespace) -> Rules:
    try:
        return rules.parse(arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} must be whole seconds, from 1 to 86400")
    return int(text)


def _name(text: str) -> str:
    # With what is added it is an Event's reportingInstance, which has at most 128 characters.
    if not re.fullmatch(r"[!-~]{1,100}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be 1 to 100 characters without blanks, a host's name say"
        )
    return text


def _ended(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
