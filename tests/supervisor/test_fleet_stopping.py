"""The fleet under a clock that the test moves: how the server ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fastserve.supervisor.fleet import (
    Abort,
    Action,
    Finish,
    Fleet,
    FleetTimes,
    Kill,
    Leave,
    Quit,
    Spawn,
    State,
    Steer,
    Stop,
)

from .fleets import OTHER, PID, START, TIMES, booting_fleet, plan, ready_fleet, start_successor, states

NEXT = PID + 50
KILL_ALL: list[Action] = [Kill(PID, "it did not stop in time"), Kill(OTHER, "it did not stop in time")]
STOP_ALL: list[Action] = [Leave(), Stop(PID), Stop(OTHER)]
QUIT_ALL: list[Action] = [Leave(), Quit(PID), Quit(OTHER)]
DELAYED = FleetTimes(stop_s=20.0, quick_s=5.0, delay_s=8.0)


def end_all(fleet: Fleet, now: float) -> None:
    for pid in states(fleet):
        fleet.exited(pid, 0, now)


def stop(fleet: Fleet, now: float) -> None:
    fleet.stop(now)


def stop_quickly(fleet: Fleet, now: float) -> None:
    fleet.stop_quickly(now)


def interrupt(fleet: Fleet, now: float) -> None:
    fleet.interrupt(now)


Urgency = Callable[[Fleet, float], None]


@pytest.mark.parametrize("urgency", [stop, stop_quickly])
def test_a_server_without_workers_ends_at_once(urgency: Urgency) -> None:
    fleet = Fleet(2, TIMES)
    urgency(fleet, START)
    assert plan(fleet) == [Leave(), Finish(0)]


@pytest.mark.parametrize("urgency", [stop, stop_quickly])
def test_a_server_ends_when_its_last_worker_has(urgency: Urgency) -> None:
    fleet = ready_fleet()
    urgency(fleet, START)
    plan(fleet)
    fleet.exited(PID, 0, START + 1)
    assert plan(fleet, START + 1) == []
    fleet.exited(OTHER, -9, START + 2)
    assert plan(fleet, START + 2) == [Finish(0)]
    assert plan(fleet, START + 3) == [Finish(0)]


# What was asked one second after the other -> what is to be done each time, and when those that are left are killed.
ORDERS: dict[str, tuple[list[Urgency], list[list[Action]], float]] = {
    "stop": ([stop], [STOP_ALL], 20.0),
    "quickly": ([stop_quickly], [QUIT_ALL], 20.0),
    "stop, stop": ([stop, stop], [STOP_ALL, QUIT_ALL], 2.0),
    "stop, quickly": ([stop, stop_quickly], [STOP_ALL, QUIT_ALL], 2.0),
    "quickly, stop": ([stop_quickly, stop], [QUIT_ALL, QUIT_ALL], 2.0),
    "quickly, quickly": ([stop_quickly, stop_quickly], [QUIT_ALL, QUIT_ALL], 2.0),
    "stop, stop, stop": ([stop, stop, stop], [STOP_ALL, QUIT_ALL, KILL_ALL], 2.0),
    "interrupt": ([interrupt], [QUIT_ALL], 20.0),
    "interrupt, interrupt": ([interrupt, interrupt], [QUIT_ALL, QUIT_ALL], 2.0),
    "stop, interrupt": ([stop, interrupt], [STOP_ALL, QUIT_ALL], 2.0),
    "stop, quickly, stop": ([stop, stop_quickly, stop], [STOP_ALL, QUIT_ALL, KILL_ALL], 2.0),
}


@pytest.mark.parametrize(("asked", "outcome", "killed_s"), ORDERS.values(), ids=ORDERS.keys())
def test_a_server_ends_more_urgently_each_time_it_is_asked(
    asked: list[Urgency], outcome: list[list[Action]], killed_s: float
) -> None:
    fleet = ready_fleet()
    happened = []
    for second, urgency in enumerate(asked):
        urgency(fleet, START + second)
        happened.append(plan(fleet, START + second))
    assert happened == outcome
    if happened[-1] != KILL_ALL:
        now = START + len(asked) - 1
        assert fleet.next_change(now) == START + killed_s
        assert plan(fleet, START + killed_s - 0.001) == []
        assert plan(fleet, START + killed_s) == KILL_ALL
    assert fleet.next_change(START + killed_s) == math.inf
    assert plan(fleet, START + killed_s + 100) == []


@pytest.mark.parametrize(("times", "outcome"), [(TIMES, STOP_ALL), (DELAYED, [Leave()])], ids=["at once", "later"])
def test_a_worker_that_was_told_to_stop_with_all_others_is_not_replaced(
    times: FleetTimes, outcome: list[Action]
) -> None:
    fleet = ready_fleet(times=times)
    fleet.asked_to_stop(PID, START)
    assert plan(fleet) == []
    assert START < fleet.next_change(START) < START + 1
    fleet.stop(START + 0.1)
    assert plan(fleet, START + 0.1) == outcome
    fleet.asked_to_stop(OTHER, START + 0.2)
    assert plan(fleet, START + 7.9) == []


def test_a_worker_alone_that_was_told_to_stop_is_replaced_first() -> None:
    fleet = ready_fleet()
    fleet.asked_to_stop(PID, START)
    assert plan(fleet, fleet.next_change(START)) == [Spawn(0)]
    start_successor(fleet, NEXT, START + 1)
    assert plan(fleet, START + 1) == [Stop(PID)]


def test_the_second_time_does_not_give_more_time() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    plan(fleet)
    fleet.stop_quickly(START + 19.5)
    plan(fleet, START + 19.5)
    assert fleet.next_change(START + 19.5) == START + 20


def test_the_second_time_counts_also_when_nobody_has_looked_in_between() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    fleet.stop(START + 0.5)
    assert plan(fleet, START + 0.5) == [*STOP_ALL, *QUIT_ALL]
    assert plan(fleet, START + 1.5) == KILL_ALL


@pytest.mark.parametrize("times", [TIMES, DELAYED], ids=["at once", "with a delay"])
@pytest.mark.parametrize("urgency", [stop, stop_quickly])
def test_what_is_asked_twice_within_half_a_second_is_asked_once(urgency: Urgency, times: FleetTimes) -> None:
    fleet = ready_fleet(times=times)
    urgency(fleet, START)
    assert plan(fleet)
    change = fleet.next_change(START)
    for later_s in (0.001, 0.3, 0.499):
        urgency(fleet, START + later_s)
        assert plan(fleet, START + later_s) == []
    assert fleet.next_change(START + 0.499) == change
    urgency(fleet, START + 0.501)
    assert plan(fleet, START + 0.501) == (STOP_ALL if times is DELAYED and urgency is stop else QUIT_ALL)


def test_something_else_within_half_a_second_counts() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    fleet.stop_quickly(START + 0.1)
    assert plan(fleet, START + 0.1) == [*STOP_ALL, *QUIT_ALL]
    assert plan(fleet, START + 1.1) == KILL_ALL


def test_a_server_that_was_just_told_to_stop_does_not_wait_when_it_is_succeeded() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    plan(fleet)
    fleet.stop(START + 0.1, without_delay=True)
    assert plan(fleet, START + 0.1) == STOP_ALL


def test_a_second_time_after_the_kill_kills_again() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    plan(fleet, START + 20)
    fleet.stop(START + 30)
    assert plan(fleet, START + 30) == QUIT_ALL
    assert plan(fleet, START + 31) == KILL_ALL


def test_only_workers_that_are_left_are_killed() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    plan(fleet)
    fleet.exited(PID, 0, START + 1)
    assert plan(fleet, START + 20) == KILL_ALL[1:]


def test_a_worker_that_was_being_replaced_has_no_more_time_than_it_had() -> None:
    fleet = ready_fleet(1)
    fleet.replace(PID, "worn")
    plan(fleet)
    start_successor(fleet, NEXT)
    plan(fleet)
    fleet.stop(START + 10)
    assert plan(fleet, START + 10) == [Leave(), Stop(NEXT)], "the other one was told"
    assert plan(fleet, START + 20) == KILL_ALL[:1]
    assert plan(fleet, START + 30) == [Kill(NEXT, "it did not stop in time")]


@pytest.mark.parametrize("urgency", [stop, stop_quickly])
def test_a_worker_that_is_starting_is_stopped_too(urgency: Urgency) -> None:
    fleet = booting_fleet()
    urgency(fleet, START)
    plan(fleet)
    assert set(states(fleet).values()) == {State.DRAINING}
    fleet.became_ready(PID, START)
    assert set(states(fleet).values()) == {State.DRAINING}
    end_all(fleet, START)
    assert plan(fleet) == [Finish(0)]


@pytest.mark.parametrize(("urgency", "told"), [(stop, Stop(NEXT)), (stop_quickly, Quit(NEXT))])
def test_a_worker_that_was_only_just_started_is_stopped_too(urgency: Urgency, told: Action) -> None:
    fleet = ready_fleet()
    urgency(fleet, START)
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    assert plan(fleet) == [told]


def test_nothing_is_started_or_opened_while_the_server_ends() -> None:
    fleet = ready_fleet()
    fleet.stop(START)
    plan(fleet)
    fleet.exited(PID, -9, START)
    fleet.replace(OTHER, "worn")
    fleet.resize(+1)
    fleet.reload()
    fleet.pause()
    assert plan(fleet, START + 19) == []
    fleet.exited(OTHER, 0, START + 19)
    assert plan(fleet, START + 19) == [Finish(0)]


def test_a_worker_that_does_not_react_when_the_server_ends_is_killed_as_soon_as_it_would_have_been() -> None:
    fleet = ready_fleet(1, FleetTimes(silent_s=30, stop_s=20))
    assert [type(action) for action in plan(fleet, START + 30)] == [Steer, Abort]
    fleet.stop(START + 30.5)
    plan(fleet, START + 30.5)
    assert [type(action) for action in plan(fleet, START + 31)] == [Kill]


def test_a_stop_without_time_asks_and_kills_at_once() -> None:
    fleet = ready_fleet(1, FleetTimes(stop_s=0.0))
    fleet.stop(START)
    assert sorted(map(repr, plan(fleet))) == sorted(map(repr, [Leave(), Stop(PID), *KILL_ALL[:1]]))


def test_a_paused_server_can_end() -> None:
    fleet = ready_fleet()
    fleet.pause()
    plan(fleet)
    end_all(fleet, START)
    fleet.stop(START)
    assert plan(fleet) == [Leave(), Finish(0)]


# With a delay for those who send requests.


def test_a_server_that_is_about_to_end_says_so_first_and_goes_on() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    assert (plan(fleet), fleet.is_stopping) == ([Leave()], False)
    assert fleet.next_change(START) == START + 8
    assert plan(fleet, START + 7.9) == []
    assert (plan(fleet, START + 8), fleet.is_stopping) == (STOP_ALL, True)
    assert plan(fleet, START + 28) == KILL_ALL


def test_a_worker_that_ends_during_the_delay_is_replaced() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    plan(fleet)
    fleet.exited(PID, -9, START + 1)
    assert plan(fleet, START + 1) == [Steer(frozenset({1})), Spawn(0)]


@pytest.mark.parametrize(
    ("again", "told", "killed_s"),
    [pytest.param(stop, STOP_ALL, 21.0, id="stop"), pytest.param(stop_quickly, QUIT_ALL, 21.0, id="quickly")],
)
def test_asking_again_cuts_the_delay_short(again: Urgency, told: list[Action], killed_s: float) -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    plan(fleet)
    again(fleet, START + 1)
    assert plan(fleet, START + 1) == told
    for now in (START + 2, START + 8):
        assert plan(fleet, now) == ([] if now < START + killed_s else KILL_ALL)
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    again(fleet, START + 1)
    again(fleet, START + 2)
    plan(fleet, START + 2)
    assert plan(fleet, START + 3) == KILL_ALL, "and the third time at once"


def test_a_server_that_is_succeeded_does_not_wait() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START, without_delay=True)
    assert plan(fleet) == STOP_ALL


def test_a_server_that_is_succeeded_while_it_waits_does_so_no_longer() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop(START)
    plan(fleet)
    fleet.stop(START + 1, without_delay=True)
    assert plan(fleet, START + 1) == STOP_ALL


def test_stopping_quickly_does_not_wait() -> None:
    fleet = ready_fleet(times=DELAYED)
    fleet.stop_quickly(START)
    assert plan(fleet) == QUIT_ALL
    assert plan(fleet, START + 20) == KILL_ALL


def test_an_interrupt_keeps_to_the_time_that_is_set_without_the_time_to_leave() -> None:
    fleet = ready_fleet(times=FleetTimes(stop_s=20.0, quick_s=5.0, delay_s=8.0, has_set_stop=True))
    fleet.interrupt(START)
    assert plan(fleet) == STOP_ALL
    assert plan(fleet, START + 19) == []
    fleet.interrupt(START + 19)
    assert plan(fleet, START + 19) == QUIT_ALL, "and the second one does not"


def test_a_failed_start_does_not_wait() -> None:
    fleet = booting_fleet(times=DELAYED)
    fleet.exited(PID, 3, START)
    assert plan(fleet) == [Leave(), Stop(OTHER)]
    end_all(fleet, START)
    assert plan(fleet) == [Finish(3)]


def test_a_worker_that_is_blocked_is_not_waited_for_when_the_server_stops_quickly() -> None:
    fleet = ready_fleet(times=FleetTimes(stop_s=20.0, quick_s=5.0, silent_s=30.0))
    fleet.heard(OTHER, START + 10)
    fleet.stop_quickly(START + 10)
    assert plan(fleet, START + 10) == QUIT_ALL
    assert [action.pid for action in plan(fleet, START + 15) if isinstance(action, Kill)] == [PID]
    assert [action.pid for action in plan(fleet, START + 30) if isinstance(action, Kill)] == [OTHER]
