"""A pass against a server that answers as a real kube-apiserver does not; tests/cluster has all the rest."""

from __future__ import annotations

import dataclasses
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coredump_guard.record import Module, Record
from coredump_shim import cluster, removal
from coredump_shim.cluster import Cluster
from coredump_shim.controller import action, collect, debugging, marks, stall
from coredump_shim.controller.action import DELETE, LOW_SPACE, MARK, REMOVE, UNMARK, Action
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.rules import DAY, Rules
from coredump_shim.status import ApiError
from testbed.waiting import wait_for
from tests.support.answering import ENDPOINTS, World, answering, world
from tests.support.dumps import write_dump

HERE, GONE = "30d4253e-831e-482d-bdf9-e1b2603f72aa", "99999999-831e-482d-bdf9-e1b2603f72aa"
AT_ONCE = Rules(gc_threshold=0)
PODS, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"


class Scene:
    """A world with a pod, and a store with a dump of it and one of a pod that is gone since half a day."""

    def __init__(self, directory: Path, kubeconfig: str, there: World) -> None:
        self.root, self.world = directory / "store", there
        (self.root / ".inbox").mkdir(parents=True)
        self.kept = write_dump(self.root, poduid=HERE)
        self.lost = write_dump(self.root, poduid=GONE)
        self.cluster = Cluster(kubeconfig)
        self.followed: list[tuple[str, str]] = []
        self.collect(Rules())
        marks.make(str(self.root), "demo", GONE, time.time() - DAY / 2)

    def collect(self, rules: Rules = AT_ONCE, **options: Any) -> list[Action]:
        return collect.collect(self.cluster, str(self.root), rules, follow=self.follow, **options)

    def ended(self, namespace: str, **options: Any) -> list[Action]:
        return collect.namespace(self.cluster, str(self.root), AT_ONCE, namespace, **options)

    def follow(self, namespace: str, poduid: str) -> None:
        self.followed.append((namespace, poduid))

    def made(self, when: datetime.datetime) -> None:
        """Have the namespaces made at a time."""
        for namespace in self.world.lists[NAMESPACES]:
            namespace["metadata"]["creationTimestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")

    def end(self, name: str) -> None:
        """Have a namespace end, with its pods."""
        for path in (NAMESPACES, PODS):
            kept = [it for it in self.world.lists[path] if name not in it["metadata"].values()]
            self.world.lists[path] = kept
        del self.world.objects[f"{NAMESPACES}/{name}"]

    def whats(self, rules: Rules = AT_ONCE) -> list[str]:
        return [done.what for done in self.collect(rules)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    there = world({"demo": [HERE], "other": ["o"]})
    with answering(tmp_path, there) as kubeconfig:
        yield Scene(tmp_path, kubeconfig, there)


def test_the_next_namespace_of_the_name_inherits_nothing(scene: Scene) -> None:
    kept = write_dump(scene.root, poduid=HERE, when=ago(3600))
    before = write_dump(scene.root, poduid=GONE, when=ago(3600))
    scene.made(ago(1800))
    assert [(done.what, done.why) for done in scene.collect(Rules())] == [
        (REMOVE, "1 dump: its namespace is gone, and the one that is called demo now is younger")
    ]
    assert not before.exists()
    assert scene.lost.exists(), "its crash was in this namespace"
    assert kept.exists(), "its pod is there, and its node's clock behind"
    assert scene.followed == [("demo", GONE)]


def test_a_pod_of_the_namespace_before_leaves_nothing(scene: Scene) -> None:
    write_dump(scene.root, poduid="of-before", when=ago(3600))
    write_dump(scene.root, poduid="of-before", when=ago(3600), container="side")
    marks.make(str(scene.root), "demo", "of-before", time.time() - 3600)
    scene.made(ago(1800))
    assert scene.collect(Rules(), dry_run=True) == scene.collect(Rules())
    assert not (scene.root / "demo/of-before").exists()
    assert marks.all_of(str(scene.root), "demo") == [GONE]


@pytest.mark.parametrize("younger", [-240, -86400])
def test_clocks_that_are_apart_remove_nothing(scene: Scene, younger: float) -> None:
    """A namespace that seems a bit younger than a crash in it, or of the future."""
    scene.made(ago(younger))
    assert scene.collect(Rules()) == []


def test_a_pod_that_came_behind_the_list_keeps_what_it_has(scene: Scene) -> None:
    kept = write_dump(scene.root, poduid="late", when=ago(3600))
    scene.made(ago(1800))
    late = {"metadata": {"name": "late", "namespace": "demo", "uid": "late"}}
    scene.world.lists[f"{NAMESPACES}/demo/pods"].append(late)
    assert scene.whats(Rules()) == [MARK]
    assert kept.exists()


def test_what_a_namespace_leaves_goes_when_its_end_is_heard_of(scene: Scene) -> None:
    scene.end("demo")
    other = write_dump(scene.root, namespace="gone-too")
    assert scene.ended("demo", dry_run=True) == scene.ended("demo")
    assert not (scene.root / "demo").exists()
    assert not (scene.root / ".gone/demo").exists()
    assert other.exists()
    assert scene.ended("never-was") == scene.ended("demo") == []


def test_a_namespace_that_was_made_again_is_left_what_is_its_own(scene: Scene) -> None:
    before = write_dump(scene.root, poduid=GONE, when=ago(3600))
    scene.made(ago(1800))
    assert [done.what for done in scene.ended("demo")] == [REMOVE]
    assert not before.exists()
    assert scene.lost.exists()
    assert scene.kept.exists()


@pytest.mark.parametrize("code", [401, 403, 404, 410, 429, 500, 503])
def test_an_error_is_no_end(scene: Scene, code: int) -> None:
    scene.world.errors[f"{NAMESPACES}/demo"] = code
    with pytest.raises(ApiError):
        scene.ended("demo")
    assert scene.lost.exists()


def test_a_store_that_is_nobodys_loses_nothing_by_a_namespaces_end(scene: Scene) -> None:
    scene.end("demo")
    (scene.root / ".cluster").unlink()
    with pytest.raises(Doubt, match=r"has no \.cluster.*is the store mounted\?"):
        scene.ended("demo")
    (scene.root / ".cluster").write_text("another")
    with pytest.raises(Doubt, match="store of another cluster"):
        scene.ended("demo")
    assert scene.lost.exists()


@pytest.mark.parametrize("path", [NAMESPACES, PODS, ENDPOINTS])
def test_a_list_that_expires_in_its_middle_is_no_list(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The rest of it would be gone, and with it everybody's dumps."""
    monkeypatch.setattr(cluster, "PAGE", 1)
    scene.world.lists[ENDPOINTS] = [
        {"metadata": {"name": name, "namespace": "demo", "uid": name}, "spec": {"poduid": HERE}}
        for name in ("a", "b")
    ]
    scene.world.expired = {path}
    with pytest.raises(ApiError) as caught:
        scene.collect()
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert scene.lost.exists()
    scene.world.expired = set()
    assert REMOVE in scene.whats(), "the next pass"


def test_what_is_gone_goes(scene: Scene) -> None:
    assert scene.whats() == [REMOVE]
    assert not scene.lost.exists()
    assert scene.kept.exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [(NAMESPACES, "list of namespaces is without kube-system"), (PODS, "list of pods is empty")],
)
def test_an_empty_list_is_not_believed(scene: Scene, path: str, says: str) -> None:
    scene.world.lists[path] = []
    with pytest.raises(Doubt, match=says):
        scene.collect()
    assert scene.lost.exists()


@pytest.mark.parametrize(
    "path", [NAMESPACES, PODS, ENDPOINTS, f"{NAMESPACES}/kube-system", f"{NAMESPACES}/demo/pods/web"]
)
def test_an_error_removes_nothing(scene: Scene, path: str) -> None:
    for code in (401, 403, 404, 410, 429, 500, 503):
        scene.world.errors[path] = code
        with pytest.raises(ApiError):
            scene.collect()
    assert scene.lost.exists()


@pytest.mark.parametrize("code", [403, 422, 500])
def test_an_endpoint_that_cannot_be_deleted_holds_up_no_other(scene: Scene, code: int) -> None:
    """As admission may refuse it: a webhook, a policy."""
    metadata = {"name": "web", "namespace": "demo", "uid": "u"}
    scene.world.lists[ENDPOINTS] = [{"metadata": metadata, "spec": {"poduid": GONE}}]
    scene.world.errors["/apis/coredump.fujitsu.com/v1/namespaces/demo/coredumpendpoints/web"] = code
    other = write_dump(scene.root, namespace="other", poduid=GONE)
    marks.make(str(scene.root), "other", GONE, time.time() - DAY / 2)
    assert scene.whats() == [REMOVE, DELETE, REMOVE]
    assert not scene.lost.exists()
    assert not other.exists()
    assert scene.whats() == [DELETE], "it is tried again"


def test_a_404_about_something_else_removes_nothing(scene: Scene) -> None:
    """Not of the namespace but of the path, as a server says that has no such API."""
    namespace = write_dump(scene.root, namespace="away")
    scene.world.errors[f"{NAMESPACES}/away"] = 404
    with pytest.raises(ApiError):
        scene.collect()
    assert namespace.exists()
    del scene.world.errors[f"{NAMESPACES}/away"]
    scene.collect()
    assert not namespace.exists()


def test_a_pod_is_not_gone_by_an_answer_about_another(scene: Scene) -> None:
    scene.world.objects[f"{NAMESPACES}/demo/pods/web"] = {"metadata": {"name": "else", "uid": "x"}}
    with pytest.raises(Doubt, match="is about something else"):
        scene.collect()
    assert scene.lost.exists()


def test_what_no_record_names_is_kept(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    (scene.lost / "info.json").write_text("{}")
    assert scene.whats() == []
    assert scene.lost.exists()
    assert "remove it by hand" in caplog.text


def test_an_empty_directory_of_a_pod_that_is_gone_goes(scene: Scene) -> None:
    half = scene.lost.parent / f"{removal.PURGED}{scene.lost.name}-0"
    scene.lost.rename(half)
    assert scene.whats() == []
    assert not scene.lost.parents[1].exists()
    assert not (scene.root / ".gone/demo").exists()


def test_dumps_of_nodes_and_of_nobody_go_by_age_alone(scene: Scene) -> None:
    old = ago(3600)
    unowned = []
    for place in ("_host/node-1", "_unidentified/" + "c" * 64):
        dump = write_dump(scene.root, namespace="demo", poduid=HERE, when=old)
        unowned.append(scene.root / place / dump.name)
        unowned[-1].parent.mkdir(parents=True)
        dump.rename(unowned[-1])
    rules = Rules(unowned_age=1)
    assert scene.whats(Rules(unowned_age=None)) == []
    time.sleep(1.1)  # they have only just come
    assert scene.whats(Rules(unowned_age=7200)) == []
    said = scene.collect(rules)
    assert [(done.what, done.namespace) for done in said] == [(REMOVE, "_host"), (REMOVE, "_unidentified")]
    assert not any(dump.exists() for dump in unowned)


def test_a_quota_is_looked_at_where_endpoints_say_that_it_may_be_used_up(scene: Scene) -> None:
    (scene.kept / "maps").write_bytes(bytes(500_000))
    endpoint = {"metadata": {"name": "web", "namespace": "demo", "uid": "e"}, "spec": {"poduid": HERE}}
    quota = Rules(namespace_quota=600_000)
    scene.world.lists[ENDPOINTS] = [endpoint | {"status": {"storedBytes": 10}}]
    assert scene.whats(quota) == []
    scene.world.lists[ENDPOINTS] = [endpoint | {"status": {"storedBytes": 550_000}}]
    usage = scene.collect(Rules(namespace_quota=520_000))[-1].usage
    assert usage is not None
    assert (usage.namespace, usage.quota) == ("demo", 520_000)


def test_executables_that_no_dump_refers_to_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    files = scene.root / ".debug/.build-id/ab"
    files.mkdir(parents=True)
    for name in ("cdef", "0123", "cdef.0123456789abcdef", "0123.debug", "0123.bad", "4567"):
        (files / name).write_bytes(b"\x7fELF")
        os.utime(files / name, (0, 0))
    os.utime(files / "4567")  # it has just come, before the dump that refers to it
    _refers(scene.kept, "abcdef")
    rules = Rules(gc_threshold=1)
    assert scene.whats(rules) == [REMOVE]  # of the pod
    assert scene.whats(rules) == []
    monkeypatch.setattr(debugging, "PAUSE", 0)
    time.sleep(1.1)
    os.utime(files / "4567")
    said = scene.collect(rules, dry_run=True)
    assert [done.why for done in said] == ["executable ab0123, which no dump refers to"]
    assert (files / "0123").exists()
    assert scene.whats(rules) == [REMOVE]
    assert sorted(path.name for path in files.iterdir()) == [
        "0123.bad",
        "0123.debug",
        "4567",
        "cdef",
        "cdef.0123456789abcdef",
    ]


def test_in_a_large_store_no_record_is_read_for_executables(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = scene.root / ".debug/.build-id/ab"
    files.mkdir(parents=True)
    (files / "cdef").write_bytes(b"\x7fELF")
    os.utime(files / "cdef", (0, 0))
    monkeypatch.setattr(debugging, "MOST", 1)
    scene.collect(Rules())
    assert marks.namespaces(str(scene.root)) == ["demo"]


def test_a_store_that_hangs_ends_the_pass_and_nothing_is_removed_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back = threading.Event()
    real: Callable[..., Any] = marks.all_of

    def hangs(root: str, namespace: str) -> list[str]:
        is_back.wait(30)
        return list(real(root, namespace))

    monkeypatch.setattr(marks, "all_of", hangs)
    monkeypatch.setattr(stall.watched, "__defaults__", (0.3,))
    with pytest.raises(ApiError, match="the store does not answer"):
        scene.collect()
    is_back.set()
    wait_for("the pass's end", lambda: not any(t.name == "watched" for t in threading.enumerate()), 10)
    assert scene.lost.exists()


def test_who_leads_no_more_removes_nothing_more(scene: Scene) -> None:
    other = write_dump(scene.root, namespace="other", poduid=GONE)
    marks.make(str(scene.root), "other", GONE, time.time() - DAY / 2)
    assert scene.collect(going_on=scene.lost.exists) == []
    assert not scene.lost.exists()
    assert other.exists()


def test_actions_read_well() -> None:
    said = [Action(MARK, "demo", HERE, "the pod is gone"), Action(LOW_SPACE, "demo", "", "it is full")]
    assert list(map(str, said)) == [f"mark demo/{HERE}: the pod is gone", "low space demo: it is full"]
    assert len({MARK, UNMARK, REMOVE, LOW_SPACE, action.DELETE}) == 5


def ago(seconds: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)


def _refers(dump: Path, build_id: str) -> None:
    record = Record.from_json((dump / "info.json").read_text())
    module = Module("/usr/bin/program", build_id, "1000")
    (dump / "info.json").write_text(dataclasses.replace(record, modules=[module]).to_json())
