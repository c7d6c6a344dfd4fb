"""The fleet under a clock that the test moves. What it does over long times is in test_fleet_machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastserve.supervisor.fleet import STARTUP_FAILED, Action, Finish, Fleet, Kill, Spawn, State, Terminate

STOP_S = 20.0
START = 1000.0
"""What the clock shows at first."""
PID = 100
"""The worker that a case is about, in slot 0. The one in slot 1 has the next pid."""
OTHER = PID + 1


def plan(fleet: Fleet, now: float) -> list[Action]:
    return list(fleet.plan(now))


def states(fleet: Fleet) -> dict[int, State]:
    return {worker.pid: worker.state for worker in fleet.workers}


def fleet_in(state: State) -> Fleet:
    """Return a fleet of two: the worker PID is in this state, the other one is ready."""
    fleet = Fleet(2, stop_s=STOP_S)
    for slot in range(2):
        fleet.spawned(slot, PID + slot, START)
    fleet.became_ready(OTHER, START)
    if state is not State.STARTING:
        fleet.became_ready(PID, START)
    if state is State.STOPPING:
        fleet.stop(START)
    plan(fleet, START)
    return fleet


def ready(fleet: Fleet, now: float) -> None:
    fleet.became_ready(PID, now)


def exited(fleet: Fleet, now: float) -> None:
    fleet.exited(PID, now)


def stopped(fleet: Fleet, now: float) -> None:
    fleet.stop(now)


def time_passed(fleet: Fleet, now: float) -> None:
    """Do nothing: `now` is later anyway."""


Input = Callable[[Fleet, float], None]

# (state of the worker, what happens ten seconds later) -> (its state afterwards, what is to be done)
TABLE: dict[tuple[State, Input], tuple[State | None, list[Action]]] = {
    (State.STARTING, ready): (State.READY, []),
    (State.STARTING, exited): (None, [Spawn(0)]),
    (State.STARTING, stopped): (State.STOPPING, [Terminate(PID), Terminate(OTHER)]),
    (State.STARTING, time_passed): (State.STARTING, []),
    (State.READY, ready): (State.READY, []),
    (State.READY, exited): (None, [Spawn(0)]),
    (State.READY, stopped): (State.STOPPING, [Terminate(PID), Terminate(OTHER)]),
    (State.READY, time_passed): (State.READY, []),
    (State.STOPPING, ready): (State.STOPPING, []),
    (State.STOPPING, exited): (None, []),
    (State.STOPPING, stopped): (State.STOPPING, [Terminate(PID), Terminate(OTHER)]),
    (State.STOPPING, time_passed): (State.STOPPING, []),
}
IDS = [f"{state.name.lower()}-{happens.__name__}" for state, happens in TABLE]


def test_the_table_has_every_state_and_every_input() -> None:
    assert set(TABLE) == {(state, happens) for state in State for happens in (ready, exited, stopped, time_passed)}


@pytest.mark.parametrize(("case", "outcome"), TABLE.items(), ids=IDS)
def test_a_worker_moves_as_the_table_says(
    case: tuple[State, Input], outcome: tuple[State | None, list[Action]]
) -> None:
    state, happens = case
    fleet = fleet_in(state)
    happens(fleet, START + 10)
    assert (states(fleet).get(PID), plan(fleet, START + 10)) == outcome


@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
@pytest.mark.parametrize("happens", ["became_ready", "exited"])
def test_a_process_that_is_no_worker_changes_nothing(state: State, happens: str) -> None:
    fleet = fleet_in(state)
    before = states(fleet)
    assert getattr(fleet, happens)(7, START + 10) is None
    assert states(fleet) == before
    assert plan(fleet, START + 10) == []


def test_a_new_fleet_fills_every_slot() -> None:
    fleet = Fleet(3, stop_s=STOP_S)
    assert plan(fleet, START) == [Spawn(0), Spawn(1), Spawn(2)]
    assert fleet.workers == []


def test_a_worker_is_started_once_for_each_slot() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    fleet.spawned(0, PID, START)
    assert plan(fleet, START) == [Spawn(1)]
    fleet.spawned(1, OTHER, START)
    assert plan(fleet, START + 1000) == []


def test_nothing_changes_by_itself_while_all_workers_are_there() -> None:
    assert fleet_in(State.STARTING).next_change() is None
    assert fleet_in(State.READY).next_change() is None


def test_a_fleet_is_ready_when_every_worker_is() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    steps: list[Callable[[], object]] = [
        lambda: fleet.spawned(0, PID, START),
        lambda: fleet.became_ready(PID, START),
        lambda: fleet.spawned(1, OTHER, START),
        lambda: fleet.became_ready(OTHER, START),
        lambda: fleet.exited(PID, START),
    ]
    was_ready = [fleet.is_ready]
    for step in steps:
        step()
        was_ready.append(fleet.is_ready)
    assert was_ready == [False, False, False, False, True, False]


def test_becoming_ready_twice_does_not_make_a_worker_younger() -> None:
    fleet = fleet_in(State.READY)
    fleet.became_ready(PID, START + 50)
    assert [worker.since for worker in fleet.workers] == [START, START]


@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
def test_the_worker_that_ended_is_returned_as_it_was(state: State) -> None:
    worker = fleet_in(state).exited(PID, START + 10)
    assert worker is not None
    assert (worker.slot, worker.pid, worker.state) == (0, PID, state)


# Starting.


def test_a_worker_that_ends_before_any_was_ready_ends_the_server_with_3() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    fleet.spawned(0, PID, START)
    fleet.spawned(1, OTHER, START)
    fleet.exited(PID, START + 1)
    assert fleet.is_stopping
    assert plan(fleet, START + 1) == [Terminate(OTHER)]
    fleet.exited(OTHER, START + 2)
    assert plan(fleet, START + 2) == [Finish(STARTUP_FAILED)]


def test_a_failed_start_stays_one_when_a_signal_follows() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    fleet.spawned(0, PID, START)
    fleet.spawned(1, OTHER, START)
    fleet.exited(PID, START)
    fleet.stop(START)
    fleet.exited(OTHER, START)
    assert plan(fleet, START)[-1] == Finish(3)


def test_no_worker_is_started_for_a_server_that_failed_to_start() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    fleet.spawned(0, PID, START)
    fleet.exited(PID, START)
    assert plan(fleet, START) == [Finish(3)]


def test_a_worker_that_fails_to_start_beside_a_ready_one_is_tried_again() -> None:
    fleet = fleet_in(State.STARTING)
    fleet.exited(PID, START)
    assert not fleet.is_stopping
    assert plan(fleet, START) == [Spawn(0)]


# Replacing.


def seconds_until_replaced(fleet: Fleet, now: float) -> float:
    """Return how long slot 0 stays empty from now on, and check that `next_change` says so."""
    at = fleet.next_change()
    assert at is not None
    assert plan(fleet, at) == [Spawn(0)]
    if at > now:
        assert plan(fleet, at - 0.001) == []
    return at - now


@pytest.mark.parametrize("lived_s", [0.0, 1.0, 29.9], ids="{:g} s".format)
def test_the_delay_grows_from_0_to_30_seconds_while_workers_end_early(lived_s: float) -> None:
    fleet, now, pid, delays = fleet_in(State.READY), START, PID, []
    for _ in range(9):
        now += lived_s
        fleet.exited(pid, now)
        delays.append(seconds_until_replaced(fleet, now))
        now += delays[-1]
        pid += 10
        fleet.spawned(0, pid, now)
        fleet.became_ready(pid, now)
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_delay_grows_as_well_for_workers_that_are_never_ready() -> None:
    fleet, now, pid, delays = fleet_in(State.READY), START, PID, []
    for _ in range(4):
        now += 100  # a start that takes so long proves nothing
        fleet.exited(pid, now)
        delays.append(seconds_until_replaced(fleet, now))
        now += delays[-1]
        pid += 10
        fleet.spawned(0, pid, now)
    assert delays == [0, 1, 2, 4]


def test_the_delay_starts_anew_after_a_worker_that_was_ready_for_30_seconds() -> None:
    fleet = fleet_in(State.READY)
    fleet.exited(PID, START)
    assert seconds_until_replaced(fleet, START) == 0
    fleet.spawned(0, 200, START)
    fleet.exited(200, START)
    assert seconds_until_replaced(fleet, START) == 1
    fleet.spawned(0, 300, START + 1)
    fleet.became_ready(300, START + 2)
    fleet.exited(300, START + 32)
    assert seconds_until_replaced(fleet, START + 32) == 0


def test_each_slot_has_a_delay_of_its_own() -> None:
    fleet = fleet_in(State.READY)
    fleet.exited(PID, START)
    fleet.spawned(0, 200, START)
    fleet.exited(200, START)
    fleet.exited(OTHER, START)
    assert plan(fleet, START) == [Spawn(1)]
    fleet.spawned(1, 300, START)
    assert fleet.next_change() == START + 1
    assert plan(fleet, START + 1) == [Spawn(0)]


# Stopping.


def test_a_server_without_workers_stops_at_once() -> None:
    fleet = Fleet(2, stop_s=STOP_S)
    fleet.stop(START)
    assert plan(fleet, START) == [Finish(0)]


def test_a_server_ends_when_its_last_worker_has() -> None:
    fleet = fleet_in(State.STOPPING)
    fleet.exited(PID, START + 1)
    assert plan(fleet, START + 1) == []
    fleet.exited(OTHER, START + 2)
    assert plan(fleet, START + 2) == [Finish(0)]


def test_a_worker_that_dies_while_the_server_stops_is_not_replaced() -> None:
    fleet = fleet_in(State.STOPPING)
    fleet.exited(PID, START + 1)
    assert plan(fleet, START + 19) == []


def test_workers_that_do_not_stop_are_killed_when_their_time_is_over() -> None:
    fleet = fleet_in(State.STOPPING)
    assert fleet.next_change() == START + STOP_S
    assert plan(fleet, START + STOP_S - 0.001) == []
    assert plan(fleet, START + STOP_S) == [Kill(PID), Kill(OTHER)]


def test_only_workers_that_are_left_are_killed() -> None:
    fleet = fleet_in(State.STOPPING)
    fleet.exited(PID, START + 1)
    assert plan(fleet, START + STOP_S) == [Kill(OTHER)]


def test_a_worker_is_killed_once() -> None:
    fleet = fleet_in(State.STOPPING)
    plan(fleet, START + STOP_S)
    assert plan(fleet, START + STOP_S) == []
    assert plan(fleet, START + STOP_S + 100) == []
    assert fleet.next_change() is None


def test_the_second_stop_leaves_one_second() -> None:
    fleet = fleet_in(State.STOPPING)
    fleet.stop(START + 5)
    assert plan(fleet, START + 5) == [Terminate(PID), Terminate(OTHER)]
    assert fleet.next_change() == START + 6
    assert plan(fleet, START + 6) == [Kill(PID), Kill(OTHER)]


def test_the_second_stop_does_not_give_more_time() -> None:
    fleet = fleet_in(State.STOPPING)
    fleet.stop(START + STOP_S - 0.5)
    assert fleet.next_change() == START + STOP_S


def test_more_stops_do_not_give_more_time() -> None:
    fleet = fleet_in(State.STOPPING)
    for tenth in range(10):
        fleet.stop(START + 5 + tenth / 10)
    assert fleet.next_change() == START + 6


def test_a_stop_after_the_kill_kills_again() -> None:
    fleet = fleet_in(State.STOPPING)
    plan(fleet, START + STOP_S)
    fleet.stop(START + STOP_S + 1)
    kills = [action for action in plan(fleet, START + STOP_S + 2) if isinstance(action, Kill)]
    assert kills == [Kill(PID), Kill(OTHER)]


def test_the_exit_status_is_that_of_the_first_stop() -> None:
    fleet = Fleet(1, stop_s=STOP_S)
    fleet.stop(START, 3)
    fleet.stop(START, 0)
    assert plan(fleet, START) == [Finish(3)]


def test_a_stop_without_time_asks_and_kills_at_once() -> None:
    fleet = Fleet(1, stop_s=0.0)
    fleet.spawned(0, PID, START)
    fleet.stop(START)
    assert plan(fleet, START) == [Terminate(PID), Kill(PID)]
