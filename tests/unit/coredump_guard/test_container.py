"""/proc/PID/cgroup to pod and container: every layout that kubelets and runtimes are known to make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard.container import Container, parse, parse_path

U = "4a3f1b52-8f3d-4b0e-9f60-0d9f6f1f2a11"
u = U.replace("-", "_")
H = "0123456789abcdef0123456789abcdef"
C = "c0ffee" + "0" * 58
C2 = "deadbeef" + "1" * 56
N = "f" * 64
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice"
KIND_SLICE = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods"

LAYOUTS = {
    "cgroupfs_v1_burstable": (f"4:memory:/kubepods/burstable/pod{U}/{C}", Container(U, C, "burstable")),
    "cgroupfs_v1_besteffort": (
        f"9:name=systemd:/kubepods/besteffort/pod{U}/{C}",
        Container(U, C, "besteffort"),
    ),
    "cgroupfs_v2_guaranteed": (f"0::/kubepods/pod{U}/{C}", Container(U, C, "guaranteed")),
    "static_pod_hash": (f"0::/kubepods/burstable/pod{H}/{C}", Container(H, C, "burstable")),
    "legacy_segment": (
        f"0::/kubepods-burstable-pod{u}.slice:cri-containerd:{C}",
        Container(U, C, "burstable"),
    ),
    "legacy_segment_below_a_parent": (
        f"4:memory:/some/parent/kubepods-burstable-pod{u}.slice:cri-containerd:{C}",
        Container(U, C, "burstable"),
    ),
    "kind_v2": (
        f"0::/docker/{N}{KIND_SLICE}-burstable.slice/kubelet-kubepods-burstable-pod{u}.slice/cri-containerd-{C}.scope",
        Container(U, C, "burstable"),
    ),
    "docker_in_docker": (
        f"0::/kubepods/besteffort/pod{U}/{C}/docker/{C2}",
        Container(U, C, "besteffort", nested=True),
    ),
    "systemd_burstable": (f"0::{SLICE}/cri-containerd-{C}.scope", Container(U, C, "burstable")),
    "systemd_guaranteed": (
        f"0::/kubepods.slice/kubepods-pod{u}.slice/cri-containerd-{C}.scope",
        Container(U, C, "guaranteed"),
    ),
    "systemd_static_pod": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{H}.slice/cri-containerd-{C}.scope",
        Container(H, C, "burstable"),
    ),
    "crio": (f"0::{SLICE}/crio-{C}.scope", Container(U, C, "burstable")),
    "crio_delegated": (f"0::{SLICE}/crio-{C}.scope/container", Container(U, C, "burstable")),
    "crio_conmon": (f"0::{SLICE}/crio-conmon-{C}.scope", Container(U, C, "burstable", monitor=True)),
    "crio_cgroupfs": (f"11:cpuset:/kubepods/burstable/pod{U}/crio-{C}", Container(U, C, "burstable")),
    "cri_dockerd": (f"0::{SLICE}/docker-{C}.scope", Container(U, C, "burstable")),
    "old_dashed_slice": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U}.slice/docker-{C}.scope",
        Container(U, C, "burstable"),
    ),
    "legacy_below_containerd_service": (
        f"0::/system.slice/containerd.service/kubepods-besteffort-pod{u}.slice:cri-containerd:{C}",
        Container(U, C, "besteffort"),
    ),
    "kind_v1": (
        f"5:memory:/docker/{N}/kubelet/kubepods/besteffort/pod{U}/{C}",
        Container(U, C, "besteffort"),
    ),
    "kind_in_podman": (
        f"0::/machine.slice/libpod-{N}.scope/container{KIND_SLICE}-pod{u}.slice/cri-containerd-{C}.scope",
        Container(U, C, "guaranteed"),
    ),
    "systemd_in_a_pod": (
        f"0::{SLICE}/cri-containerd-{C}.scope/system.slice/nginx.service",
        Container(U, C, "burstable", nested=True),
    ),
    "spoofed_below_its_container": (
        f"0::/kubepods/burstable/pod{U}/{C}/kubepods/pod{H}/{C2}",
        Container(U, C, "burstable", nested=True),
    ),
    "deleted": (f"0::/kubepods/burstable/pod{U}/{C} (deleted)", Container(U, C, "burstable")),
    "free_form_uid": (
        f"0::/kubepods/besteffort/podmy-static-1/{C}",
        Container("my-static-1", C, "besteffort"),
    ),
    "relative_view": (f"0::/pod{U}/{C}", Container(U, C, "guaranteed")),
}


@pytest.mark.parametrize(("line", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_layout(line: str, expected: Container) -> None:
    assert parse(line + "\n") == expected


@pytest.mark.parametrize(
    "line",
    [
        "0::/podruntime/kubelet",
        "0::/system.slice/containerd.service",
        "0::/",
        "0::/user.slice/user-1000.slice/session-1.scope",
        f"0::/docker/{N}",
        f"0::/machine.slice/libpod-{N}.scope/container",
        f"0::/podruntime/{C}",
        f"0::/a/pod{U}/{C}",
        f"0::/burstable/pod{U}/{C}",
        f"0::/a/besteffort/podx/{C}",
        f"0::/kubepods/besteffort/pod../{C}",
        f"0::/kubepods/besteffort/pod/{C}",
        f"0::/kubepods/besteffort/pod{'x' * 129}/{C}",
        "not a cgroup line",
        "",
    ],
)
def test_not_a_pod(line: str) -> None:
    assert parse(line) is None


def test_pod_without_a_container_is_still_that_pod() -> None:
    assert parse(f"0::/kubepods/burstable/pod{U}") == Container(U, "", "burstable")


@pytest.mark.parametrize("bad", [C[:-1], C + "0", C.upper(), f"{C}.scope.d", f"../{C}"])
def test_what_is_no_container_id_is_not_taken_for_one(bad: str) -> None:
    found = parse_path(f"/kubepods/burstable/pod{U}/{bad}")
    assert found == Container(U, "", "burstable")


def test_lines_are_split_at_the_first_two_colons_only() -> None:
    assert parse(f"3:cpu,cpuacct:/kubepods/burstable/pod{U}/{C}/a:b:c") == Container(
        U, C, "burstable", nested=True
    )
    assert parse(f"7:memory:/x:y/kubepods-pod{u}.slice:crio:{C}") == Container(U, C)


def test_all_lines_of_cgroup_v1_are_looked_at() -> None:
    text = f"12:pids:/\n11:devices:/kubepods/besteffort/pod{U}/{C}\n1:name=systemd:/\n0::/\n"
    assert parse(text) == Container(U, C, "besteffort")


def test_a_line_with_pod_and_container_is_preferred() -> None:
    text = f"0::/kubepods/pod{H}\n4:memory:/kubepods/burstable/pod{U}/{C}\n"
    assert parse(text) == Container(U, C, "burstable")


def test_controllers_are_believed_in_order() -> None:
    controllers = ["", "name=systemd", "memory", "cpu"]
    lines = [f"{n}:{name}:/kubepods/pod{U}/{n:064x}" for n, name in enumerate(controllers)]
    for first in range(len(lines)):
        found = parse("\n".join(reversed(lines[first:])))
        assert found is not None
        assert found.container_id == f"{first:064x}"


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\r"])
def test_a_cgroup_named_with_a_separator_forges_no_line(separator: str) -> None:
    """The kernel forbids only \\n and / in a cgroup's name; on v1 a container may own its hierarchy."""
    forged = f"{separator}0::/kubepods/pod{H}/{C2}"
    assert parse(f"4:memory:/kubepods/burstable/pod{U}/{C}/x{forged}\n") == Container(
        U, C, "burstable", nested=True
    )


@pytest.mark.parametrize(
    "inner", [f"kubepods/pod{H}/{C2}", f"kubepods-pod{H}.slice:crio:{C2}", f"crio-{C2}.scope"]
)
def test_cve_2017_14180_what_a_container_makes_below_itself_never_decides(inner: str) -> None:
    found = parse_path(f"{SLICE}/cri-containerd-{C}.scope/{inner}")
    assert found == Container(U, C, "burstable", nested=True)


@given(st.text())
def test_any_text_is_parsed_without_exception(text: str) -> None:
    assert parse(text) is None or isinstance(parse(text), Container)


@given(
    st.lists(
        st.sampled_from(["kubepods", "burstable", f"pod{U}", f"pod{H}", C, C2, "a:b", "x (deleted)", ""])
    )
)
def test_the_first_pod_and_its_container_decide(segments: list[str]) -> None:
    path = f"/kubepods/pod{U}/{C}/" + "/".join(segments)
    found = parse_path(path)
    assert found is not None
    assert (found.poduid, found.container_id) == (U, C)
