"""Who makes a request, reviews being answered by a server that a test instructs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify

from coredump_shim import authn, caller, names, rawheaders, status
from coredump_shim.authn import Authenticator
from coredump_shim.caller import Caller
from coredump_shim.reviews import Reviews
from coredump_shim.status import ApiError
from coredump_shim.trust import CONFIGMAP, Trust

from .conftest import json_of
from .test_cluster import server
from .test_trust import DATA

CN = (names.CLIENT_CN.lower(), b"front-proxy-client")
USER = ("x-remote-user", b"alice")


class Kubernetes:
    """What kube-apiserver answers, and which tokens were reviewed."""

    def __init__(self) -> None:
        self.users: dict[str, Any] = {}
        self.failing = False
        self.reviewed: list[str] = []

    def answer(self, asked: str, body: bytes) -> tuple[int, bytes]:
        if asked == f"GET {CONFIGMAP}":
            return 200, json.dumps({"data": DATA}).encode()
        assert asked == "POST /apis/authentication.k8s.io/v1/tokenreviews"
        token = json.loads(body)["spec"]["token"]
        self.reviewed.append(token)
        if self.failing:
            return 403, b'{"kind":"Status","message":"the shim may not"}'
        return 201, json.dumps({"status": self.users.get(token, {"authenticated": False})}).encode()


@pytest.fixture
def kubernetes() -> Kubernetes:
    return Kubernetes()


@pytest.fixture
def trusting(tmp_path: Path, kubernetes: Kubernetes) -> Iterator[tuple[Trust, Reviews]]:
    with server(tmp_path, kubernetes.answer) as cluster:
        trust = Trust(cluster)
        trust.read()
        yield trust, Reviews(cluster)


@pytest.fixture
def authenticator(trusting: tuple[Trust, Reviews]) -> Authenticator:
    return Authenticator(*trusting)


def bearer(token: str) -> tuple[str, bytes]:
    return ("authorization", f"Bearer {token}".encode())


def refused(authenticator: Authenticator, *headers: tuple[str, bytes]) -> int:
    with pytest.raises(ApiError) as caught:
        authenticator.caller(headers)
    return caught.value.code


def test_front_proxy(authenticator: Authenticator) -> None:
    found = authenticator.caller((CN, USER, ("x-remote-group", b"a, system:masters")))
    assert found == Caller("alice", groups=("a, system:masters", "system:authenticated"))


def test_the_implied_group_is_not_for_anonymous(authenticator: Authenticator) -> None:
    for user, group in [
        (b"system:anonymous", b"x"),
        (b"a", b"system:unauthenticated"),
        (b"a", b"system:authenticated"),
    ]:
        found = authenticator.caller((CN, ("x-remote-user", user), ("x-remote-group", group)))
        assert found.groups == (group.decode(),)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (USER,),
        (USER, ("x-remote-group", b"system:masters")),
        (CN,),
        (CN, CN, USER),
        ((names.CLIENT_CN.lower(), b""), USER),
        ((names.CLIENT_CN.lower(), b"other"), USER),
        ((names.CLIENT_CN.lower(), b"Front-Proxy-Client"), USER),
        ((names.CLIENT_CN.lower(), b"front-proxy-client, front-proxy-client"), USER),
        (("authorization", b"Basic YTpi"),),
        (("authorization", b"Bearer"),),
        (("authorization", b"Bearer a b"),),
        (bearer("unknown"),),
        (bearer("good"), bearer("good")),
    ],
)
def test_nobody(authenticator: Authenticator, kubernetes: Kubernetes, headers: Any) -> None:
    kubernetes.users["good"] = {"authenticated": True, "user": {"username": "u"}}
    assert refused(authenticator, *headers) == 401


def test_a_name_that_is_not_allowed_does_not_help_by_a_token(
    authenticator: Authenticator, kubernetes: Kubernetes
) -> None:
    kubernetes.users["good"] = {"authenticated": True, "user": {"username": "u"}}
    assert refused(authenticator, (CN[0], b"other"), bearer("good")) == 401
    assert authenticator.caller((CN, bearer("good"))).user == "u", "a front proxy that names nobody"


def test_token(authenticator: Authenticator, kubernetes: Kubernetes) -> None:
    user = {"username": "ü", "uid": "7", "groups": ["g, h"], "extra": {"a/b": ["1", "2"]}}
    kubernetes.users["good"] = {"authenticated": True, "user": user}
    expected = Caller("ü", "7", ("g, h", "system:authenticated"), {"a/b": ("1", "2")})
    assert authenticator.caller((bearer("good"),)) == expected
    assert authenticator.caller((("authorization", b"bearer good"),)) == expected
    for _ in range(3):
        assert refused(authenticator, bearer("bad")) == 401
    assert kubernetes.reviewed == ["good", "bad"], "both are remembered"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"authenticated": "true", "user": {"username": "u"}},
        {"authenticated": True},
        {"authenticated": True, "user": {"username": ""}},
    ],
)
def test_a_review_that_does_not_say_yes(
    authenticator: Authenticator, kubernetes: Kubernetes, said: Any
) -> None:
    kubernetes.users["odd"] = said
    assert refused(authenticator, bearer("odd")) == 401


def test_no_review_is_500_and_neither_token_nor_our_own_rights_are_told(
    authenticator: Authenticator, kubernetes: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    kubernetes.failing = True
    with pytest.raises(ApiError) as caught:
        authenticator.caller((bearer("secret-token"),))
    assert caught.value.code == 500
    assert "may not" not in caught.value.message
    assert "may not" in caplog.text
    assert "secret-token" not in caplog.text + caught.value.message
    kubernetes.failing = False
    kubernetes.users["secret-token"] = {"authenticated": True, "user": {"username": "u"}}
    assert authenticator.caller((bearer("secret-token"),)).user == "u", "a failure is not remembered"


@pytest.mark.parametrize(
    "name", ["impersonate-user", "impersonate-group", "impersonate-extra-x", "impersonate-uid"]
)
def test_impersonation_is_refused(authenticator: Authenticator, name: str) -> None:
    assert refused(authenticator, (name, b"a"), CN, USER) == 403
    assert refused(authenticator, (name, b"")) == 403


def test_health_answers_whoever_asks_and_nothing_else_does(trusting: tuple[Trust, Reviews]) -> None:
    app = Flask("test", static_folder=None)
    status.register(app)
    authn.register(app, *trusting)
    app.add_url_rule("/<path:path>", view_func=lambda path: jsonify(caller.name() if path == "who" else path))
    client = app.test_client()
    for path in ("/healthz", "/livez", "/readyz"):
        assert client.get(path).status_code == 200
    for path in ("/who", "/healthz/", "/healthz/x", "/none", "/"):
        answer = client.get(path, headers={"X-Remote-User": "a", names.CLIENT_CN: "front-proxy-client"})
        assert json_of(answer, 401)["message"] == "Unauthorized"
    answer = client.get("/who", environ_overrides={rawheaders.KEY: (CN, USER)})
    assert answer.json == "'alice'"
