"""The controller behind a real kube-apiserver: announcements, endpoints, status, Events, and who leads.

Not here: what is collected and which gateways are marked (test_collect, test_gateways).
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import store as layout
from coredump_shim import names
from testbed.cluster.controlplane import ControlPlane, delete_namespace, pod_manifest
from testbed.cluster.product import Product
from testbed.cluster.program import PATH, Program
from testbed.hung import hung
from testbed.waiting import wait_for
from tests.support.dumps import announce, write_dump

ROOT = Path(__file__).parents[2]
OLD, NEW = "10000000-0000-4000-8000-000000000001", "20000000-0000-4000-8000-000000000002"
Start = Callable[..., Program]


@pytest.fixture(scope="module")
def plain(product: Product) -> Iterator[Product]:
    """Return the product without its controller: these tests start their own.

    Some pod is there: where none is, a controller does not believe it, and a pass fails.
    """
    controllers = [gateway.controller for gateway in product.gateways if gateway.controller is not None]
    for controller in controllers:
        controller.stop()
    make_pod(product.plane, "default", "somebody")
    yield product
    product.plane.kubectl("delete", "pod", "somebody", "--grace-period=0", "--force")
    for controller in controllers:
        controller.start()


@pytest.fixture
def command(plain: Product, plane: ControlPlane, store: Path) -> list[str]:
    config = plane.token_kubeconfig(names.SYSTEM_NAMESPACE, names.MANAGER)
    program = [sys.executable, "-m", "coredump_shim", "controller"]
    return [*program, "--kubeconfig", str(config), "--store", str(store), "--lease-seconds", "3"]


@pytest.fixture
def start(command: list[str], tmp_path: Path) -> Iterator[Start]:
    """Return what starts a controller with more options, under a name."""
    running = []

    def started(name: str = "first", *options: str) -> Program:
        program = Program(
            name, [*command, "--identity", name, *options], tmp_path / f"{name}.log", environment=ENVIRONMENT
        )
        running.append(program)
        program.start()
        return program

    yield started
    for program in running:
        program.stop()


ENVIRONMENT = {"PATH": PATH, "PYTHONPATH": f"{ROOT / 'handler'}:{ROOT / 'shim'}"}


NOWHERE = """
apiVersion: v1
kind: Config
clusters: [{name: x, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: x, user: {token: x}}]
contexts: [{name: x, context: {cluster: x, user: x}}]
current-context: x
"""


@pytest.fixture
def once(command: list[str]) -> Callable[..., str]:
    """Return what has a controller do one pass, and returns what it says."""

    def done(*options: str, code: int = 0) -> str:
        ran = subprocess.run(
            [*command, *(options or ("--once",))],
            check=False,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return done


def crash(store: Path, namespace: str, **facts: Any) -> Path:
    """Write a dump and announce it."""
    dump = write_dump(store, namespace=namespace, **facts)
    announce(store, dump)
    return dump


def make_pod(plane: ControlPlane, namespace: str, name: str = "web") -> str:
    """Make a pod and return its UID."""
    plane.kubectl("apply", "-f", "-", stdin=pod_manifest(namespace, name))
    return plane.kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.metadata.uid}")


def endpoint(plane: ControlPlane, namespace: str, name: str = "web") -> dict[str, Any]:
    """Return an endpoint, empty where there is none."""
    path = f"/apis/{names.GROUP}/{names.STORED}/namespaces/{namespace}/{names.RESOURCE}/{name}"
    said = plane.run("get", "--raw", path)
    found: dict[str, Any] = json.loads(said.stdout) if said.returncode == 0 else {}
    return found


def events(plane: ControlPlane, namespace: str, reason: str) -> list[dict[str, Any]]:
    """Return the Events of a namespace with this reason."""
    said = json.loads(plane.kubectl("get", "events", "-n", namespace, "-o", "json"))
    return [event for event in said["items"] if event["reason"] == reason]


def dumps_of(plane: ControlPlane, namespace: str, name: str = "web") -> int:
    """Return how many dumps an endpoint's status counts, -1 without one."""
    return int(endpoint(plane, namespace, name).get("status", {}).get("dumps", -1))


def is_empty(store: Path) -> bool:
    """Whether no announcement waits."""
    return not [name for name in os.listdir(store / layout.INBOX) if not name.startswith(".")]


def test_an_announcement_becomes_an_endpoint_and_an_event(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    start()
    uid = make_pod(plane, namespace)
    dump = crash(store, namespace, poduid=uid, executable="/app/we\x1b[31mb")
    wait_for("the announcement is done", lambda: is_empty(store))
    found = endpoint(plane, namespace)
    assert found["spec"] == {"poduid": uid}
    assert found["metadata"]["labels"] == {names.MANAGED_BY: names.MANAGER}
    assert found["status"]["dumps"] == 1
    assert found["status"]["reason"] == "SIGSEGV"
    assert found["status"]["newest"][0]["id"] == dump.name
    said = plane.kubectl("describe", "pod", "web", "-n", namespace)
    assert "CoreDumped" in said
    assert "coredump-controller" in said
    assert "/app/we\\x1b[31mb in container app died of SIGSEGV; its core of 2.0Ki is kept" in said
    path = re.search(r"kubectl get --raw '([^']+)' > coredump.tar.gz", said)
    assert path is not None
    archive = plane.run("get", "--raw", path[1])
    assert archive.returncode == 0, archive.stderr
    assert archive.stdout[:2] == b"\x1f\x8b"


def test_a_crash_loop_is_one_event_that_counts(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    uid = make_pod(plane, namespace)
    for _ in range(100):
        crash(store, namespace, poduid=uid, core=b"\x7fELF")
    start()
    for _ in range(100):
        crash(store, namespace, poduid=uid, core=b"\x7fELF")
    wait_for("all announcements are done", lambda: is_empty(store))
    (event,) = events(plane, namespace, "CoreDumped")
    assert event["count"] == 200
    assert dumps_of(plane, namespace) == 200
    # A write for the first hundred, and one every few seconds for what came meanwhile.
    assert int(event["metadata"]["resourceVersion"]) > 0
    managed = endpoint(plane, namespace)["metadata"]["generation"]
    assert managed == 1  # nothing but status and annotation was ever written


def test_refused_crashes_are_counted(plane: ControlPlane, namespace: str, store: Path, start: Start) -> None:
    start()
    uid = make_pod(plane, namespace)
    until = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    tally = crash(store, namespace, poduid=uid, refused="a crash loop", crashes=7, until=until)
    wait_for("the announcement is done", lambda: is_empty(store))
    (event,) = events(plane, namespace, "CoreDumpRefused")
    assert event["type"] == "Warning"
    assert event["count"] == 7
    assert "died of SIGSEGV; no core was kept (7 crashes): a crash loop" in event["message"]
    info = tally / layout.INFO
    draft = tally / ".draft"
    draft.write_text(info.read_text().replace('"crashes": 7', '"crashes": 9'))
    draft.rename(info)
    announce(store, tally)
    wait_for("it counted on", lambda: events(plane, namespace, "CoreDumpRefused")[0]["count"] == 9)
    wait_for("the announcement is done", lambda: is_empty(store))
    assert endpoint(plane, namespace)["status"]["refused"] == 9


def test_a_replaced_pod_has_its_endpoint_replaced(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    crash(store, namespace, poduid=OLD, when=now)
    once()
    before = endpoint(plane, namespace)
    assert before["spec"]["poduid"] == OLD
    crash(store, namespace, poduid=NEW, when=now + datetime.timedelta(seconds=20))
    once()
    late = crash(store, namespace, poduid=OLD, when=now + datetime.timedelta(seconds=10))
    once()
    after = endpoint(plane, namespace)
    assert after["spec"]["poduid"] == NEW
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"]["dumps"] == 1
    # The old pod's late crash is told without a command that would fetch another's.
    said = [event["message"] for event in events(plane, namespace, "CoreDumped")]
    assert [text for text in said if f"an endpoint with spec.poduid {OLD} gives it" in text], (
        said,
        late.name,
    )
    once()
    assert endpoint(plane, namespace) == after  # a pass writes nothing where nothing changed


def test_an_endpoint_that_a_user_made_stays_his(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    for name in ("web", "mine"):
        make_endpoint(plane, namespace, name, OLD)
    first = write_dump(store, namespace=namespace, poduid=OLD)
    once()
    assert dumps_of(plane, namespace) == dumps_of(plane, namespace, "mine") == 1
    crash(store, namespace, poduid=NEW)
    once()
    assert endpoint(plane, namespace)["spec"]["poduid"] == OLD
    assert dumps_of(plane, namespace) == 1
    first.rename(store / layout.INBOX / ".gone")
    once()
    assert dumps_of(plane, namespace) == dumps_of(plane, namespace, "mine") == 0
    assert endpoint(plane, namespace, "mine")["metadata"].get("labels") is None


def test_an_annotation_that_a_user_wrote_decides_nothing(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    crash(store, namespace, poduid=OLD)
    once()
    before = endpoint(plane, namespace)["metadata"]["annotations"][names.OBSERVED]
    for lie in (json.dumps({"poduid": NEW, "signature": "", "storedBytes": 1 << 60}), "\n\x1b[31m"):
        plane.kubectl(
            "annotate", names.SHORT, "web", "-n", namespace, f"{names.OBSERVED}={lie}", "--overwrite"
        )
        said = once()
        assert endpoint(plane, namespace)["metadata"]["annotations"][names.OBSERVED] == before
        assert "\x1b" not in said


def test_a_deleted_endpoint_comes_back_and_goes_with_the_dumps(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    dump = crash(store, namespace, poduid=OLD)
    once()
    plane.kubectl("delete", names.SHORT, "web", "-n", namespace)
    once()
    assert dumps_of(plane, namespace) == 1
    dump.rename(store / layout.INBOX / f".{dump.name}.gone")
    once()
    assert not endpoint(plane, namespace)


def test_a_deleted_endpoint_comes_back_in_a_moment(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    crash(store, namespace, poduid=OLD)
    start("first", "--resync", "3600")
    wait_for("the announcement is done", lambda: is_empty(store))
    make_endpoint(plane, namespace, "mine", OLD)
    wait_for("the watch has seen it", lambda: dumps_of(plane, namespace, "mine") == 1)
    plane.kubectl("delete", names.SHORT, "web", "mine", "-n", namespace)
    wait_for("it is back", lambda: dumps_of(plane, namespace) == 1)
    assert endpoint(plane, namespace)["metadata"]["labels"] == {names.MANAGED_BY: names.MANAGER}
    assert not endpoint(plane, namespace, "mine")


def test_the_next_namespace_of_the_name_is_told_nothing_of_the_one_before(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    dump = crash(store, namespace, poduid=OLD, when=before)
    said = once("--dry-run")
    assert f"endpoint {namespace}/" not in said
    assert f"of pod {namespace}/" not in said
    make_endpoint(plane, namespace, "mine", OLD)
    once()
    assert not endpoint(plane, namespace)
    assert not events(plane, namespace, "CoreDumped")
    assert endpoint(plane, namespace, "mine")["status"]["dumps"] == 0
    assert "newest" not in endpoint(plane, namespace, "mine")["status"]
    assert not dump.exists()


def make_endpoint(plane: ControlPlane, namespace: str, name: str, poduid: str, **metadata: Any) -> None:
    """Make an endpoint as a person does."""
    made = {
        "apiVersion": f"{names.GROUP}/{names.STORED}",
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"poduid": poduid},
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(made))


def test_what_people_make_has_its_status_in_a_moment_and_is_then_left_alone(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    crash(store, namespace, poduid=OLD)
    start()
    wait_for("the announcement is done", lambda: is_empty(store))
    make_endpoint(plane, namespace, "mine", OLD)
    wait_for("it has a status", lambda: dumps_of(plane, namespace, "mine") == 1)
    annotations = endpoint(plane, namespace)["metadata"]["annotations"]
    make_endpoint(plane, namespace, "copied", NEW, annotations=annotations)
    wait_for("the copy has one of its own", lambda: dumps_of(plane, namespace, "copied") == 0)
    # Later dumps reach the status of all of a pod's endpoints.
    crash(store, namespace, poduid=OLD)
    wait_for("mine has both", lambda: dumps_of(plane, namespace, "mine") == 2)
    before = {name: endpoint(plane, namespace, name) for name in ("web", "mine", "copied")}
    make_endpoint(plane, namespace, "another", OLD)
    wait_for("another has a status", lambda: dumps_of(plane, namespace, "another") == 2)
    assert {name: endpoint(plane, namespace, name) for name in before} == before


def test_dumps_that_are_purged_leave_the_status_in_a_moment(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    controller = start()
    crash(store, namespace, poduid=OLD, container="app")
    crash(store, namespace, poduid=OLD, container="sidecar")
    wait_for("the announcements are done", lambda: is_empty(store))
    make_endpoint(plane, namespace, "mine", OLD)
    wait_for("it has a status", lambda: dumps_of(plane, namespace, "mine") == 2)
    told = sum(event["count"] for event in events(plane, namespace, "CoreDumped"))
    purge = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{namespace}/{names.RESOURCE}/mine/dump"
    plane.kubectl("delete", "--raw", f"{purge}?container=app")
    wait_for("one is left", lambda: dumps_of(plane, namespace) == dumps_of(plane, namespace, "mine") == 1)
    plane.kubectl("delete", "--raw", purge)
    wait_for("ours goes", lambda: not endpoint(plane, namespace))
    wait_for("mine is empty", lambda: dumps_of(plane, namespace, "mine") == 0)
    wait_for("no announcement is left", lambda: is_empty(store))
    assert sum(event["count"] for event in events(plane, namespace, "CoreDumped")) == told
    assert "put into" not in controller.log.read_text()


def test_the_watch_outlives_kube_apiserver(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    crash(store, namespace, poduid=OLD)
    controller = start("first", "--lease-seconds", "60")
    wait_for("the announcement is done", lambda: is_empty(store))
    with plane.without_apiserver():
        wait_for("it says so", lambda: "watch: kube-apiserver" in controller.log.read_text())
    make_endpoint(plane, namespace, "mine", OLD)
    wait_for("it has a status", lambda: dumps_of(plane, namespace, "mine") == 1, 60)
    controller.stop()
    assert "still at work" not in controller.log.read_text()


def test_a_dry_run_changes_nothing(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    dump = crash(store, namespace, poduid=OLD)
    (store / layout.INBOX / "rubbish").write_text("rubbish")
    before = sorted(map(str, store.rglob("*")))
    said = once("--dry-run")
    assert f"would make endpoint {namespace}/web for pod {OLD}\n" in said
    assert f"would say CoreDumped of pod {namespace}/web: " in said
    assert "would put aside announcement 'rubbish': its name is no dump's id\n" in said
    assert sorted(map(str, store.rglob("*"))) == before
    assert not endpoint(plane, namespace)
    assert not events(plane, namespace, "CoreDumped")
    (store / layout.INBOX / "rubbish").unlink()
    (store / layout.INBOX / dump.name).unlink()


def test_a_dry_run_says_that_there_is_nothing_to_do(once: Callable[..., str]) -> None:
    def is_idle() -> bool:
        once()  # other tests' namespaces end meanwhile
        return once("--dry-run") == "there is nothing to do\n"

    wait_for("nothing is left to do", is_idle, 60)


def test_what_was_doubted_is_looked_at_again_after_seconds(
    plane: ControlPlane, start: Start, tmp_path: Path
) -> None:
    own = tmp_path / "store"
    (own / layout.INBOX).mkdir(parents=True)
    (own / layout.CLUSTER).write_text(f"{OLD}\n")
    dump = write_dump(own, namespace="not-there")
    controller = start("first", "--store", str(own), "--resync", "3600")
    wait_for("it doubts", lambda: "nothing is collected: " in controller.log.read_text())
    assert dump.exists()
    uid = plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    (own / layout.CLUSTER).write_text(f"{uid}\n")
    wait_for("it collects", lambda: not dump.exists())


def test_hostile_announcements_hold_up_nobody(
    plane: ControlPlane, namespace: str, store: Path, start: Start, tmp_path: Path
) -> None:
    inbox = store / layout.INBOX
    inbox.mkdir(exist_ok=True)
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    ids = [f"2026010{digit}T000000Z-x-1-0000000{digit}" for digit in range(1, 9)]
    (inbox / ids[0]).symlink_to(secret)
    (inbox / ids[1]).mkdir()
    (inbox / ids[1] / "deep").mkdir()
    (inbox / ids[2]).write_bytes(b"x" * 10_000_000)
    (inbox / ids[3]).write_text(f"../../{namespace}/{OLD}/app/{ids[3]}\n")
    (inbox / ids[4]).write_text(f"{namespace}/../app/{ids[4]}\n")
    os.mkfifo(inbox / ids[5])
    (inbox / ids[6]).write_text(f"{namespace}/{OLD}/app/{ids[0]}\n")
    (inbox / ids[7]).write_bytes(b"\xff\xfe")
    os.close(os.open(bytes(inbox) + b"/\xff\n\x1b[31m" + b"\xff" * 200, os.O_CREAT | os.O_WRONLY))
    crash(store, namespace, poduid=OLD)
    controller = start()
    wait_for("nothing waits", lambda: is_empty(store))
    assert dumps_of(plane, namespace) == 1
    assert len(os.listdir(inbox / ".bad")) == 9
    assert secret.read_text() == "a secret"
    log = controller.log.read_text()
    assert "\x1b" not in log
    assert log.count("put into .inbox/.bad") == 9


def test_two_controllers_one_acts_and_the_other_takes_over(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    first = start("first")
    wait_for("the first leads", lambda: "first" in holder(plane))
    second = start("second")
    crash(store, namespace, poduid=OLD)
    wait_for("it is done", lambda: is_empty(store))
    assert "make endpoint" in first.log.read_text()
    wait_for("the second waits", lambda: "leads; waiting" in second.log.read_text())
    first.kill()
    crash(store, namespace, poduid=NEW, pod="other")
    wait_for("the second does it", lambda: is_empty(store))
    assert "second" in holder(plane)
    assert "make endpoint" in second.log.read_text()
    second.stop()
    assert holder(plane) == ""


def test_a_halted_leader_does_nothing_more(
    plane: ControlPlane, namespace: str, start: Start, tmp_path: Path
) -> None:
    own = tmp_path / "store"  # in which nobody else works
    (own / layout.INBOX).mkdir(parents=True)
    first = start("first", "--store", str(own))
    wait_for("the first leads", lambda: "first" in holder(plane))
    worker = worker_of(first)
    os.kill(worker, signal.SIGSTOP)
    crash(own, namespace, poduid=OLD)
    try:
        start("second")
        wait_for("the second leads", lambda: "second" in holder(plane))
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for("the first ended its work", lambda: "could not renew the lease" in first.log.read_text())
    assert "second" in holder(plane)
    assert not is_empty(own)
    assert not endpoint(plane, namespace)


def test_once_is_refused_while_another_leads(
    plane: ControlPlane, start: Start, once: Callable[..., str]
) -> None:
    start()
    wait_for("it leads", lambda: "first" in holder(plane))
    said = once(code=1)
    assert re.search(r"first_\w+ leads; waiting, for 6 s at most", said)
    assert re.search(r"no pass was made: first_\w+ leads", said)


def test_once_says_why_it_has_no_lease(plain: Product, tmp_path: Path, store: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(NOWHERE)
    program = [sys.executable, "-m", "coredump_shim", "controller", "--once", "--lease-seconds", "1"]
    ran = subprocess.run(
        [*program, "--kubeconfig", str(nowhere), "--store", str(store)],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "no pass was made: the lease cannot be had: kube-apiserver does not answer" in ran.stderr
    assert "port=9" in ran.stderr
    assert "Connection refused" in ran.stderr


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="missing: /dev/fuse; modprobe fuse")
def test_a_store_that_hangs_ends_neither_the_lease_nor_a_stop(
    plane: ControlPlane, start: Start, tmp_path: Path
) -> None:
    own = tmp_path / "store"
    own.mkdir()
    first = start("first", "--store", str(own))
    wait_for("it leads", lambda: "first" in holder(plane))
    with hung(own):
        wait_for(
            "its inbox hangs too, beside what asks whether the store answers", lambda: hanging(first) > 1
        )
        before = renewals(plane)
        wait_for("it goes on renewing", lambda: renewals(plane) > before)
        first.stop()
        assert "the lease is left to run out" in first.log.read_text()
        start("first", "--store", str(own))
        wait_for("it leads: nobody else would", lambda: "first" in holder(plane))
        start("second")
        wait_for("whose store answers leads", lambda: "second" in holder(plane))


def hanging(controller: Program) -> int:
    """Return how many threads of a controller wait for a file system that does not answer."""
    waits = [task.read_text() for task in Path("/proc").glob(f"{worker_of(controller)}/task/*/wchan")]
    return sum("fuse" in wait or "request_wait_answer" in wait for wait in waits)


def worker_of(controller: Program) -> int:
    """Return the id of the process that a controller's supervisor keeps."""
    return int(Path(f"/proc/{controller.pid}/task/{controller.pid}/children").read_text())


def renewals(plane: ControlPlane) -> int:
    """Return a number that grows whenever the lease is renewed."""
    path = "jsonpath={.metadata.resourceVersion}"
    return int(plane.kubectl("get", "lease", names.LEASE, "-n", names.SYSTEM_NAMESPACE, "-o", path))


def holder(plane: ControlPlane) -> str:
    """Return who holds the lease."""
    path = "jsonpath={.spec.holderIdentity}"
    lease = ("get", "lease", names.LEASE, "-n", names.SYSTEM_NAMESPACE, "-o", path)
    return plane.run(*lease).stdout.decode()


def test_a_leader_that_is_killed_at_work_loses_nothing(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    pods = [f"pod-{number}" for number in range(30)]
    for number, pod in enumerate(pods):
        crash(store, namespace, pod=pod, poduid=f"30000000-0000-4000-8000-{number:012}")
    killed = start("first")
    wait_for("it is at work", lambda: len(os.listdir(store / layout.INBOX)) < 30)
    killed.kill()
    start("second")
    wait_for("all are done", lambda: is_empty(store))
    assert [dumps_of(plane, namespace, pod) for pod in pods] == [1] * 30
    assert [event["count"] for event in events(plane, namespace, "CoreDumped")] == [1] * 30


def test_it_goes_on_after_kube_apiserver_was_away(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    controller = start("first", "--lease-seconds", "15")
    wait_for("it leads", lambda: "first" in holder(plane))
    with plane.without_apiserver():
        crash(store, namespace, poduid=OLD)
        wait_for("it says so", lambda: "kube-apiserver does not answer" in controller.log.read_text())
    wait_for("it is done", lambda: is_empty(store), 60)
    assert dumps_of(plane, namespace) == 1


def test_a_terminating_namespace_is_left_alone(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    doomed = f"{namespace}-doomed"
    plane.kubectl("create", "namespace", doomed)
    held = json.loads(plane.kubectl("get", "namespace", doomed, "-o", "json"))
    crash(store, doomed, poduid=OLD)
    once()
    assert "finalizers" not in endpoint(plane, doomed)["metadata"]
    plane.kubectl("create", "configmap", "held", "-n", doomed)
    plane.kubectl(
        "patch",
        "configmap",
        "held",
        "-n",
        doomed,
        "-p",
        '{"metadata": {"finalizers": ["test.invalid/held"]}}',
    )
    plane.kubectl("delete", "namespace", doomed, "--wait=false")
    wait_for("its endpoint is gone", lambda: not endpoint(plane, doomed))
    crash(store, doomed, poduid=OLD)
    assert f"endpoint {doomed}/" not in once("--dry-run")
    once()
    assert is_empty(store)
    assert not endpoint(plane, doomed)
    plane.kubectl("patch", "configmap", "held", "-n", doomed, "-p", '{"metadata": {"finalizers": null}}')
    delete_namespace(plane, doomed)
    assert held["status"]["phase"] == "Active"


def test_the_first_crash_of_a_pod_that_is_there_makes_the_store_its_clusters(
    plane: ControlPlane, namespace: str, tmp_path: Path, start: Start
) -> None:
    """So that a purge right behind it is believed."""
    root = tmp_path / "new"
    root.mkdir()
    start("first", "--store", str(root), "--resync", "3600")
    wait_for("it leads", lambda: "first" in holder(plane))
    crash(root, namespace, poduid=make_pod(plane, namespace))
    wait_for("the store is ours", (root / layout.CLUSTER).exists)
    assert dumps_of(plane, namespace) == 1


def test_what_a_namespace_left_goes_when_it_ends(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    doomed = f"{namespace}-doomed"
    plane.kubectl("create", "namespace", doomed)
    kept = write_dump(store, namespace=namespace, poduid=OLD)
    dump = crash(store, doomed, poduid=OLD)
    start("first", "--resync", "3600")
    wait_for("the announcement is done", lambda: is_empty(store))
    wait_for("the first pass is at its end", lambda: dumps_of(plane, namespace) == 1)
    delete_namespace(plane, doomed)
    wait_for("its dumps are gone", lambda: not dump.exists())
    assert kept.exists()


def test_old_crashes_are_no_news(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
    # Its pod is there, or it would be of a namespace that was before.
    crash(store, namespace, poduid=make_pod(plane, namespace), when=long_ago)
    once()
    assert dumps_of(plane, namespace) == 1
    assert not events(plane, namespace, "CoreDumped")


def test_a_quota_that_is_nearly_used_up_is_told(
    plane: ControlPlane, namespace: str, store: Path, start: Start
) -> None:
    start("first", "--namespace-quota", "100k")
    wait_for("it leads", lambda: "first" in holder(plane))
    crash(store, namespace, poduid=OLD, core=os.urandom(95_000))
    wait_for("the announcement is done", lambda: is_empty(store))
    (event,) = events(plane, namespace, "LowCoredumpSpace")
    assert f"namespace {namespace} uses" in event["message"]


def test_a_static_pod_is_found_by_its_mirror(
    plane: ControlPlane, namespace: str, store: Path, once: Callable[..., str]
) -> None:
    made = json.loads(pod_manifest(namespace, "static-node-1"))
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "f" * 32}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    crash(store, namespace, pod="static-node-1", poduid="f" * 32)
    once()
    assert "CoreDumped" in plane.kubectl("describe", "pod", "static-node-1", "-n", namespace)
    assert endpoint(plane, namespace, "static-node-1")["spec"]["poduid"] == "f" * 32
