"""The releases of Kubernetes that the cluster can be of, and that it is of the one that was asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.program import TOOL

HERE = Path(__file__).parent


def pinned(release: str) -> str:
    """Return the version in a release's go.mod."""
    (version,) = re.findall(
        r"^require k8s.io/kubernetes (v\S+)$", (HERE / release / "go.mod").read_text(), re.M
    )
    return str(version)


def minor(version: str) -> int:
    return int(version.split(".")[1])


def test_the_older_release_is_three_minors_older() -> None:
    assert minor(pinned("")) - minor(pinned("older")) == 3


def test_server_and_kubectl_are_of_the_release_that_was_asked_for(plane: ControlPlane) -> None:
    found = json.loads(plane.kubectl("version", "-o", "json"))
    versions = {found[who]["gitVersion"] for who in ("serverVersion", "clientVersion")}
    assert versions == {pinned(os.environ.get("KUBERNETES", ""))}


@pytest.mark.parametrize("release", ["newer", "../unit"])
def test_another_release_is_an_error_that_says_which_there_are(release: str) -> None:
    environment = os.environ | {"KUBERNETES": release}
    done = subprocess.run([TOOL], check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it can be 'older', or empty for the newest" in done.stderr
