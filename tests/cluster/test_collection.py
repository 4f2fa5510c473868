"""What goes from the store when pods and namespaces go, and that nothing goes in doubt.

Each test has a store of its own, and makes the passes itself, with the rights of the controller's role.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coredump_shim import beneath, names
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster
from coredump_shim.controller import endpoints, marks, ownership
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.action import DELETE, LOW_SPACE, MARK, REMOVE, UNMARK, Action
from coredump_shim.controller.collect import collect, own
from coredump_shim.controller.collect import namespace as namespace_ended
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.roster import Roster
from coredump_shim.controller.rules import DAY, Rules
from coredump_shim.controller.sync import Sync
from coredump_shim.status import ApiError
from testbed.cluster.controlplane import ControlPlane, delete_namespace, pod_manifest
from testbed.waiting import wait_for
from tests.support.dumps import write_dump

MANIFESTS = Path(__file__).parents[2] / "manifests/api"
COLLECTOR = "test-collector"
HASH = "5f2d0c1e9b7a4f3e8d6c5b4a39281706"
"""A static pod's UID on its node."""
PLURAL = f"{names.RESOURCE}.{names.STORED}.{names.GROUP}"
AT_ONCE = Rules(gc_threshold=0)


@dataclass
class Scene:
    """A namespace of a cluster, a store, and a controller's passes over it."""

    plane: ControlPlane
    namespace: str
    root: Path
    cluster: Cluster

    def pod(self, name: str = "web", *finalizers: str, **annotations: str) -> str:
        """Make a pod and return its UID."""
        manifest = json.loads(pod_manifest(self.namespace, name))
        manifest["metadata"] |= {"annotations": annotations, "finalizers": finalizers}
        self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        return self.plane.kubectl("get", "pod", name, "-n", self.namespace, "-o", "jsonpath={.metadata.uid}")

    def delete_pod(self, name: str = "web") -> None:
        now = ("--grace-period=0", "--force")
        self.plane.kubectl("delete", "pod", name, "-n", self.namespace, *now)

    def dump(self, poduid: str, **what: Any) -> Path:
        return write_dump(self.root, **{"namespace": self.namespace, "poduid": poduid} | what)

    def endpoint(self, poduid: str, name: str = "web") -> None:
        made = {
            "apiVersion": f"{names.GROUP}/{names.STORED}",
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"poduid": poduid},
        }
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(made))

    def status(self, name: str, **status: Any) -> None:
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        self.plane.kubectl("patch", PLURAL, name, "-n", self.namespace, *patch)

    def dumps(self, name: str = "web") -> str:
        """Return how many dumps an endpoint's status counts."""
        return self.plane.kubectl("get", PLURAL, name, "-n", self.namespace, "-o", "jsonpath={.status.dumps}")

    def has_endpoint(self, name: str = "web") -> bool:
        command = ("get", PLURAL, name, "-n", self.namespace)
        return self.plane.run(*command).returncode == 0

    def collect(self, rules: Rules = AT_ONCE, **options: Any) -> list[Action]:
        return collect(self.cluster, str(self.root), rules, **options)

    def whats(self, rules: Rules = AT_ONCE, **options: Any) -> list[str]:
        """Make a pass and return what it did in this namespace."""
        return [done.what for done in self.collect(rules, **options) if done.namespace == self.namespace]

    def sync(self, root: Path | None = None) -> Sync:
        at = str(root or self.root)
        return Sync(
            Catalog(at),
            endpoints.Endpoints(self.cluster, Acting()),
            Roster(),
            Bygones(self.cluster),
            lambda: ownership.confirm(self.cluster, at),
        )

    def ended(self, rules: Rules, **options: Any) -> list[str]:
        """Have it heard that the namespace has ended; return what that did."""
        done = namespace_ended(self.cluster, str(self.root), rules, self.namespace, **options)
        return [one.what for one in done]

    def gone(self, name: str = "web") -> tuple[str, Path]:
        """Make a pod with a dump and an endpoint that is gone and marked; return its UID and dump."""
        poduid = self.pod(name)
        dump = self.dump(poduid, pod=name)
        self.endpoint(poduid, name)
        assert self.whats(Rules()) == []
        self.delete_pod(name)
        assert self.whats(Rules()) == [MARK]
        return poduid, dump

    def own(self) -> None:
        uid = self.plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
        (self.root / ".cluster").write_text(f"{uid}\n")

    def listing(self) -> list[tuple[str, int, int]]:
        """Return all that is in the store, with size and inode."""
        found = [(path, path.lstat()) for path in sorted(self.root.rglob("*"))]
        return [(str(path), info.st_ino, info.st_size) for path, info in found]

    def mark(self, poduid: str) -> Path:
        return self.root / ".gone" / self.namespace / poduid


@pytest.fixture(scope="module")
def rights(plane: ControlPlane) -> None:
    """Have the CRD and the controller's role, whether the product is installed or not."""
    for file in ("customresourcedefinition", "clusterrole"):
        plane.kubectl("apply", "-f", str(MANIFESTS / f"{file}.yaml"))
    plane.kubectl("wait", "--for=condition=Established", f"crd/{names.RESOURCE}.{names.GROUP}")


@pytest.fixture(scope="module")
def elsewhere(plane: ControlPlane) -> Iterator[None]:
    """Have a pod somewhere: a cluster without any is not believed."""
    plane.kubectl("apply", "-f", "-", stdin=pod_manifest("kube-system", "elsewhere"))
    yield
    plane.kubectl("delete", "pod", "elsewhere", "-n", "kube-system", "--grace-period=0", "--force")


@pytest.fixture
def binding(plane: ControlPlane, rights: None) -> Iterator[str]:
    name = "test-collector"
    role = ("--clusterrole=coredump-controller", f"--user={COLLECTOR}")
    plane.kubectl("create", "clusterrolebinding", name, *role)
    yield name
    plane.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")


@pytest.fixture
def scene(plane: ControlPlane, namespace: str, tmp_path: Path, binding: str, elsewhere: None) -> Scene:
    root = tmp_path / "store"
    (root / ".inbox").mkdir(parents=True)
    made = Scene(plane, namespace, root, Cluster(str(plane.kubeconfig(COLLECTOR))))
    wait_for("the rights are effective", lambda: _may(made), 10)
    made.own()
    return made


def _may(scene: Scene) -> bool:
    try:
        list(scene.cluster.pages("/api/v1/pods"))
        scene.cluster.get(endpoints.ALL)
    except ApiError:
        return False
    return True


def test_a_pods_dumps_and_endpoint_go_once_it_is_gone_for_long_enough(scene: Scene) -> None:
    poduid, stays = scene.pod("web"), scene.pod("db")
    dump, other = scene.dump(poduid), scene.dump(stays, pod="db")
    (scene.root / ".inbox" / dump.name).write_text("")
    scene.endpoint(poduid)
    scene.endpoint(stays, "db")
    assert scene.whats() == []
    scene.delete_pod("web")
    rules = Rules(gc_threshold=3)
    marked = time.monotonic()
    assert scene.whats(rules) == [MARK]
    while dump.exists():
        done = scene.whats(rules)
        assert done in ([], [REMOVE, DELETE])
        assert time.monotonic() < marked + 30
        time.sleep(0.2)
    assert time.monotonic() - marked >= 2  # a mark is in whole seconds
    assert not dump.parents[1].exists()
    assert not scene.mark(poduid).exists()
    assert list((scene.root / ".inbox").iterdir()) == []
    assert not scene.has_endpoint("web")
    assert other.exists()
    assert scene.has_endpoint("db")
    assert scene.whats(rules) == []


def test_a_pod_of_the_same_name_does_not_keep_the_old_ones_dumps(scene: Scene) -> None:
    old, dump = scene.gone()
    new = scene.pod("web")
    kept = scene.dump(new)
    assert new != old
    assert scene.whats() == [REMOVE, DELETE]
    assert not dump.exists()
    assert kept.exists()


def test_a_pod_that_is_back_in_time_keeps_its_dumps(scene: Scene) -> None:
    dump = scene.dump(HASH)
    assert scene.whats(Rules()) == [MARK]
    scene.pod("web", **{"kubernetes.io/config.hash": HASH})
    assert scene.whats() == [UNMARK]
    assert not scene.mark(HASH).exists()
    assert scene.whats() == []
    assert dump.exists()


@pytest.mark.parametrize("annotation", ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"])
def test_a_static_pods_dumps_stay_as_long_as_its_mirror_pod(scene: Scene, annotation: str) -> None:
    scene.pod("web", **{annotation: HASH})
    dump = scene.dump(HASH)
    assert scene.whats() == []
    scene.delete_pod()
    assert scene.whats() == [MARK]
    assert scene.whats() == [REMOVE]
    assert not dump.exists()


def test_a_pod_that_comes_back_behind_the_list_is_asked_for_by_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = scene.dump(HASH)
    assert scene.whats() == [MARK]
    real = endpoints_listed = Cluster.pages

    def pages(cluster: Cluster, path: str, *rest: Any, **query: Any) -> Iterator[list[Any]]:
        yield from real(cluster, path, *rest, **query)
        if path == "/api/v1/pods":
            scene.pod("web", **{"kubernetes.io/config.hash": HASH})

    monkeypatch.setattr(Cluster, "pages", pages)
    assert scene.whats() == [UNMARK]
    monkeypatch.setattr(Cluster, "pages", endpoints_listed)
    assert dump.exists()
    assert scene.whats() == []


def test_a_namespaces_dumps_go_with_it_at_once(scene: Scene) -> None:
    poduid = scene.pod()
    dump = scene.dump(poduid)
    scene.dump("other", container="side")
    scene.endpoint(poduid)
    assert scene.whats(Rules()) == [MARK]  # of the other
    found = scene.plane.kubectl("get", PLURAL, "web", "-o", "json", "-n", scene.namespace)
    assert "finalizers" not in json.loads(found)["metadata"]
    delete_namespace(scene.plane, scene.namespace)  # nobody has to be there for it
    assert scene.whats(Rules()) == [REMOVE, REMOVE]
    assert not dump.parents[2].exists()
    assert not scene.mark("other").parent.exists()
    assert scene.whats(Rules()) == []


def test_the_next_namespace_of_the_name_inherits_nothing(scene: Scene) -> None:
    before = scene.dump(scene.pod(), when=_ago(3600))
    static = scene.dump(HASH, pod="static", when=_ago(3600))
    delete_namespace(scene.plane, scene.namespace)
    scene.plane.kubectl("create", "namespace", scene.namespace)
    scene.plane.wait_for_namespace(scene.namespace)
    scene.pod("static", **{"kubernetes.io/config.hash": HASH})
    own = scene.dump(scene.pod())
    assert scene.ended(Rules()) == [REMOVE]
    assert scene.whats(Rules()) == []
    assert not before.parents[1].exists()
    assert own.exists()
    assert static.exists(), "its pod is there"


def test_what_a_namespace_leaves_goes_when_its_end_is_heard_of(scene: Scene) -> None:
    scene.dump(scene.pod())
    assert scene.ended(Rules()) == []
    delete_namespace(scene.plane, scene.namespace)
    assert scene.ended(Rules(), dry_run=True) == [REMOVE]
    assert scene.ended(Rules()) == [REMOVE]
    assert not (scene.root / scene.namespace).exists()


def test_a_namespace_that_is_still_being_deleted_keeps_its_dumps(scene: Scene) -> None:
    dump = scene.dump(scene.pod("web", "example.com/later"))
    try:
        delete_namespace(scene.plane, scene.namespace, wait=False)
        phase = ("get", "namespace", scene.namespace, "-o", "jsonpath={.status.phase}")
        wait_for("it terminates", lambda: scene.plane.kubectl(*phase) == "Terminating")
        assert scene.whats() == []
        assert dump.exists()
    finally:
        patch = ("-p", '{"metadata":{"finalizers":null}}', "--type=merge")
        scene.plane.kubectl("patch", "pod", "web", "-n", scene.namespace, *patch)


def test_while_kube_apiserver_is_away_nothing_goes(scene: Scene) -> None:
    scene.gone()
    before = scene.listing()
    with scene.plane.without_apiserver(), pytest.raises(ApiError) as error:
        scene.collect()
    assert error.value.code == 503
    assert scene.listing() == before
    assert scene.whats() == [REMOVE, DELETE]


def test_without_rights_nothing_goes(scene: Scene, binding: str) -> None:
    scene.gone()
    before = scene.listing()
    scene.plane.kubectl("delete", "clusterrolebinding", binding)
    wait_for("the rights are gone", lambda: not _may(scene), 10)
    with pytest.raises(ApiError) as error:
        scene.collect()
    assert error.value.code == 403
    assert scene.listing() == before
    assert scene.has_endpoint()


@pytest.mark.parametrize("off", [-2 * DAY, 2 * DAY])
def test_with_a_wrong_clock_nothing_goes(scene: Scene, off: float) -> None:
    scene.gone()
    before = scene.listing()
    with pytest.raises(Doubt, match="the controller's clock"):
        scene.collect(clock=lambda: time.time() + off)
    assert scene.listing() == before
    assert scene.has_endpoint()


def test_a_mark_from_the_future_is_rewritten(scene: Scene) -> None:
    poduid, dump = scene.gone()
    for text in ("2999-01-01T00:00:00Z", "soon"):
        scene.mark(poduid).write_text(text)
        assert scene.whats() == [MARK]
        since = marks.since(str(scene.root), scene.namespace, poduid)
        assert since is not None
        assert abs(since - time.time()) < 60
    assert dump.exists()
    assert scene.whats() == [REMOVE, DELETE]


def test_a_mark_outlives_the_controller_and_the_pod_is_confirmed_anew(scene: Scene) -> None:
    poduid, dump = scene.gone()
    marks.make(str(scene.root), scene.namespace, poduid, time.time() - 2 * DAY)
    marks.make(str(scene.root), scene.namespace, HASH, time.time() - 2 * DAY)
    scene.pod("static", **{"kubernetes.io/config.mirror": HASH})
    kept = scene.dump(HASH, pod="static")
    assert sorted(scene.whats(Rules())) == sorted([REMOVE, DELETE, UNMARK])
    assert not dump.exists()
    assert kept.exists()


def test_another_clusters_store_is_left_alone(scene: Scene) -> None:
    scene.gone()
    (scene.root / ".cluster").write_text("11111111-2222-3333-4444-555555555555\n")
    before = scene.listing()
    with pytest.raises(Doubt, match=r"store of another cluster.*11111111.*right kubeconfig"):
        scene.collect()
    assert scene.listing() == before


def test_a_directory_that_no_node_delivered_to_is_no_store(scene: Scene) -> None:
    for path in (scene.root / ".cluster", scene.root / ".inbox"):
        path.unlink() if path.is_file() else path.rmdir()
    before = scene.listing()
    with pytest.raises(Doubt, match="is the store mounted"):
        scene.collect(dry_run=True)
    assert scene.listing() == before
    with pytest.raises(Doubt, match="is the store mounted"):
        scene.collect()
    assert not (scene.root / ".cluster").exists()


def test_an_owner_that_is_no_clusters_is_not_replaced(scene: Scene) -> None:
    scene.gone()
    (scene.root / ".cluster").write_text("")
    with pytest.raises(Doubt, match="says nothing, and"):
        scene.collect()
    (scene.root / ".cluster").unlink()
    (scene.root / ".cluster").symlink_to(scene.root / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        scene.collect()
    assert not (scene.root / "elsewhere").exists()


def test_a_store_that_is_nobodys_becomes_this_clusters_by_a_pods_dump(scene: Scene) -> None:
    """Names say nothing, nor does a static pod's UID: another cluster has them too."""
    owner = scene.root / ".cluster"
    owner.unlink()
    scene.pod("static", **{"kubernetes.io/config.hash": HASH})
    foreign = [scene.dump("22222222-2222-2222-2222-222222222222"), scene.dump(HASH, pod="static")]
    with pytest.raises(
        Doubt,
        match=r"right kubeconfig\? If this is its store all the same, write [-0-9a-f]{36} to .*/\.cluster",
    ):
        scene.collect()
    assert all(path.exists() for path in foreign)
    assert not owner.exists()
    scene.dump(scene.pod())
    assert scene.whats(dry_run=True) == [MARK]
    assert not owner.exists()
    scene.collect(Rules())
    claimed = owner.read_text()
    scene.own()
    assert owner.read_text() == claimed


@pytest.mark.parametrize("place", ["_host/node-1", "_unidentified/" + "c" * 64])
def test_the_wrong_clusters_claim_is_refused(scene: Scene, place: str) -> None:
    """Of a store whose cluster has no controller yet, and whose pods' dumps have gone, but not its nodes'."""
    (scene.root / ".cluster").unlink()
    dump = scene.dump(scene.namespace)
    theirs = scene.root / place / dump.name
    theirs.parent.mkdir(parents=True)
    dump.rename(theirs)
    with pytest.raises(Doubt, match="has dumps, but of no pod"):
        own(scene.cluster, str(scene.root))
    with pytest.raises(Doubt, match="has dumps, but of no pod"):
        scene.collect(Rules(unowned_age=0.001))
    assert theirs.exists()
    assert not (scene.root / ".cluster").exists()


def test_an_empty_store_is_anybodys_unless_endpoints_count_dumps(scene: Scene) -> None:
    owner = scene.root / ".cluster"
    owner.unlink()
    scene.endpoint(scene.pod())
    scene.status("web", dumps=3, storedBytes=4711)
    with pytest.raises(Doubt, match=r"is empty, and endpoints of .* count dumps: is it the right store"):
        own(scene.cluster, str(scene.root))
    assert not owner.exists()
    scene.status("web", dumps=0, storedBytes=0)
    own(scene.cluster, str(scene.root))
    assert owner.exists()


def test_a_dry_run_says_what_a_pass_does_and_changes_nothing(scene: Scene) -> None:
    scene.gone()
    scene.gone("db")
    write_dump(scene.root, namespace="not-there")
    scene.dump(scene.pod("new"), when=_ago(3600))
    time.sleep(1.1)
    rules = Rules(gc_threshold=0, max_age=1, namespace_quota=100)
    before = scene.listing()
    said = scene.collect(rules, dry_run=True)
    assert scene.listing() == before
    assert scene.has_endpoint()
    assert scene.has_endpoint("db")
    assert {done.what for done in said} >= {REMOVE, DELETE}
    assert [_timeless(done) for done in scene.collect(rules)] == [_timeless(done) for done in said]


def test_dumps_go_at_their_age_by_the_crash_and_by_their_arrival(scene: Scene) -> None:
    poduid = scene.pod()
    old, new = scene.dump(poduid, when=_ago(3600)), scene.dump(poduid)
    rules = Rules(max_age=3)
    assert scene.whats(Rules(max_age=7200)) == []
    assert scene.whats(rules) == []  # it has only just come
    os.utime(old, (0, 0))  # which whoever writes to the store may do
    time.sleep(4.1)  # ids are in whole seconds
    late = scene.dump(poduid, when=datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1))
    assert scene.whats(rules) == [REMOVE]
    assert [path.exists() for path in (old, new, late)] == [False, False, True]
    assert scene.whats(rules) == []


def test_the_oldest_dumps_go_until_a_namespace_keeps_its_quota(scene: Scene) -> None:
    first, second = scene.pod("web"), scene.pod("db")
    dumps = [
        scene.dump(poduid, pod=pod, when=_ago(age), core=b"\x7fELF" + os.urandom(300_000))
        for poduid, pod, age in (
            (first, "web", 400),
            (second, "db", 300),
            (first, "web", 200),
            (second, "db", 100),
        )
    ]
    assert scene.whats(Rules(namespace_quota=2_000_000)) == []
    assert scene.whats(Rules(namespace_quota=1_250_000)) == [LOW_SPACE]
    done = [one for one in scene.collect(Rules(namespace_quota=700_000)) if one.namespace == scene.namespace]
    assert sorted(one.what for one in done) == [REMOVE, REMOVE]
    assert [path.exists() for path in dumps] == [False, False, True, True]
    usage = next(one.usage for one in scene.collect(Rules(namespace_quota=650_000)) if one.what == LOW_SPACE)
    assert usage is not None
    assert usage.nearly_full
    assert usage.used == sum(path.stat().st_size for path in scene.root.glob("*/*/*/*/*"))


def test_endpoints_follow_when_dumps_go(scene: Scene) -> None:
    poduid = scene.pod()
    dumps = [scene.dump(poduid, when=_ago(age)) for age in (3600, 600, 0)]
    scene.endpoint(poduid, "mine")
    sync = scene.sync()
    sync.pod(scene.namespace, poduid, ["mine"])
    assert scene.dumps() == scene.dumps("mine") == "3"
    time.sleep(1.1)  # they have only just come
    assert scene.whats(Rules(max_age=1800), follow=partial(sync.pod, known=["mine"])) == []
    older = Rules(max_age=1)
    assert scene.whats(older, follow=partial(sync.pod, known=["mine"])) == [REMOVE]
    assert [path.exists() for path in dumps][:2] == [False, False]
    left = len([path for path in dumps if path.exists()])
    assert scene.dumps("mine") == str(left)


@pytest.mark.parametrize("owner", [None, "another"])
def test_by_an_empty_store_no_endpoint_loses_what_it_says(
    scene: Scene, owner: str | None, tmp_path: Path
) -> None:
    """A bare mount point, a new disk, another cluster's store."""
    poduid = scene.pod()
    scene.dump(poduid)
    scene.endpoint(poduid, "mine")
    scene.sync().pod(scene.namespace, poduid, ["mine"])
    wrong = tmp_path / "wrong"
    for path in (wrong, wrong / ".inbox"):
        path.mkdir()
        if owner:
            (wrong / ".cluster").write_text(owner)
        scene.sync(wrong).all(lambda: True)
        with pytest.raises(Doubt):
            scene.sync(wrong).pod(scene.namespace, poduid, ["mine"])
        with pytest.raises(Doubt):
            collect(scene.cluster, str(wrong), AT_ONCE)
        assert scene.dumps() == scene.dumps("mine") == "1"
    (scene.root / scene.namespace).rename(tmp_path / "elsewhere")
    scene.sync().all(lambda: True)  # by our own store they do
    assert not scene.has_endpoint()
    assert scene.dumps("mine") == "0"


def test_endpoints_that_never_had_a_dump_go_with_their_pod(scene: Scene) -> None:
    scene.endpoint(scene.pod())
    assert scene.whats() == []
    scene.delete_pod()
    assert scene.whats() == [MARK]
    assert scene.whats() == [DELETE]
    assert not scene.has_endpoint()
    assert not (scene.root / ".gone" / scene.namespace).exists()


def test_a_broken_pod_holds_up_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = scene.gone("a")
    _, second = scene.gone("b")
    broken = first.parent.stat().st_ino
    real = beneath.subdirectories

    def subdirectories(fd: int) -> list[str]:
        if os.fstat(fd).st_ino == broken:
            raise OSError(5, "Input/output error")
        return real(fd)

    monkeypatch.setattr(beneath, "subdirectories", subdirectories)
    assert scene.whats() == [REMOVE, DELETE]
    assert first.exists()
    assert scene.has_endpoint("a")
    assert not second.exists()


@pytest.fixture
def keeps(scene: Scene) -> Iterator[None]:
    """Have admission refuse that the endpoint `kept` is deleted in the scene's namespace."""
    name = {"name": "keeps-an-endpoint"}
    kind = "ValidatingAdmissionPolicy"
    rule = {
        "apiGroups": [names.GROUP],
        "apiVersions": ["*"],
        "resources": [names.RESOURCE],
        "operations": ["DELETE"],
        "resourceNames": ["kept"],
    }
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], **only},
        "validations": [{"expression": "false", "message": "it is kept"}],
    }
    binding = {"policyName": name["name"], "validationActions": ["Deny"]}
    for of, spec in ((kind, policy), (f"{kind}Binding", binding)):
        made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": of, "metadata": name, "spec": spec}
        scene.plane.kubectl("create", "-f", "-", stdin=json.dumps(made))
    yield
    for of in (f"{kind}Binding", kind):
        scene.plane.kubectl("delete", of, name["name"])


def test_an_endpoint_that_admission_keeps_holds_up_no_other(scene: Scene, keeps: None) -> None:
    _, kept = scene.gone("kept")
    _, other = scene.gone("other")
    refused = ("delete", PLURAL, "kept", "-n", scene.namespace, "--dry-run=server")
    wait_for("it is refused", lambda: b"it is kept" in scene.plane.run(*refused).stderr)
    assert sorted(scene.whats()) == sorted([REMOVE, DELETE] * 2)
    assert not kept.exists()
    assert not other.exists()
    assert scene.has_endpoint("kept")
    assert not scene.has_endpoint("other")
    assert scene.whats() == [DELETE], "it is tried again"


def test_only_names_are_read_of_pods_that_are_there(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    place = scene.root / scene.namespace / scene.pod() / "app"
    place.mkdir(parents=True)
    for number in range(20_000):
        (place / f"20261124T040000Z-web-{number}-{number:08x}").mkdir()
    read: list[str] = []
    real: Callable[..., bytes] = beneath.read

    def reading(fd: int, name: str, limit: int) -> bytes:
        read.append(name)
        return real(fd, name, limit)

    monkeypatch.setattr(beneath, "read", reading)
    assert scene.whats() == []
    assert set(read) == {".cluster"}


def _ago(seconds: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)


def _timeless(action: Action) -> tuple[str, str, str]:
    return action.what, action.namespace, action.poduid
