"""What a caller may, reviews being answered by a server that a test instructs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from flask import Flask, g

from coredump_shim import attributes, authz, names, reviews, status
from coredump_shim.attributes import Resource
from coredump_shim.authz import Authorizer
from coredump_shim.caller import Caller
from coredump_shim.reviews import Reviews
from coredump_shim.status import ApiError
from testbed.waiting import wait_for

from .test_cluster import server

ALICE = Caller("alice", "7", ("devs", "a, system:masters"), {"scopes": ("one", "two")})
DUMP = Resource("get", "demo", names.GROUP, names.VERSION, names.RESOURCE, "dump", "web")
NS = f"{names.ROOT}/namespaces/demo/{names.RESOURCE}"


class Kubernetes:
    """What kube-apiserver says to each review, and what it was asked."""

    def __init__(self) -> None:
        self.says: Any = {"allowed": True}
        self.code = 201
        self.asked: list[Any] = []
        self.go = threading.Event()
        self.go.set()

    def answer(self, asked: str, body: bytes) -> tuple[int, bytes]:
        assert asked == "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
        self.asked.append(json.loads(body)["spec"])
        self.go.wait(30)
        return self.code, json.dumps({"status": self.says}).encode()


@pytest.fixture
def kubernetes() -> Kubernetes:
    return Kubernetes()


@pytest.fixture
def asked_of(tmp_path: Path, kubernetes: Kubernetes) -> Iterator[Reviews]:
    with server(tmp_path, kubernetes.answer) as cluster:
        yield Reviews(cluster)


@pytest.fixture
def authorizer(asked_of: Reviews) -> Authorizer:
    return Authorizer(asked_of)


def refused(authorizer: Authorizer, caller: Caller = ALICE, wanted: attributes.Attributes = DUMP) -> ApiError:
    with pytest.raises(ApiError) as caught:
        authorizer.check(caller, wanted)
    return caught.value


def test_the_whole_question_is_asked_once(authorizer: Authorizer, kubernetes: Kubernetes) -> None:
    authorizer.check(ALICE, DUMP)
    authorizer.check(ALICE, DUMP)
    assert kubernetes.asked == [
        {
            "user": "alice",
            "uid": "7",
            "groups": ["devs", "a, system:masters"],
            "extra": {"scopes": ["one", "two"]},
            "resourceAttributes": {
                "verb": "get",
                "namespace": "demo",
                "group": "coredump.fujitsu.com",
                "version": "v1alpha1",
                "resource": "coredumpendpoints",
                "subresource": "dump",
                "name": "web",
            },
        }
    ]


@pytest.mark.parametrize(
    "other",
    [
        Caller("alice"),
        Caller("bob", "7", ALICE.groups, ALICE.extra),
        Caller("alice", "8", ALICE.groups, ALICE.extra),
        Caller("alice", "7", ("devs", "a", "system:masters2"), ALICE.extra),
        Caller("alice", "7", ALICE.groups, {"scopes": ("one, two",)}),
    ],
)
def test_another_caller_is_another_question(
    authorizer: Authorizer, kubernetes: Kubernetes, other: Caller
) -> None:
    authorizer.check(ALICE, DUMP)
    kubernetes.says = {"allowed": False}
    assert refused(authorizer, other).code == 403
    authorizer.check(ALICE, DUMP)


def test_masters_are_not_reviewed(authorizer: Authorizer, kubernetes: Kubernetes) -> None:
    authorizer.check(Caller("admin", groups=("system:masters",)), DUMP)
    assert kubernetes.asked == []
    kubernetes.says = {"allowed": False}
    assert refused(authorizer, Caller("x", groups=("a, system:masters", "system:masters "))).code == 403


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"allowed": False},
        {"allowed": "true"},
        {"allowed": 1},
        {"allowed": None},
        {"allowed": True, "denied": True},
    ],
)
def test_what_does_not_say_yes_is_no(authorizer: Authorizer, kubernetes: Kubernetes, says: Any) -> None:
    kubernetes.says = says
    assert refused(authorizer).code == 403
    assert refused(authorizer).code == 403
    assert len(kubernetes.asked) == 1, "that is remembered too"


@pytest.mark.parametrize(
    ("code", "says"), [(500, {}), (403, {}), (404, {}), (302, {}), (201, None), (201, "yes")]
)
def test_no_review_is_500_and_not_remembered(
    authorizer: Authorizer, kubernetes: Kubernetes, code: int, says: Any
) -> None:
    kubernetes.code, kubernetes.says = code, says
    assert refused(authorizer).code == 500
    kubernetes.code, kubernetes.says = 201, {"allowed": True}
    authorizer.check(ALICE, DUMP)


def test_our_own_401_is_not_the_callers(authorizer: Authorizer, kubernetes: Kubernetes) -> None:
    kubernetes.code = 401
    error = refused(authorizer)
    assert (error.code, error.reason, error.retry_after) == (503, "ServiceUnavailable", None)
    assert "the shim's own credentials" in error.message
    kubernetes.code, kubernetes.says = 201, {"allowed": True}
    authorizer.check(ALICE, DUMP)


def test_the_words_are_those_of_kubernetes(authorizer: Authorizer, kubernetes: Kubernetes) -> None:
    kubernetes.says = {"allowed": False}
    error = refused(authorizer)
    assert error.message == (
        'coredumpendpoints.coredump.fujitsu.com "web" is forbidden: User "alice" cannot get resource '
        '"coredumpendpoints/dump" in API group "coredump.fujitsu.com" in the namespace "demo"'
    )
    assert error.details == {"group": names.GROUP, "kind": names.RESOURCE, "name": "web"}
    kubernetes.says = {"allowed": False, "reason": "no"}
    everywhere = refused(authorizer, wanted=attributes.parse("GET", f"{names.ROOT}/{names.RESOURCE}", {}))
    assert everywhere.message == (
        'coredumpendpoints.coredump.fujitsu.com is forbidden: User "alice" cannot list resource '
        '"coredumpendpoints" in API group "coredump.fujitsu.com" at the cluster scope: no'
    )
    path = refused(authorizer, wanted=attributes.Path("get", "/version"))
    assert path.message == 'forbidden: User "alice" cannot get path "/version": no'
    hostile = refused(authorizer, Caller('a"\n\u2028b'), DUMP)
    assert '"a\\"\\n' in hostile.message


def test_identical_questions_are_asked_once_at_a_time(authorizer: Authorizer, kubernetes: Kubernetes) -> None:
    kubernetes.go.clear()
    with ThreadPoolExecutor(16) as threads:
        checks = [threads.submit(authorizer.check, ALICE, DUMP) for _ in range(16)]
        wait_for("one asks", lambda: bool(kubernetes.asked))
        kubernetes.go.set()
        for check in checks:
            check.result(30)
    assert len(kubernetes.asked) == 1


def test_questions_leave_threads_for_others(
    tmp_path: Path, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "AT_ONCE", 1)
    with server(tmp_path, kubernetes.answer) as cluster, ThreadPoolExecutor(1) as threads:
        authorizer = Authorizer(Reviews(cluster))
        kubernetes.go.clear()
        first = threads.submit(authorizer.check, ALICE, DUMP)
        wait_for("one asks", lambda: bool(kubernetes.asked))
        assert refused(authorizer, Caller("bob")).code == 429
        assert refused(authorizer).code == 429, "nor may the same answer be waited for"
        kubernetes.go.set()
        first.result(30)
        authorizer.check(Caller("bob"), DUMP)


@pytest.fixture
def app(asked_of: Reviews) -> Flask:
    app = Flask("test", static_folder=None)
    status.register(app)

    @app.before_request
    def somebody() -> None:
        g.caller = ALICE

    authz.register(app, asked_of)
    app.add_url_rule("/<path:path>", view_func=lambda path: path)
    return app


@pytest.mark.parametrize(
    "path",
    [
        "//version",
        "/version/",
        "/%76ersion",
        "/x/../version",
        "/./version",
        f"{NS}%2Fweb/dump",
        f"{NS}//web/dump",
        f"{NS}/web/./dump",
        f"{NS}/web/dump%00",
        "http://localhost/version",
    ],
)
def test_odd_paths_are_not_even_reviewed(app: Flask, kubernetes: Kubernetes, path: str) -> None:
    answer = app.test_client().get("/version", environ_overrides=_environ(path))
    assert answer.status_code == 404
    assert kubernetes.asked == []


def _environ(uri: str) -> dict[str, str]:
    return {"REQUEST_URI": uri, "PATH_INFO": unquote(uri if uri.startswith("//") else urlsplit(uri).path)}


def test_what_is_served_is_reviewed(app: Flask, kubernetes: Kubernetes) -> None:
    client = app.test_client()
    assert client.get("/version").status_code == 200
    assert client.get(f"{NS}?watch=1&fieldSelector=metadata.name%3Dweb").status_code == 200
    path, watch = kubernetes.asked
    assert path["nonResourceAttributes"] == {"verb": "get", "path": "/version"}
    assert (watch["resourceAttributes"]["verb"], watch["resourceAttributes"]["name"]) == ("watch", "web")
    kubernetes.says = {"allowed": False}
    assert client.get("/not-served").status_code == 403
    assert client.get("/healthz").status_code == 200
