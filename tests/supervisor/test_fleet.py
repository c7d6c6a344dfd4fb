"""The fleet under a clock that the test moves: what happens to workers. What is asked of it is in the next modules."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fastserve.supervisor.fleet import (
    APP_NOT_LOADED,
    STARTUP_FAILED,
    Abort,
    Action,
    Finish,
    Fleet,
    FleetTimes,
    GiveUp,
    Kill,
    Leave,
    OpenSlot,
    Quit,
    Spawn,
    State,
    Steer,
    Stop,
    Tell,
    Warn,
)

from .fleets import OTHER, PID, START, TIMES, booting_fleet, plan, ready_fleet, said, start_successor, states

NEXT = PID + 50
NOW = START + 10
ALL = frozenset({0, 1})
NONE: frozenset[int] = frozenset()

# Every state and every input.


def fleet_in(state: State) -> Fleet:
    """Return a fleet of two: the worker PID is in this state, the other one is ready; NEXT follows one that drains."""
    fleet = booting_fleet()
    fleet.became_ready(OTHER, START)
    if state is not State.BOOTING:
        fleet.became_ready(PID, START)
    if state is State.DRAINING:
        fleet.replace(PID, "worn")
        plan(fleet)
        start_successor(fleet, NEXT)
    plan(fleet)
    return fleet


Input = Callable[[Fleet], object]
INPUTS: dict[str, Input] = {
    "becomes ready": lambda fleet: fleet.became_ready(PID, NOW),
    "ends": lambda fleet: fleet.exited(PID, 0, NOW),
    "is heard": lambda fleet: fleet.heard(PID, NOW),
    "is full": lambda fleet: fleet.filled(PID, True),
    "is to be replaced": lambda fleet: fleet.replace(PID, "worn"),
    "is told to stop": lambda fleet: fleet.asked_to_stop(PID, START),
    "leaves": lambda fleet: fleet.leaving(PID, NOW),
    "reload": lambda fleet: fleet.reload(),
    "one more": lambda fleet: fleet.resize(+1),
    "one less": lambda fleet: fleet.resize(-1),
    "pause": lambda fleet: fleet.pause(),
    "stop": lambda fleet: fleet.stop(NOW),
    "stop quickly": lambda fleet: fleet.stop_quickly(NOW),
    "time": lambda fleet: None,
}
STOP_ALL: list[Action] = [Stop(PID), Stop(OTHER)]

# (state of the worker, what happens ten seconds later) -> (its state afterwards, what is to be done)
TABLE: dict[tuple[State, str], tuple[State | None, list[Action]]] = {
    (State.BOOTING, "becomes ready"): (State.READY, [Steer(ALL)]),
    (State.BOOTING, "ends"): (None, []),
    (State.BOOTING, "is heard"): (State.BOOTING, []),
    (State.BOOTING, "is full"): (State.BOOTING, []),
    (State.BOOTING, "is to be replaced"): (State.BOOTING, []),
    (State.BOOTING, "is told to stop"): (State.DRAINING, [Stop(PID), Spawn(0)]),
    (State.BOOTING, "leaves"): (State.DRAINING, [Stop(PID), Spawn(0)]),
    (State.BOOTING, "reload"): (State.BOOTING, [Spawn(1)]),
    (State.BOOTING, "one more"): (State.BOOTING, [OpenSlot(2), Spawn(2)]),
    (State.BOOTING, "one less"): (State.BOOTING, [Steer(NONE), Stop(OTHER)]),
    (State.BOOTING, "pause"): (State.DRAINING, [Steer(NONE), *STOP_ALL]),
    (State.BOOTING, "stop"): (State.DRAINING, [Leave(), *STOP_ALL]),
    (State.BOOTING, "stop quickly"): (State.DRAINING, [Leave(), Quit(PID), Quit(OTHER)]),
    (State.BOOTING, "time"): (State.BOOTING, []),
    (State.READY, "becomes ready"): (State.READY, []),
    (State.READY, "ends"): (None, [Steer(frozenset({1})), Spawn(0)]),
    (State.READY, "is heard"): (State.READY, []),
    (State.READY, "is full"): (State.READY, [Steer(frozenset({1}))]),
    (State.READY, "is to be replaced"): (State.READY, [Spawn(0)]),
    (State.READY, "is told to stop"): (State.READY, [Spawn(0)]),
    (State.READY, "leaves"): (State.DRAINING, [Steer(frozenset({1})), Stop(PID), Spawn(0)]),
    (State.READY, "reload"): (State.READY, [Spawn(0)]),
    (State.READY, "one more"): (State.READY, [OpenSlot(2), Spawn(2)]),
    (State.READY, "one less"): (State.READY, [Steer(frozenset({0})), Stop(OTHER)]),
    (State.READY, "pause"): (State.DRAINING, [Steer(NONE), *STOP_ALL]),
    (State.READY, "stop"): (State.DRAINING, [Leave(), *STOP_ALL]),
    (State.READY, "stop quickly"): (State.DRAINING, [Leave(), Quit(PID), Quit(OTHER)]),
    (State.READY, "time"): (State.READY, []),
    (State.DRAINING, "becomes ready"): (State.DRAINING, []),
    (State.DRAINING, "ends"): (None, []),
    (State.DRAINING, "is heard"): (State.DRAINING, []),
    (State.DRAINING, "is full"): (State.DRAINING, []),
    (State.DRAINING, "is to be replaced"): (State.DRAINING, []),
    (State.DRAINING, "is told to stop"): (State.DRAINING, []),
    (State.DRAINING, "leaves"): (State.DRAINING, []),
    (State.DRAINING, "reload"): (State.DRAINING, [Spawn(0)]),
    (State.DRAINING, "one more"): (State.DRAINING, [OpenSlot(2), Spawn(2)]),
    (State.DRAINING, "one less"): (State.DRAINING, [Steer(frozenset({0})), Stop(OTHER)]),
    (State.DRAINING, "pause"): (State.DRAINING, [Steer(NONE), Stop(NEXT), Stop(OTHER)]),
    (State.DRAINING, "stop"): (State.DRAINING, [Leave(), Stop(NEXT), Stop(OTHER)]),
    (State.DRAINING, "stop quickly"): (State.DRAINING, [Leave(), Quit(PID), Quit(NEXT), Quit(OTHER)]),
    (State.DRAINING, "time"): (State.DRAINING, []),
}
IDS = [f"{state.name.lower()}, {happens}" for state, happens in TABLE]


def test_the_table_has_every_state_and_every_input() -> None:
    assert set(TABLE) == {(state, happens) for state in State for happens in INPUTS}


@pytest.mark.parametrize(("case", "outcome"), TABLE.items(), ids=IDS)
def test_a_worker_moves_as_the_table_says(case: tuple[State, str], outcome: tuple[State | None, list[Action]]) -> None:
    state, happens = case
    fleet = fleet_in(state)
    INPUTS[happens](fleet)
    actions = plan(fleet, NOW)
    assert (states(fleet).get(PID), actions) == outcome
    for action in actions:
        if isinstance(action, Spawn):
            fleet.spawned(action.slot, 900, NOW)
    assert list(fleet.plan(NOW)) == [], "something is left to do"


@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
def test_a_process_that_is_no_worker_changes_nothing(state: State) -> None:
    fleet = fleet_in(state)
    before = states(fleet)
    assert fleet.exited(7, 1, NOW) is None
    fleet.became_ready(7, NOW)
    fleet.heard(7, NOW)
    fleet.replace(7, "worn")
    assert (states(fleet), list(fleet.plan(NOW))) == (before, [])


@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
def test_the_worker_that_ended_is_returned_as_it_was(state: State) -> None:
    worker = fleet_in(state).exited(PID, 0, NOW)
    assert worker is not None
    assert (worker.slot, worker.pid, worker.state) == (0, PID, state)


# Starting.


def test_a_new_fleet_fills_every_slot_once() -> None:
    fleet = Fleet(3, TIMES)
    assert fleet.slots == {0, 1, 2}
    for slot, action in enumerate(fleet.plan(START)):
        assert action == Spawn(slot)
        fleet.spawned(slot, PID + slot, START)
    assert plan(fleet, START + 1000) == []
    assert fleet.next_change(START) == math.inf


def test_a_fleet_is_whole_when_every_worker_is_ready() -> None:
    fleet = Fleet(2, TIMES)
    steps: list[Callable[[], object]] = [
        lambda: fleet.spawned(0, PID, START),
        lambda: fleet.became_ready(PID, START),
        lambda: fleet.spawned(1, OTHER, START),
        lambda: fleet.became_ready(OTHER, START),
        lambda: fleet.exited(PID, 0, START),
    ]
    was_whole = [fleet.is_whole]
    for step in steps:
        step()
        was_whole.append(fleet.is_whole)
    assert was_whole == [False, False, False, False, True, False]


def test_connections_go_to_workers_as_they_become_ready() -> None:
    fleet = booting_fleet()
    fleet.became_ready(OTHER, START)
    assert plan(fleet) == [Steer(frozenset({1}))]
    fleet.became_ready(PID, START)
    assert plan(fleet) == [Steer(ALL)]


@pytest.mark.parametrize(
    ("status", "server_status"),
    [(STARTUP_FAILED, 3), (APP_NOT_LOADED, 4), (0, 3), (1, 3), (-9, 3)],
)
def test_a_worker_that_ends_before_any_was_ready_ends_the_server(status: int, server_status: int) -> None:
    fleet = booting_fleet()
    fleet.exited(PID, status, START + 1)
    assert fleet.is_stopping
    tell, *actions = fleet.plan(START + 1)
    assert tell == Tell("No worker could be started. Exiting.", is_error=True)
    assert actions == [Leave(), Stop(OTHER)]
    fleet.exited(OTHER, APP_NOT_LOADED, START + 2)
    assert list(fleet.plan(START + 2)) == [Finish(server_status)], "the first one counts"


@pytest.mark.parametrize("urgency", ["stop", "stop_quickly"])
def test_a_failed_start_stays_one_when_a_signal_follows(urgency: str) -> None:
    fleet = booting_fleet()
    fleet.exited(PID, 3, START)
    getattr(fleet, urgency)(START)
    fleet.exited(OTHER, 0, START)
    assert plan(fleet)[-1] == Finish(3)


def test_a_worker_that_fails_to_start_beside_one_that_was_ready_is_tried_again() -> None:
    fleet = booting_fleet()
    fleet.became_ready(OTHER, START)
    fleet.exited(OTHER, -9, START)
    fleet.exited(PID, 3, START)
    assert not fleet.is_stopping
    assert plan(fleet) == [Spawn(1)]
    assert plan(fleet, START + 1) == [Spawn(0), Spawn(1)]


def test_becoming_ready_twice_does_not_make_a_worker_younger() -> None:
    fleet = ready_fleet()
    fleet.became_ready(PID, START + 50)
    assert [worker.since for worker in fleet.workers] == [START, START]


# Ending, and the delay after it.


def seconds_until_replaced(fleet: Fleet, now: float) -> float:
    """Return how long slot 0 stays empty from now on, and check that `next_change` says so."""
    if Spawn(0) in plan(fleet, now):
        return 0.0
    at = fleet.next_change(now)
    assert plan(fleet, at - 0.001) == []
    assert plan(fleet, at) == [Spawn(0)]
    return at - now


@pytest.mark.parametrize("lived_s", [0.0, 1.0, 29.9], ids="{:g} s".format)
def test_the_delay_grows_from_0_to_30_seconds_while_workers_end_early(lived_s: float) -> None:
    fleet, now, pid, delays = ready_fleet(), START, PID, []
    for _ in range(9):
        now += lived_s
        fleet.exited(pid, -11, now)
        delays.append(seconds_until_replaced(fleet, now))
        now += delays[-1]
        pid += 10
        start_successor(fleet, pid, now)
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_delay_grows_from_1_second_for_workers_that_are_never_ready() -> None:
    fleet, now, pid, delays = fleet_in(State.BOOTING), START, PID, []
    for _ in range(7):
        now += 100  # a start that takes so long proves nothing
        fleet.exited(pid, 3, now)
        delays.append(seconds_until_replaced(fleet, now))
        now += delays[-1]
        pid += 10
        fleet.spawned(0, pid, now)
    assert delays == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("lived_s", "delay_s"), [(29.9, 1.0), (30.0, 0.0)])
def test_the_delay_starts_anew_after_a_worker_that_was_ready_for_30_seconds(lived_s: float, delay_s: float) -> None:
    fleet = ready_fleet()
    fleet.exited(PID, 1, START)
    assert seconds_until_replaced(fleet, START) == 0
    fleet.spawned(0, NEXT, START)
    fleet.became_ready(NEXT, START + 100)
    plan(fleet, START + 100)
    fleet.exited(NEXT, 1, START + 100 + lived_s)
    assert seconds_until_replaced(fleet, START + 100 + lived_s) == delay_s


@pytest.mark.parametrize("size", [1, 2])
def test_each_start_that_fails_is_told_with_the_time_of_the_next_and_that_nobody_serves(size: int) -> None:
    fleet = ready_fleet(size)
    fleet.exited(PID, -9, START)
    assert said(fleet) == []
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    nobody = " There is no worker that serves." if size == 1 else ""
    assert said(fleet) == [f"Worker 0 could not be started. The next attempt is in 1 s.{nobody}"]
    fleet.spawned(0, NEXT + 1, START + 1)
    fleet.exited(NEXT + 1, 3, START + 1)
    assert said(fleet, START + 1) == [f"Worker 0 could not be started. The next attempt is in 2 s.{nobody}"]


def test_each_slot_has_a_delay_of_its_own() -> None:
    fleet = ready_fleet()
    fleet.exited(PID, 1, START)
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    fleet.exited(OTHER, 1, START)
    assert plan(fleet) == [Steer(NONE), Spawn(1)]
    fleet.spawned(1, NEXT + 1, START)
    assert fleet.next_change(START) == START + 1
    assert plan(fleet, START + 1) == [Spawn(0)]


def test_a_process_that_cannot_be_made_is_tried_again_with_a_growing_delay() -> None:
    fleet, now, delays = Fleet(1, TIMES), START, []
    assert plan(fleet) == [Spawn(0)]
    for _ in range(4):
        fleet.could_not_spawn(0, now)
        delays.append(seconds_until_replaced(fleet, now))
        now += delays[-1]
    assert delays == [1, 2, 4, 8]
    assert not fleet.is_stopping


# Workers that take too long.

ODD = START + 0.1
"""Times are sums of floats: this and 0.3 are more than the time between them."""


@pytest.mark.parametrize("boot_s", [0.3, 60.0])
def test_a_worker_that_does_not_become_ready_in_time_is_ended(boot_s: float) -> None:
    fleet = ready_fleet(1, FleetTimes(boot_s=boot_s))
    fleet.exited(PID, 1, ODD)
    plan(fleet, ODD)
    fleet.spawned(0, NEXT, ODD)
    due = fleet.next_change(ODD)
    assert due == ODD + boot_s
    assert plan(fleet, due - 0.001) == []
    assert plan(fleet, due) == [GiveUp(NEXT)]
    assert plan(fleet, due) == []
    assert fleet.next_change(due) == due + 1
    assert plan(fleet, due + 1) == [Abort(NEXT, f"it did not become ready within {boot_s:g} seconds")]
    assert plan(fleet, due + 1) == []
    assert fleet.next_change(due + 1) == due + 2
    assert plan(fleet, due + 2) == [Kill(NEXT, f"it did not become ready within {boot_s:g} seconds")]
    assert plan(fleet, due + 100) == []
    assert fleet.next_change(due + 100) == math.inf


def test_a_worker_that_says_why_it_is_not_ready_has_time_to_end() -> None:
    fleet = ready_fleet(1, FleetTimes(boot_s=60, quick_s=5))
    fleet.exited(PID, 1, START)
    fleet.spawned(0, NEXT, START)
    plan(fleet, START)
    fleet.explained(NEXT, START + 59)  # It fails by itself.
    assert plan(fleet, START + 60) == [GiveUp(NEXT)]
    fleet.explained(NEXT, START + 60.5)
    fleet.explained(NEXT + 1, START + 60.5)
    assert plan(fleet, START + 65) == []
    assert [type(action) for action in plan(fleet, START + 65.5)] == [Kill]


def test_a_worker_that_is_ready_too_late_is_ended_all_the_same() -> None:
    fleet = ready_fleet(1, FleetTimes(boot_s=60))
    fleet.exited(PID, 1, START)
    fleet.spawned(0, NEXT, START)
    plan(fleet, START + 60)
    fleet.became_ready(NEXT, START + 60.5)
    assert states(fleet) == {NEXT: State.BOOTING}
    assert isinstance(plan(fleet, START + 61)[0], Abort)
    assert isinstance(plan(fleet, START + 62)[0], Kill)


def test_a_server_whose_first_worker_takes_too_long_ends_with_3() -> None:
    fleet = booting_fleet(1, FleetTimes(boot_s=60))
    plan(fleet, START + 60)
    fleet.exited(PID, -6, START + 60)
    assert plan(fleet, START + 60) == [Leave(), Finish(3)]


# Workers that are silent.

SILENT = FleetTimes(silent_s=30.0, stop_s=20.0)


def test_a_silent_worker_is_warned_of_then_ended_and_replaced() -> None:
    fleet = ready_fleet(2, SILENT)
    happened = []
    for second in range(1, 40):
        fleet.heard(OTHER, START + second)
        happened += [(second, action) for action in plan(fleet, START + second)]
    reason = "its event loop has been blocked for 30.0 seconds"
    assert happened == [
        (3, Steer(frozenset({1}))),
        (3, Warn(PID, 3.0)),
        (30, Kill(PID, reason)),  # without showing its stack once more
    ]
    fleet.exited(PID, -9, START + 40)
    assert plan(fleet, START + 40) == [Spawn(0)]


def test_a_worker_that_is_heard_again_gets_connections_again() -> None:
    fleet = ready_fleet(1, SILENT)
    assert plan(fleet, START + 3) == [Steer(NONE), Warn(PID, 3.0)]
    assert plan(fleet, START + 4) == []
    fleet.heard(PID, START + 5)
    assert plan(fleet, START + 5) == [Steer(frozenset({0}))]
    assert plan(fleet, START + 8) == [Steer(NONE), Warn(PID, 3.0)]


def test_a_worker_that_was_heard_late_is_judged_by_when_it_was_heard() -> None:
    fleet = ready_fleet(1, SILENT)
    fleet.heard(PID, START + 1)
    assert plan(fleet, START + 3.9) == []
    assert plan(fleet, START + 4) == [Steer(NONE), Warn(PID, 3.0)]


def test_an_old_beat_does_not_make_a_worker_silent() -> None:
    fleet = ready_fleet(1, SILENT)
    fleet.heard(PID, START - 100)
    assert plan(fleet, START + 2) == []


@pytest.mark.parametrize(("silent_s", "warn_s"), [(30.0, 3.0), (5.0, 1.0), (0.5, None), (math.inf, None)])
def test_the_warning_comes_after_a_tenth_of_the_time_and_at_least_a_second(
    silent_s: float, warn_s: float | None
) -> None:
    fleet = ready_fleet(1, FleetTimes(silent_s=silent_s))
    warned = (tenth for tenth in range(60) if any(isinstance(a, Warn) for a in plan(fleet, START + tenth / 10)))
    assert next(warned, None) == (None if warn_s is None else warn_s * 10)


def test_a_worker_that_is_ended_is_not_warned_of_again_and_gets_no_connections() -> None:
    fleet = ready_fleet(1, SILENT)
    plan(fleet, START + 30)
    fleet.heard(PID, START + 30.5)
    assert plan(fleet, START + 30.5) == []
    assert [type(action) for action in plan(fleet, START + 31)] == [Kill]


@pytest.mark.parametrize("state", [State.BOOTING, State.DRAINING], ids=lambda state: state.name.lower())
def test_a_worker_that_does_not_serve_may_be_silent(state: State) -> None:
    fleet = booting_fleet(1, FleetTimes(silent_s=30, stop_s=1000))
    if state is State.DRAINING:
        fleet.stop(START)
        plan(fleet)
    assert plan(fleet, START + 900) == []


# Workers that have served long enough.


@pytest.mark.parametrize("lifetime_s", [0.3, 3600.0])
def test_a_worker_is_replaced_after_its_lifetime(lifetime_s: float) -> None:
    fleet = booting_fleet(1, FleetTimes(lifetime_s=lifetime_s))
    fleet.became_ready(PID, ODD)
    plan(fleet, ODD)
    assert fleet.next_change(ODD) == ODD + lifetime_s
    assert plan(fleet, ODD + lifetime_s - 0.001) == []
    assert list(fleet.plan(ODD + lifetime_s)) == [
        Tell(f"Worker [{PID}] is going to be replaced: it has been running for {lifetime_s:g} seconds."),
        Spawn(0),
    ]


def test_workers_of_the_same_age_are_replaced_one_after_the_other() -> None:
    fleet = ready_fleet(3, FleetTimes(lifetime_s=3600))
    now = START + 3600
    assert plan(fleet, now) == [Spawn(0)]
    start_successor(fleet, NEXT, now, slot=0)
    assert plan(fleet, now) == [Stop(PID), Spawn(1)]
    start_successor(fleet, NEXT + 1, now, slot=1)
    assert plan(fleet, now) == [Stop(PID + 1), Spawn(2)]
    start_successor(fleet, NEXT + 2, now, slot=2)
    assert plan(fleet, now) == [Stop(PID + 2)]


def test_a_worker_that_is_starting_does_not_age() -> None:
    fleet = booting_fleet(1, FleetTimes(lifetime_s=3600))
    assert said(fleet, START + 9999) == []


def test_where_all_workers_are_full_connections_go_to_all_whose_idle_connections_make_room() -> None:
    fleet = ready_fleet(2)
    for pid, steered in ((PID, {1}), (OTHER, {0, 1})):
        fleet.filled(pid, True)
        assert plan(fleet, START + 1) == [Steer(frozenset(steered))]
    fleet.filled(OTHER, False)
    assert plan(fleet, START + 1) == [Steer(frozenset({1}))]
