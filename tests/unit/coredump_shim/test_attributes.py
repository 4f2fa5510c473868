"""What a request wants. kube-apiserver's own table (requestinfo_test.go) and our paths."""

from __future__ import annotations

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from coredump_shim import attributes, discovery, downloads, names
from coredump_shim.attributes import Path, Resource

NS = f"{names.ROOT}/namespaces/demo/{names.RESOURCE}"


def ours(verb: str, subresource: str = "", name: str = "", namespace: str = "demo") -> Resource:
    return Resource(verb, namespace, names.GROUP, names.VERSION, names.RESOURCE, subresource, name)


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", NS, ours("list")),
        ("HEAD", NS, ours("list")),
        ("POST", NS, ours("create")),
        ("DELETE", NS, ours("deletecollection")),
        ("GET", f"{names.ROOT}/{names.RESOURCE}", ours("list", namespace="")),
        ("GET", f"{NS}/web", ours("get", name="web")),
        ("HEAD", f"{NS}/web", ours("get", name="web")),
        ("PUT", f"{NS}/web", ours("update", name="web")),
        ("PATCH", f"{NS}/web", ours("patch", name="web")),
        ("DELETE", f"{NS}/web", ours("delete", name="web")),
        ("TRACE", f"{NS}/web", ours("", name="web")),
        ("get", f"{NS}/web", ours("", name="web")),
        ("GET", f"{NS}/web/dump", ours("get", "dump", "web")),
        ("DELETE", f"{NS}/web/dump", ours("delete", "dump", "web")),
        ("GET", f"{NS}/web/proxy/dump", ours("get", "proxy", "web")),
        ("GET", f"{NS}/status/dump", ours("get", "dump", "status")),
        ("GET", "/api/v1/namespaces/demo", Resource("get", "demo", "", "v1", "namespaces", "", "demo")),
        (
            "PUT",
            "/api/v1/namespaces/demo/finalize",
            Resource("update", "demo", "", "v1", "namespaces", "finalize", "demo"),
        ),
        ("GET", "/api/v1/namespaces", Resource("list", "", "", "v1", "namespaces")),
        ("GET", "/api/v1/namespaces/demo/pods", Resource("list", "demo", "", "v1", "pods")),
        ("GET", names.ROOT, Path("get", names.ROOT)),
        ("POST", "/apis", Path("post", "/apis")),
        ("GET", "/", Path("get", "/")),
        ("GET", "/openapi/v2", Path("get", "/openapi/v2")),
        ("GET", "/healthz", Path("get", "/healthz")),
    ],
)
def test_as_kube_apiserver_has_it(method: str, path: str, wanted: Resource | Path) -> None:
    assert attributes.parse(method, path, {}) == wanted


@pytest.mark.parametrize(
    ("watch", "verb"),
    [
        (["1"], "watch"),
        (["true"], "watch"),
        ([""], "watch"),
        (["nonsense"], "watch"),
        (["1", "false"], "watch"),
        (["0"], "list"),
        (["False"], "list"),
        (["false", "1"], "list"),
    ],
)
def test_watch(watch: list[str], verb: str) -> None:
    assert attributes.parse("GET", NS, {"watch": watch}) == ours(verb)
    assert attributes.parse("GET", f"{NS}/web", {"watch": watch}) == ours("get", name="web")


@pytest.mark.parametrize(
    ("selectors", "name"),
    [
        (["metadata.name=web"], "web"),
        (["metadata.name==web"], "web"),
        (["metadata.name!=web"], ""),
        (["metadata.name=web,metadata.namespace=demo"], ""),
        (["metadata.name=web", "metadata.name=other"], ""),
        (["metadata.name=a/b"], ""),
        (["metadata.name=.."], ""),
        (["metadata.name="], ""),
        (["xmetadata.name=web"], ""),
        ([], ""),
    ],
)
def test_name_by_selector(selectors: list[str], name: str) -> None:
    assert attributes.parse("GET", NS, {"fieldSelector": selectors}) == ours("list", name=name)
    assert attributes.parse("GET", NS, {"fieldSelector": selectors, "watch": ["1"]}) == ours(
        "watch", name=name
    )
    assert attributes.parse("DELETE", NS, {"fieldSelector": selectors}) == ours("deletecollection")


@pytest.mark.parametrize(
    "uri",
    [
        "//apis",
        "/apis//x",
        "/apis/",
        "/apis/./x",
        "/apis/../x",
        "/..",
        "/%61pis",
        "/apis%2Fx",
        "/apis/x%00",
        "/apis/x;y",
        "/apis/x#y",
        "http://host/apis",
        "apis",
        "*",
        "",
        "/é",
    ],
)
def test_what_others_may_read_differently_is_odd(uri: str) -> None:
    assert not attributes.is_plain(uri, uri)
    assert not attributes.is_plain(uri, "/apis/x")


def test_plain_paths() -> None:
    for uri in ("/", "/apis", "/apis?watch=%31", f"{NS}/web-1.2/proxy/dump?container=a%2Fb", "/x/..y/z.."):
        assert attributes.is_plain(uri, uri.partition("?")[0])


@given(
    st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True),
    st.sampled_from(["", "/dump", "/proxy/dump", "/status", "/dump/x", "/proxy", "/proxy/x"]),
)
def test_what_is_reviewed_is_what_is_served(namespace: str, name: str, rest: str) -> None:
    path = f"{names.ROOT}/namespaces/{namespace}/{names.RESOURCE}/{name}{rest}"
    try:
        rule, served = _APP.url_map.bind("host").match(path, "GET", return_rule=True)
    except HTTPException:
        return
    wanted = attributes.parse("GET", path, {})
    assert isinstance(wanted, Resource)
    assert (wanted.namespace, wanted.name) == (served["namespace"], served["name"])
    assert wanted.subresource == ("proxy" if "proxy" in rule.rule else "dump")


def _app() -> Flask:
    app = Flask("test", static_folder=None)
    app.register_blueprint(discovery.blueprint())
    for rule in downloads.RULES:
        app.add_url_rule(rule, rule)
    return app


_APP = _app()
