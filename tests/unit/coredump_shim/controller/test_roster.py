from __future__ import annotations

from coredump_shim.controller.endpoints import Known
from coredump_shim.controller.observed import Observed
from coredump_shim.controller.roster import PATIENCE, Roster

POD = "10000000-0000-4000-8000-000000000001"
SEEN = Observed(POD, "0123456789abcdef", 7)
NEW = Known("demo", "web", managed=False, observed=None)
SETTLED = Known("demo", "web", managed=False, observed=SEEN)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def rosters() -> tuple[Roster, Clock]:
    clock = Clock()
    return Roster(clock), clock


def test_an_endpoint_without_our_annotation_is_unsettled_after_a_moment() -> None:
    roster, clock = rosters()
    roster.put(NEW, came=True)
    assert roster.unsettled() == []
    clock.now += PATIENCE
    assert roster.unsettled() == [NEW]
    roster.settle(NEW)
    assert roster.unsettled() == []


def test_ours_that_is_removed_is_looked_after_and_theirs_is_not() -> None:
    roster, clock = rosters()
    ours = Known("demo", "web", managed=True, observed=SEEN)
    newcomer = Known("demo", "new", managed=False, observed=None)
    for known in (ours, Known("demo", "mine", managed=False, observed=SEEN)):
        roster.put(known)
        roster.remove(known)
    roster.put(newcomer, came=True)
    assert roster.unsettled() == []
    clock.now += PATIENCE
    assert roster.unsettled() == [newcomer, ours]
    roster.settle(ours)
    assert roster.unsettled() == [newcomer]


def test_ours_that_is_there_again_needs_nobody() -> None:
    roster, clock = rosters()
    ours = Known("demo", "web", managed=True, observed=SEEN)
    roster.put(ours)
    roster.remove(ours)
    clock.now += PATIENCE
    made = Known("demo", "web", managed=True, observed=None)
    roster.put(made, came=True)  # by the controller, which annotates it next
    assert roster.unsettled() == []
    roster.put(ours)
    clock.now += PATIENCE
    assert roster.unsettled() == []


def test_our_own_are_annotated_before_anybody_looks() -> None:
    roster, clock = rosters()
    roster.put(NEW, came=True)
    roster.put(NEW)  # its status was written
    roster.put(SETTLED)
    clock.now += PATIENCE
    assert roster.unsettled() == []
    assert roster.names("demo", POD) == {"web"}


def test_an_annotation_that_came_with_the_endpoint_was_copied() -> None:
    roster, clock = rosters()
    roster.put(SETTLED, came=True)
    roster.put(SETTLED)  # somebody labels it
    clock.now += PATIENCE
    assert roster.unsettled() == [SETTLED]
    ours = Known("demo", "web", managed=False, observed=Observed(POD, "f" * 16, 8))
    roster.put(ours)
    assert roster.unsettled() == []


def test_an_annotation_that_was_taken_away_unsettles() -> None:
    roster, clock = rosters()
    roster.put(SETTLED)
    roster.put(NEW)
    clock.now += PATIENCE
    assert roster.unsettled() == [NEW]
    assert roster.names("demo", POD) == set()


def test_one_that_changed_while_it_was_brought_in_step_stays_unsettled() -> None:
    roster, clock = rosters()
    roster.put(NEW)
    now_managed = Known("demo", "web", managed=True, observed=None)
    roster.put(now_managed)
    roster.settle(NEW)
    clock.now += PATIENCE
    assert roster.unsettled() == [now_managed]


def test_what_is_gone_is_forgotten() -> None:
    roster, clock = rosters()
    roster.put(NEW)
    roster.put(Known("demo", "mine", managed=False, observed=SEEN))
    roster.put(Known("demo", "yours", managed=False, observed=SEEN))
    roster.remove(NEW)
    roster.remove(Known("demo", "mine", managed=False, observed=SEEN))
    clock.now += PATIENCE
    assert roster.unsettled() == []
    assert roster.names("demo", POD) == {"yours"}


def test_a_new_list_keeps_what_waits_and_forgets_what_is_gone() -> None:
    roster, clock = rosters()
    gone = Known("demo", "gone", managed=False, observed=None)
    roster.put(gone)
    roster.put(SETTLED, came=True)
    clock.now += PATIENCE
    late = Known("demo", "late", managed=False, observed=None)
    roster.replace([late, SETTLED])
    assert roster.unsettled() == [SETTLED]
    clock.now += PATIENCE
    assert set(roster.unsettled()) == {SETTLED, late}
