"""The store's names: whatever the crasher chooses, a dump lies below the root and sorts by its time."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import store
from coredump_guard.record import Identity

UID = "11111111-2222-3333-4444-555555555555"
TIMES = st.floats(0, 4_000_000_000)
any_text = st.text(st.characters())


@given(when=TIMES, executable=any_text, pid=st.integers(1, 1 << 22), ticks=st.integers(0, 1 << 62))
def test_any_executable_makes_a_dump_id(when: float, executable: str, pid: int, ticks: int) -> None:
    name = store.dump_id(when, executable, pid, "boot", ticks)
    assert store.is_dump_id(name)
    assert re.fullmatch(r"[A-Za-z0-9._+-]+", name)
    assert len(name) < 128


@pytest.mark.parametrize(
    ("executable", "name"),
    [
        ("/usr/bin/app", "app"),
        ("app", "app"),
        ("", "unknown"),
        ("/", "unknown"),
        ("/usr/bin/", "unknown"),
        ("..", "unknown"),
        ("/x/...", "unknown"),
        ("/x/.hidden", "hidden"),
        ("/x/-rf", "_rf"),
        ("/x/a b\nc", "a_b_c"),
        ("/x/g++-12", "g++_12"),
        ("/x/\0", "_"),
        ("/x/\u202egpj.exe", "_gpj.exe"),
        ("/x/" + "n" * 300, "n" * 64),
        ("/usr/bin/app (deleted)", "app_deleted_"),
        ("/x/\udcff", "_"),
    ],
)
def test_cve_2016_9950_hostile_executable_names(executable: str, name: str) -> None:
    assert store.dump_id(0, executable, 7, "boot", 1).startswith(f"19700101T000000Z-{name}-7-")


@given(TIMES, TIMES)
def test_ids_sort_by_the_time_of_the_crash(one: float, other: float) -> None:
    first, second = (store.dump_id(when, "/bin/x", 1, "b", 1) for when in sorted([one, other]))
    assert first <= second


def test_processes_with_equal_pids_have_different_ids() -> None:
    ids = {store.dump_id(0, "x", 1, boot, ticks) for boot in ("a", "b") for ticks in (1, 2)}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "lost+found",
        "20231114T221320Z-app-4711-0123456",
        "20231114T221320Z-app-4711-0123456g",
        "20231114T221320Z--4711-01234567",
        "20231114T221320Z-.app-4711-01234567",
        "20231114T221320Z-a/b-4711-01234567",
        "20231114T221320Z-app-4711-01234567\n",
        "../20231114T221320Z-app-4711-01234567",
        "20231114T221320Z-" + "a" * 65 + "-1-01234567",
        "٢0231114T221320Z-app-4711-01234567",
        "20231114T221320Z-app-٤-01234567",
    ],
)
def test_what_is_no_dump_id(name: str) -> None:
    assert not store.is_dump_id(name)


@given(st.builds(Identity, any_text, any_text, any_text, any_text, any_text))
def test_a_directory_never_escapes_the_store(identity: Identity) -> None:
    assert_below_root(identity)


hostile = st.sampled_from(
    ["", ".", "..", "/", "a/b", "../x", ".incoming", ".inbox", "_unidentified", "a\0", "a\n", UID, "app"]
)


@given(st.builds(Identity, hostile, hostile, hostile, hostile, hostile))
def test_cve_2021_3710_hostile_names_never_escape_the_store(identity: Identity) -> None:
    assert_below_root(identity)


def assert_below_root(identity: Identity) -> None:
    path = store.directory(identity, "node-1")
    assert os.path.normpath(f"/store/{path}") == f"/store/{path}"
    first, *rest = path.split("/")
    assert len(rest) in (1, 2)
    assert not first.startswith(".")
    assert (first == store.UNIDENTIFIED) == (len(rest) == 1)
    assert re.fullmatch(r"[-_A-Za-z0-9./]+", path)


def test_directory_of_a_named_container() -> None:
    assert store.directory(Identity("demo", "web", UID, "app"), "node-1") == f"demo/{UID}/app"


@pytest.mark.parametrize(
    ("identity", "place"),
    [
        (Identity(), "_unidentified/unknown"),
        (Identity(container_id="c" * 64), "_unidentified/" + "c" * 64),
        (Identity(poduid=UID), f"_unidentified/{UID}"),
        (Identity(poduid=UID, container_id="c" * 64), "_unidentified/" + "c" * 64),
        (Identity("demo", "", UID, "app", "c" * 64), "_unidentified/" + "c" * 64),
        (Identity("Demo", "web", UID, "app", "c" * 64), "_unidentified/" + "c" * 64),
        (Identity("demo", "web", UID, "..", "../x"), "_unidentified/unknown"),
        (Identity(host=True), "_host/node-1"),
    ],
)
def test_whoever_cannot_be_named_is_unidentified(identity: Identity, place: str) -> None:
    assert store.directory(identity, "node-1") == place


@pytest.mark.parametrize("name", ["a", "0", "kube-system", "a-0", "x" * 63])
def test_namespaces_and_containers(name: str) -> None:
    assert store.is_namespace(name)
    assert store.is_container(name)
    assert store.is_pod(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "x" * 64, "a\n", "é", "٣", ".", ".."])
def test_not_a_namespace(name: str) -> None:
    assert not store.is_namespace(name)


@pytest.mark.parametrize("name", ["web-0", "a.b.c", "x" * 253])
def test_pods(name: str) -> None:
    assert store.is_pod(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a.", "a/b", "x" * 254, "web\n"])
def test_not_a_pod(name: str) -> None:
    assert not store.is_pod(name)


@pytest.mark.parametrize("uid", [UID, "0" * 32, "my-static-1", "Free.Form"])
def test_poduids(uid: str) -> None:
    assert store.is_poduid(uid)


@pytest.mark.parametrize("uid", ["", ".", "..", "-x", "a/b", "a_b", "x" * 129, UID + "\n", "é"])
def test_not_a_poduid(uid: str) -> None:
    assert not store.is_poduid(uid)
