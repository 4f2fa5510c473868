"""Watches of endpoints through the shim: begun at once, told as they happen, ended with either side."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coredump_shim import names, rewrite
from coredump_shim.cluster import Cluster
from coredump_shim.config import WATCHES
from coredump_shim.shares import share
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.product import Product
from testbed.waiting import wait_for
from tests.support.endpoints import KIND, Endpoints, alone

SECONDS = 30
NOW = "resourceVersion=0"
"""Asked for less, kube-apiserver wants an etcd that tells its progress, newer than Debian's."""

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def _alone(product: Product) -> Iterator[None]:
    with alone(product):
        yield


@pytest.fixture
def endpoints(plane: ControlPlane, product: Product, namespace: str, store: Path) -> Endpoints:
    product.gateway.wait_for_shim()
    found = Endpoints(plane, Cluster(str(plane.kubeconfig("admin"))), namespace, store)
    found.dump(pod="other")
    wait_for("kube-apiserver has a cache to watch", partial(_begins, found))
    return found


def _begins(endpoints: Endpoints) -> bool:
    with watch(endpoints, NOW) as seen:
        return seen.answer.status == 200


class Watch:
    """A watch, event by event; `to` is whom it asks, `user` an administrator other than the usual one."""

    def __init__(
        self,
        endpoints: Endpoints,
        query: str,
        to: Direct | None = None,
        accept: str = "*/*",
        version: str = names.VERSION,
        user: str = "",
    ) -> None:
        self._connection = to.connection() if to else _through_kube_apiserver(endpoints.plane)
        headers = {"Accept": accept} | (to.headers if to else {})
        if user:
            headers |= {"Impersonate-User": user, "Impersonate-Group": "system:masters"}
        self._connection.request("GET", f"{endpoints.path(version=version)}?watch=1&{query}", headers=headers)
        self.answer = self._connection.getresponse()

    def next(self) -> tuple[str, Any]:
        event = json.loads(self.answer.readline())
        return event["type"], event["object"]

    def name(self) -> tuple[str, str]:
        kind, thing = self.next()
        assert thing["apiVersion"] == names.API_VERSION
        return kind, thing["metadata"].get("name", "")

    def rest(self) -> bytes:
        return self.answer.read()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def _through_kube_apiserver(plane: ControlPlane) -> HTTPSConnection:
    context = ssl.create_default_context(cafile=str(plane.ca.certificate.path))
    client = plane.certificate("admin")
    context.load_cert_chain(client.path, client.key)
    return HTTPSConnection(urlsplit(plane.server).netloc, context=context, timeout=SECONDS)


class Direct:
    """The way to the gateway past kube-apiserver, by a service account's token."""

    def __init__(self, endpoints: Endpoints, product: Product) -> None:
        account = f"{endpoints.namespace}:default"
        endpoints.kubectl(
            "create", "rolebinding", "watcher", "--clusterrole=view", f"--serviceaccount={account}"
        )
        self.headers = {"Authorization": f"Bearer {endpoints.plane.token(endpoints.namespace, 'default')}"}
        self._gateway = product.gateway
        self._context = ssl.create_default_context(cafile=str(product.ca.certificate.path))
        self._context.check_hostname = False  # it is for the Service's name

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection(urlsplit(self._gateway.url).netloc, context=self._context, timeout=SECONDS)


@contextlib.contextmanager
def watch(*arguments: Any, **options: Any) -> Iterator[Watch]:
    found = Watch(*arguments, **options)
    try:
        yield found
    finally:
        found.close()


def test_events_come_as_they_happen(endpoints: Endpoints) -> None:
    with watch(endpoints, NOW) as seen:
        assert seen.answer.status == 200  # before anything was there to be told
        endpoints.create()
        assert seen.name() == ("ADDED", "web")
        endpoints.kubectl("label", KIND, "web", "a=b")
        kind, thing = seen.next()
        assert (kind, thing["metadata"]["labels"]) == ("MODIFIED", {"a": "b"})
        endpoints.kubectl("delete", KIND, "web")
        assert seen.name() == ("DELETED", "web")


def test_from_a_version_on_and_by_selectors(endpoints: Endpoints) -> None:
    endpoints.create("a")
    version = endpoints.get("a")["metadata"]["resourceVersion"]
    for name in "bc":
        endpoints.create(name)
    with watch(endpoints, f"resourceVersion={version}&fieldSelector=metadata.name%3Dc") as seen:
        assert seen.name() == ("ADDED", "c")
    with watch(endpoints, "resourceVersion=1&timeoutSeconds=5") as seen:
        # kube-apiserver may still know what was then; if not, it says so, and as an event.
        kind, thing = seen.next()
        assert (kind, thing["kind"]) in {("ADDED", names.KIND), ("ERROR", "Status")}


def test_the_objects_there_are_and_their_end(endpoints: Endpoints) -> None:
    endpoints.create()
    initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watch(endpoints, initial) as seen, watch(endpoints, initial, version=names.STORED) as stored:
        assert seen.answer.status == stored.answer.status
        if stored.answer.status == 422:  # 1.33, where it is off (WatchList)
            assert json.loads(seen.rest()) == json.loads(stored.rest())
            return
        expected = [stored.next()]
        while expected[-1][0] not in ("BOOKMARK", "ERROR"):  # an old etcd cannot do it
            expected.append(stored.next())
        for kind, thing in expected:
            assert seen.next() == (kind, rewrite.to_caller(thing))
    code, _, _ = endpoints.request("GET", query="?watch=1&sendInitialEvents=true")
    assert code == 422


def test_a_table_of_each_event(endpoints: Endpoints) -> None:
    endpoints.create()
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    with watch(endpoints, f"{NOW}&includeObject=Object", accept=accept) as seen:
        _, table = seen.next()
        assert table["kind"] == "Table"
        assert table["rows"][0]["object"]["apiVersion"] == names.API_VERSION


def test_it_ends_when_its_time_is_over(endpoints: Endpoints) -> None:
    with watch(endpoints, f"{NOW}&timeoutSeconds=1") as seen:
        assert seen.rest() == b""


def test_twenty_at_once(endpoints: Endpoints) -> None:
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(watch(endpoints, NOW)) for _ in range(20)]
        endpoints.create()
        assert {seen.name() for seen in all_of_them} == {("ADDED", "web")}


def test_places_of_those_who_went_are_free_again(endpoints: Endpoints, product: Product) -> None:
    """And nobody can have them all."""
    most = share(WATCHES)
    with contextlib.ExitStack() as stack:

        def begin(user: str) -> Watch | None:
            seen = Watch(endpoints, NOW, user=user)
            stack.callback(seen.close)
            return seen if seen.answer.status == 200 else None  # one that was closed may still have its place

        for user in most * ["first"] + (WATCHES - most) * ["second"]:
            wait_for("a place", partial(begin, user), SECONDS)
        for user, said in (("first", b"you have 48 watches"), ("second", b"64 watches are under way")):
            with watch(endpoints, NOW, user=user) as refused:
                assert (refused.answer.status, refused.answer.headers["Retry-After"]) == (429, "1")
                assert said in refused.rest()
        assert product.gateway.answers("/readyz")
        assert endpoints.listed() == []

    wait_for("a place that is free", partial(_begins, endpoints))


def test_kube_apiserver_is_lost_and_no_event_with_it(
    endpoints: Endpoints, plane: ControlPlane, product: Product
) -> None:
    endpoints.create()
    with watch(endpoints, NOW, Direct(endpoints, product)) as seen:
        assert seen.name() == ("ADDED", "web")
        with plane.without_apiserver(), pytest.raises((HTTPException, OSError)):
            seen.rest()
    product.wait_until_available(60)
    assert re.search("a watch ends: kube-apiserver is lost", product.gateway.shim.log.read_text())


def test_watches_end_in_order_with_the_shim(endpoints: Endpoints, product: Product) -> None:
    endpoints.create()
    with watch(endpoints, NOW, Direct(endpoints, product)) as seen:
        assert seen.name() == ("ADDED", "web")
        product.gateway.shim.stop()
        try:
            assert seen.rest() == b""
        finally:
            product.gateway.shim.start()
            product.gateway.wait_for_shim()
