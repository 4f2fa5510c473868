"""Which kubeconfigs are refused, and in which words."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from coredump_shim.cluster import Cluster
from coredump_shim.config import ConfigError
from coredump_shim.kubeconfig import Chosen

GOOD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def opened(directory: Path, config: object) -> Cluster:
    file = directory / "config"
    file.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return Cluster(str(file))


def refused(directory: Path, config: object) -> str:
    with pytest.raises(ConfigError) as caught:
        opened(directory, config)
    words = str(caught.value)
    assert words.startswith(f"--kubeconfig {directory}/config: ")
    assert "\n" not in words
    return words


def with_user(**user: object) -> dict[str, Any]:
    return GOOD | {"users": [{"name": "u", "user": user}]}


def test_one_that_is_good(tmp_path: Path) -> None:
    cluster = opened(tmp_path, GOOD)
    assert cluster.kubeconfig == Chosen(str(tmp_path / "config"), "c", "u")
    assert (cluster.server, cluster.token) == ("https://192.0.2.1:6443", "secret")


@pytest.mark.parametrize("text", ["", "garbage", "- 1", "3", "kind: Pod"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    assert "is no kubeconfig; kubectl config view" in refused(tmp_path, text)


def test_what_is_no_yaml(tmp_path: Path) -> None:
    assert "is no YAML in line 2" in refused(tmp_path, "clusters:\n- [")
    (tmp_path / "binary").write_bytes(b"\xba\xff\x00")
    with pytest.raises(ConfigError, match="is no YAML"):
        Cluster(str(tmp_path / "binary"))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing: No such file or directory$"):
        Cluster(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="Is a directory"):
        Cluster(str(tmp_path))


@pytest.mark.parametrize("part", ["clusters", "contexts", "users"])
def test_what_is_named_must_be_there(tmp_path: Path, part: str) -> None:
    for lacking in ([], None, 3, [3], [{"name": "other"}]):
        words = refused(tmp_path, GOOD | {part: lacking})
        assert f"has no {part[:-1]} '" in words


def test_a_context_must_be_chosen(tmp_path: Path) -> None:
    lacking = {key: value for key, value in GOOD.items() if key != "current-context"}
    assert "has no current-context; kubectl config use-context" in refused(tmp_path, lacking)


@pytest.mark.parametrize("server", [None, "", "nonsense", "192.0.2.1:6443", "https://", "https://a b", 3])
def test_the_server_must_be_a_url(tmp_path: Path, server: object) -> None:
    config = copy.deepcopy(GOOD)
    config["clusters"][0]["cluster"]["server"] = server
    assert f"server {server!r} of the cluster must be a URL" in refused(tmp_path, config)


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "true"}},
        {"auth-provider": {"name": "oidc"}},
        {"username": "a", "password": "b"},
    ],
)
def test_who_authenticates_otherwise_is_refused(tmp_path: Path, user: dict[str, object]) -> None:
    words = refused(tmp_path, with_user(**user))
    assert (
        f"user 'u' authenticates by {next(iter(user))}, which is not supported; coredump-shim takes" in words
    )
    assert "kubectl create token" in words


def test_who_has_no_credentials_is_nobody(tmp_path: Path) -> None:
    assert "user 'u' has no credentials; coredump-shim takes" in refused(tmp_path, with_user())
    assert "user 'u' has no credentials" in refused(tmp_path, with_user(token=""))


def test_a_token_is_of_plain_characters(tmp_path: Path) -> None:
    written = "of-a-file"
    (tmp_path / "token").write_text(f"{written}\n")
    assert opened(tmp_path, with_user(tokenFile="token")).token == written
    for bad in ("a\nb", "a b", "\u00e9", " "):
        assert "token has characters that no token has" in refused(tmp_path, with_user(token=bad))


def test_files_that_are_named_must_be_there(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(tmp_path, with_user(tokenFile="/nowhere"))
    certificate = with_user(**{"client-certificate": "/nowhere", "client-key": "/nowhere"})
    assert "/nowhere" in refused(tmp_path, certificate)


def test_certificates_that_are_none(tmp_path: Path) -> None:
    config = copy.deepcopy(GOOD)
    config["clusters"][0]["cluster"]["certificate-authority-data"] = "bm9uc2Vuc2U="
    assert "certificate-authority of the cluster holds no certificate" in refused(tmp_path, config)
    certificate = {"client-certificate-data": "bm9uc2Vuc2U=", "client-key-data": "bm9uc2Vuc2U="}
    assert "are no certificate and its unencrypted key" in refused(tmp_path, with_user(**certificate))


def test_a_key_that_is_another_certificates(tmp_path: Path) -> None:
    for name in ("one", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-subj", "/CN=x", "-out", f"{name}.pem", "-keyout", f"{name}.key"]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=tmp_path)
    pair = {"client-certificate": "one.pem", "client-key": "one.key"}
    assert opened(tmp_path, with_user(**pair)).token == ""
    words = refused(tmp_path, with_user(**(pair | {"client-key": "other.key"})))
    assert "client-certificate and client-key of the user do not belong together" in words
