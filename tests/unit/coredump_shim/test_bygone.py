"""Which dumps are of a namespace that was before."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_shim import bygone
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster
from coredump_shim.status import ApiError
from tests.support.answering import Object, World, answering, world
from tests.support.dumps import write_dump

MADE = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
LIVE, GONE = "30d4253e-831e-482d-bdf9-e1b2603f72aa", "99999999-831e-482d-bdf9-e1b2603f72aa"
NAMESPACE = "/api/v1/namespaces/demo"


@pytest.fixture
def there() -> World:
    served = world({"demo": [LIVE]})
    metadata = served.objects[NAMESPACE]["metadata"]
    metadata["creationTimestamp"] = MADE.strftime("%Y-%m-%dT%H:%M:%SZ")
    return served


@pytest.fixture
def bygones(tmp_path: Path, there: World) -> Iterator[Bygones]:
    with answering(tmp_path, there) as kubeconfig:
        yield Bygones(Cluster(kubeconfig))


def current(bygones: Bygones, store: Path) -> list[str]:
    return [dump.id for dump in bygones.without("demo", Catalog(str(store)).dumps("demo"))]


def crash(store: Path, seconds: float, poduid: str = GONE) -> str:
    """Write a dump of a crash so many seconds after the namespace was made; the pod is called as its UID."""
    when = MADE + datetime.timedelta(seconds=seconds)
    return write_dump(store, when=when, poduid=poduid, pod=poduid).name


def test_what_crashed_before_is_bygone(tmp_path: Path, bygones: Bygones) -> None:
    crash(tmp_path, -3600)
    crash(tmp_path, -0.5)
    mine = [crash(tmp_path, 0.9), crash(tmp_path, 3600)]
    assert current(bygones, tmp_path) == mine


def test_a_pod_that_is_there_has_its_dumps_though_its_nodes_clock_is_behind(
    tmp_path: Path, bygones: Bygones
) -> None:
    crash(tmp_path, -60)
    assert current(bygones, tmp_path) == [], "there is a pod, but another one"
    mine = crash(tmp_path, -30, LIVE)
    assert current(bygones, tmp_path) == [mine]


@pytest.mark.parametrize(
    ("annotation", "status", "is_his"),
    [
        ("kubernetes.io/config.mirror", {"startTime": "2026-01-31T12:00:00Z"}, True),
        ("kubernetes.io/config.mirror", {"phase": "Pending"}, False),
        ("kubernetes.io/config.hash", {"startTime": "2026-01-31T12:00:00Z"}, False),
    ],
)
def test_a_static_pod_is_there_by_a_kubelets_word_alone(
    tmp_path: Path, bygones: Bygones, there: World, annotation: str, status: Object, is_his: bool
) -> None:
    """Annotations are anybody's to write, and a pod's UID is no secret."""
    old = write_dump(tmp_path, when=MADE - datetime.timedelta(hours=1), poduid=GONE, pod="web").name
    metadata = {"name": "web", "uid": "the mirror's own", "annotations": {annotation: GONE}}
    there.objects[f"{NAMESPACE}/pods/web"] = {"metadata": metadata, "status": status}
    assert current(bygones, tmp_path) == ([old] if is_his else [])


def test_a_node_whose_clock_is_ahead_makes_no_dump_younger_than_the_store_has_it(
    tmp_path: Path, bygones: Bygones, there: World
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ahead = write_dump(tmp_path, when=now + datetime.timedelta(hours=1), poduid=GONE, pod="web").name
    assert current(bygones, tmp_path) == [ahead]
    made = now + datetime.timedelta(minutes=1)
    there.objects[NAMESPACE]["metadata"]["creationTimestamp"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert current(bygones, tmp_path) == []


def test_without_a_namespace_all_are_bygone(tmp_path: Path, bygones: Bygones, there: World) -> None:
    crash(tmp_path, 60, LIVE)
    del there.objects[NAMESPACE]
    assert current(bygones, tmp_path) == []


@pytest.mark.parametrize("code", [401, 403, 404, 500, 503])
def test_nobody_is_given_any_if_kube_apiserver_does_not_say(
    tmp_path: Path, bygones: Bygones, there: World, code: int
) -> None:
    crash(tmp_path, 60)
    there.errors[NAMESPACE] = code
    with pytest.raises(ApiError):
        current(bygones, tmp_path)


@pytest.mark.parametrize("namespace", [{}, {"metadata": {}}, {"metadata": {"creationTimestamp": None}}])
def test_a_namespace_that_was_never_made_is_none(namespace: dict[str, object]) -> None:
    with pytest.raises(ApiError, match="does not say when"):
        bygone.made(namespace)


def test_what_is_not_asked_for_costs_nothing(bygones: Bygones, there: World) -> None:
    assert list(bygones.without("demo", [])) == []
    assert there.asked == []
