"""Resource versions and what changed lately."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from coredump_shim.endpoint import Object
from coredump_shim.history import Change, History
from coredump_shim.status import ApiError


def thing(name: str = "web", uid: str = "1", dumps: int = 1) -> Object:
    return {"metadata": {"name": name, "namespace": "demo", "uid": uid}, "status": {"dumps": dumps}}


def see(history: History, *things: Object, namespace: str = "demo") -> int:
    """Take a reading in; return the version then."""
    history.update(namespace, history.ticket(), {each["metadata"]["name"]: each for each in things})
    return history.current(None)[0]


def told(changes: list[Change]) -> list[Any]:
    def short(each: Object | None) -> Any:
        return each and (each["metadata"]["name"], each["metadata"]["uid"], each["status"]["dumps"])

    return [(short(change.before), short(change.after)) for change in changes]


def test_version_grows_with_each_change_only() -> None:
    history = History()
    first = see(history, thing())
    assert see(history, thing()) == first
    assert see(history, thing(dumps=2)) > first


def test_objects_bear_the_version_of_their_change() -> None:
    history = History()
    first = see(history, thing("a"))
    see(history, thing("a"), thing("b"))
    version, (a, b) = history.current("demo")
    assert a["metadata"]["resourceVersion"] == str(first)
    assert b["metadata"]["resourceVersion"] == str(version)


def test_version_grows_across_a_restart() -> None:
    before = see(History(), thing("a"), thing("b"))
    assert see(History(), thing("a")) > before


def test_tells_what_became_of_each() -> None:
    history = History()
    first = see(history, thing("a"), thing("b"))
    see(history, thing("a", dumps=2), thing("c"))
    _, changes = history.since(first)
    assert told(changes) == [
        (("a", "1", 1), ("a", "1", 2)),
        (("b", "1", 1), None),
        (None, ("c", "1", 1)),
    ]
    assert [change.version for change in changes] == sorted({change.version for change in changes})


def test_another_uid_is_another_object() -> None:
    history = History()
    first = see(history, thing(uid="1"))
    see(history, thing(uid="2"))
    assert told(history.since(first)[1]) == [(("web", "1", 1), None), (None, ("web", "2", 1))]


def test_older_reading_that_comes_late_changes_nothing() -> None:
    history = History()
    late = history.ticket()
    version = see(history, thing(dumps=2))
    history.update("demo", late, {})
    assert history.current(None)[0] == version
    assert history.find("demo", "web") is not None


def test_namespaces_are_apart() -> None:
    history = History()
    see(history, thing("a"))
    see(history, thing("b"), namespace="other")
    assert history.find("other", "a") is None
    assert [each["metadata"]["name"] for each in history.current("other")[1]] == ["b"]
    assert history.namespaces() == ["demo", "other"]


def test_namespaces_without_anything_are_not_remembered() -> None:
    history = History()
    see(history, namespace="made-up")
    assert history.namespaces() == []


def test_forgets_old_changes_and_says_so() -> None:
    history = History(remembered=2)
    first = see(history, thing())
    second = see(history, thing(dumps=2))
    see(history, thing(dumps=3))
    see(history, thing(dumps=4))
    assert len(history.since(second)[1]) == 2
    with pytest.raises(ApiError) as caught:
        history.since(first)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


@pytest.mark.parametrize("version", [1, 2**62])
def test_unknown_version_is_expired(version: int) -> None:
    with pytest.raises(ApiError) as caught:
        History().since(version)
    assert caught.value.code == 410


def test_wait_ends_at_a_change() -> None:
    history = History()
    version = see(history, thing())
    waiter = threading.Thread(target=history.wait, args=(version, 60), daemon=True)
    waiter.start()
    see(history, thing(dumps=2))
    waiter.join(10)
    assert not waiter.is_alive()
