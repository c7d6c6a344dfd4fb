"""The fleet under a clock that the test moves: replacing, reloading, resizing and pausing."""

from __future__ import annotations

import math

import pytest

from fastserve.supervisor.fleet import (
    RELOAD,
    Abort,
    CloseSlot,
    Fleet,
    FleetTimes,
    GiveUp,
    Kill,
    OpenSlot,
    Spawn,
    State,
    Steer,
    Stop,
    Tell,
)

from .fleets import OTHER, PID, START, TIMES, booting_fleet, plan, ready_fleet, said, start_successor, states

NEXT = PID + 50
GIVEN_UP = "The reload is given up: a new worker did not become ready. The running workers stay in service."
ALL_REPLACED = "All workers have been replaced."

# Replacing one.


def test_a_worker_is_stopped_when_its_successor_is_ready() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    assert not fleet.is_whole
    assert list(fleet.plan(START)) == [Tell(f"Worker [{PID}] is going to be replaced: worn."), Spawn(0)]
    fleet.spawned(0, NEXT, START)
    assert plan(fleet, START + 500) == []
    fleet.became_ready(NEXT, START + 500)
    assert plan(fleet, START + 500) == [Stop(PID)]
    assert states(fleet) == {PID: State.DRAINING, NEXT: State.READY, OTHER: State.READY}
    assert fleet.is_whole


def test_a_worker_that_was_replaced_and_does_not_stop_is_killed() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    plan(fleet)
    start_successor(fleet, NEXT)
    plan(fleet)
    assert fleet.next_change(START) == START + 20
    assert plan(fleet, START + 19.9) == []
    assert plan(fleet, START + 20) == [Kill(PID, "it did not stop in time")]
    fleet.exited(PID, -9, START + 20)
    assert plan(fleet, START + 20) == []


def test_workers_are_replaced_one_at_a_time() -> None:
    fleet = ready_fleet()
    fleet.replace(OTHER, "worn")
    fleet.replace(PID, "worn")
    assert plan(fleet) == [Spawn(0)]
    start_successor(fleet, NEXT)
    assert plan(fleet) == [Stop(PID), Spawn(1)]


def test_a_worker_that_is_to_be_replaced_twice_is_replaced_once() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    fleet.replace(PID, "too big")
    assert said(fleet) == [f"Worker [{PID}] is going to be replaced: worn."]
    fleet.spawned(0, NEXT, START)
    fleet.replace(PID, "too old")
    fleet.became_ready(NEXT, START)
    fleet.replace(PID, "too old")
    assert list(fleet.plan(START)) == [Stop(PID)]


def test_a_worker_whose_successor_fails_stays_and_is_replaced_later() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    assert list(fleet.plan(START)) == [
        Tell("Worker 0 could not be replaced. It goes on, and is replaced later.", is_error=True)
    ]
    assert fleet.next_change(START) == START + 1
    assert plan(fleet, START + 1) == [Spawn(0)]
    start_successor(fleet, NEXT, START + 1)
    assert plan(fleet, START + 1) == [Stop(PID)]


def test_while_one_cannot_be_replaced_it_is_the_turn_of_others() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    fleet.replace(OTHER, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    assert plan(fleet) == [Spawn(1)]


@pytest.mark.parametrize("reason", ["worn", RELOAD])
def test_a_successor_for_which_there_is_no_process_is_tried_again(reason: str) -> None:
    fleet = ready_fleet(1)
    fleet.replace(PID, reason)
    assert plan(fleet) == [Spawn(0)]
    fleet.could_not_spawn(0, START)
    assert plan(fleet) == []
    assert plan(fleet, START + 1) == [Spawn(0)]


def test_a_successor_that_does_not_become_ready_in_time_is_ended() -> None:
    fleet = ready_fleet(1, FleetTimes(boot_s=60))
    fleet.replace(PID, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    assert [type(action) for action in plan(fleet, START + 60)] == [GiveUp]
    assert [type(action) for action in plan(fleet, START + 61)] == [Abort]
    assert [type(action) for action in plan(fleet, START + 62)] == [Kill]
    fleet.exited(NEXT, -9, START + 62)
    assert plan(fleet, START + 62) == []
    assert states(fleet) == {PID: State.READY}


def test_a_worker_that_ends_while_its_successor_starts_has_one_already() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.exited(PID, -11, START)
    assert plan(fleet, START + 60) == [Steer(frozenset({1}))]
    fleet.became_ready(NEXT, START + 60)
    assert plan(fleet, START + 60) == [Steer(frozenset({0, 1}))]
    assert fleet.is_whole


def test_a_worker_that_ends_before_its_turn_is_not_replaced_twice() -> None:
    fleet = ready_fleet()
    fleet.replace(PID, "worn")
    fleet.exited(PID, 0, START)
    assert plan(fleet) == [Steer(frozenset({1})), Spawn(0)]
    start_successor(fleet, NEXT)
    assert plan(fleet) == [Steer(frozenset({0, 1}))]
    assert fleet.is_whole


# Replacing all.


def test_a_reload_replaces_all_workers_in_turn() -> None:
    fleet = ready_fleet(3)
    fleet.reload()
    happened = []
    for slot in range(3):
        happened += plan(fleet, START)
        assert not fleet.is_whole
        start_successor(fleet, NEXT + slot, slot=slot)
    assert happened == [Spawn(0), Stop(PID), Spawn(1), Stop(PID + 1), Spawn(2)]
    assert list(fleet.plan(START)) == [Tell(ALL_REPLACED), Stop(PID + 2)]
    assert fleet.is_whole


def test_a_reload_whose_first_worker_fails_is_given_up() -> None:
    fleet = ready_fleet(3)
    fleet.reload()
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    assert list(fleet.plan(START)) == [Tell(GIVEN_UP, is_error=True)]
    assert list(fleet.plan(START + 1000)) == []
    assert fleet.is_whole


def test_a_reload_that_fails_in_the_middle_is_given_up_there() -> None:
    fleet = ready_fleet(3)
    fleet.reload()
    plan(fleet)
    start_successor(fleet, NEXT)
    plan(fleet)
    fleet.spawned(1, NEXT + 1, START)
    fleet.exited(NEXT + 1, 1, START)
    assert list(fleet.plan(START)) == [Tell(GIVEN_UP, is_error=True)]
    assert list(fleet.plan(START + 19)) == []
    assert {pid for pid, state in states(fleet).items() if state is State.READY} == {NEXT, PID + 1, PID + 2}


def test_what_else_was_to_be_replaced_still_is_when_a_reload_is_given_up() -> None:
    fleet = ready_fleet(2, FleetTimes(lifetime_s=100))
    fleet.reload()
    plan(fleet, START + 1)
    fleet.spawned(0, NEXT, START + 1)
    fleet.exited(NEXT, 1, START + 1)
    assert plan(fleet, START + 1) == []
    assert Spawn(0) in plan(fleet, START + 100)


def test_a_reload_does_not_wait_for_the_delay_of_a_slot() -> None:
    fleet = ready_fleet(1)
    fleet.exited(PID, 1, START)
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.exited(NEXT, 3, START)
    assert plan(fleet) == []
    fleet.reload()
    assert plan(fleet) == [Spawn(0)]


def test_a_worker_that_was_starting_when_a_reload_came_is_replaced_as_well() -> None:
    fleet = booting_fleet()
    fleet.became_ready(OTHER, START)
    plan(fleet)
    fleet.reload()
    assert plan(fleet) == [Spawn(1)], "only the one that is ready, at first"
    start_successor(fleet, NEXT, slot=1)
    plan(fleet)
    fleet.became_ready(PID, START)
    assert plan(fleet) == [Steer(frozenset({0, 1})), Spawn(0)]
    start_successor(fleet, NEXT + 1, slot=0)
    assert said(fleet) == [ALL_REPLACED]
    assert plan(fleet, START + 10) == []
    assert fleet.is_whole


def test_a_worker_that_is_started_during_a_reload_is_new_enough() -> None:
    fleet = ready_fleet()
    fleet.reload()
    plan(fleet)
    fleet.exited(OTHER, -9, START)
    assert plan(fleet) == [Steer(frozenset({0})), Spawn(1)]
    start_successor(fleet, NEXT + 1, slot=1)
    start_successor(fleet, NEXT, slot=0)
    assert list(fleet.plan(START)) == [Steer(frozenset({0, 1})), Tell(ALL_REPLACED), Stop(PID)]


def test_a_second_reload_begins_anew() -> None:
    fleet = ready_fleet()
    fleet.reload()
    plan(fleet)
    start_successor(fleet, NEXT)
    plan(fleet)
    fleet.spawned(1, NEXT + 1, START)
    fleet.reload()
    fleet.became_ready(NEXT + 1, START)
    assert plan(fleet) == [Stop(OTHER), Spawn(0)]
    start_successor(fleet, NEXT + 2)
    assert plan(fleet) == [Stop(NEXT), Spawn(1)], "it was started before the second reload"
    start_successor(fleet, NEXT + 3, slot=1)
    assert list(fleet.plan(START)) == [Tell(ALL_REPLACED), Stop(NEXT + 1)]


# Resizing.


def test_new_slots_take_the_least_free_numbers_and_are_opened_first() -> None:
    fleet = ready_fleet(1)
    fleet.resize(+1)
    fleet.resize(+1)
    assert plan(fleet) == [OpenSlot(1), OpenSlot(2), Spawn(1), Spawn(2)]
    assert fleet.slots == {0, 1, 2}


def test_the_last_slot_is_closed_when_its_worker_is_gone() -> None:
    fleet = ready_fleet()
    fleet.resize(-1)
    assert plan(fleet) == [Steer(frozenset({0})), Stop(OTHER)]
    assert fleet.is_whole
    assert fleet.next_change(START) == START + 20
    assert fleet.slots == {0, 1}
    fleet.exited(OTHER, 0, START)
    assert plan(fleet) == [CloseSlot(1)]
    assert fleet.slots == {0}


def test_a_slot_that_is_still_draining_is_not_used_again() -> None:
    fleet = ready_fleet()
    fleet.resize(-1)
    plan(fleet)
    fleet.resize(+1)
    assert plan(fleet) == [OpenSlot(2), Spawn(2)]
    fleet.spawned(2, NEXT, START)
    fleet.exited(OTHER, 0, START)
    assert plan(fleet) == [CloseSlot(1)]
    fleet.resize(+1)
    assert plan(fleet) == [OpenSlot(1), Spawn(1)]


def test_one_worker_is_left() -> None:
    fleet = ready_fleet()
    for _ in range(3):
        fleet.resize(-1)
    assert plan(fleet) == [Steer(frozenset({0})), Stop(OTHER)]


def test_a_slot_that_is_not_wanted_any_more_before_it_was_opened_is_not() -> None:
    fleet = ready_fleet(1)
    fleet.resize(+1)
    fleet.resize(-1)
    assert plan(fleet) == [CloseSlot(1)]
    assert fleet.slots == {0}


def test_a_worker_that_is_starting_is_stopped_when_its_slot_is_not_wanted() -> None:
    fleet = booting_fleet()
    fleet.became_ready(PID, START)
    plan(fleet)
    fleet.resize(-1)
    assert plan(fleet) == [Stop(OTHER)]
    fleet.became_ready(OTHER, START)
    assert plan(fleet) == []
    fleet.exited(OTHER, 0, START)
    assert plan(fleet) == [CloseSlot(1)]


@pytest.mark.parametrize("ready_before_plan", [False, True])
def test_a_slot_that_is_being_replaced_can_be_closed(ready_before_plan: bool) -> None:
    fleet = ready_fleet()
    fleet.replace(OTHER, "worn")
    plan(fleet)
    fleet.spawned(1, NEXT, START)
    fleet.resize(-1)
    if ready_before_plan:
        fleet.became_ready(NEXT, START)
    steer, *stops = plan(fleet)
    assert steer == Steer(frozenset({0})), "before they are stopped"
    assert sorted(map(repr, stops)) == sorted(map(repr, [Stop(OTHER), Stop(NEXT)]))
    fleet.exited(OTHER, 0, START)
    fleet.exited(NEXT, 0, START)
    assert plan(fleet) == [CloseSlot(1)]
    assert fleet.is_whole
    fleet.replace(PID, "worn")
    assert plan(fleet) == [Spawn(0)], "others are still replaced"


@pytest.mark.parametrize("reason", ["worn", "lifetime"])
def test_a_slot_that_is_not_wanted_is_not_replaced(reason: str) -> None:
    fleet = ready_fleet(2, FleetTimes(lifetime_s=100))
    fleet.replace(PID, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.resize(-1)
    now = START + 100 if reason == "lifetime" else START
    if reason == "worn":
        fleet.replace(OTHER, "worn")
    assert plan(fleet, now) == [Steer(frozenset({0})), Stop(OTHER)]
    fleet.exited(OTHER, 0, now)
    plan(fleet, now)
    fleet.became_ready(NEXT, now)
    plan(fleet, now)
    assert fleet.is_whole


def test_a_slot_that_cannot_be_opened_is_given_up_before_it_gets_a_worker() -> None:
    fleet = ready_fleet(1)
    fleet.resize(+1)
    fleet.reload()
    happened = []
    for action in fleet.plan(START):
        happened.append(action)
        if action == OpenSlot(1):
            fleet.could_not_open(1)
    assert happened == [OpenSlot(1), CloseSlot(1), Spawn(0)]
    start_successor(fleet, NEXT)
    plan(fleet)
    assert fleet.is_whole
    assert fleet.slots == {0}


# Pausing.


@pytest.mark.parametrize("how", ["reload", "resize"])
def test_a_pause_stops_all_workers_until_there_is_a_reload_or_a_resize(how: str) -> None:
    fleet = ready_fleet()
    fleet.pause()
    assert plan(fleet) == [Steer(frozenset()), Stop(PID), Stop(OTHER)]
    fleet.exited(PID, 0, START + 1)
    fleet.exited(OTHER, 0, START + 1)
    assert plan(fleet, START + 1000) == []
    assert fleet.next_change(START + 1000) == math.inf
    assert not fleet.is_whole
    if how == "reload":
        fleet.reload()
    else:
        fleet.resize(-1)
        assert plan(fleet, START + 1000)[-1] == CloseSlot(1)
        assert states(fleet) == {}
        return
    assert plan(fleet, START + 1000) == [Spawn(0), Spawn(1)]


def test_workers_that_a_pause_stops_are_followed_at_once_after_a_reload() -> None:
    fleet = ready_fleet(1)
    fleet.pause()
    plan(fleet)
    fleet.reload()
    assert plan(fleet) == [Spawn(0)]
    start_successor(fleet, NEXT)
    assert list(fleet.plan(START)) == [Steer(frozenset({0})), Tell(ALL_REPLACED)]
    assert states(fleet) == {PID: State.DRAINING, NEXT: State.READY}
    assert fleet.is_whole


def test_a_pause_in_the_middle_of_a_replacement_does_not_end_replacing_for_good() -> None:
    fleet = ready_fleet(1)
    fleet.replace(PID, "worn")
    plan(fleet)
    fleet.spawned(0, NEXT, START)
    fleet.pause()
    assert plan(fleet) == [Steer(frozenset()), Stop(PID), Stop(NEXT)]
    fleet.exited(PID, 0, START)
    fleet.exited(NEXT, 0, START)
    fleet.reload()
    assert plan(fleet) == [Spawn(0)]
    start_successor(fleet, NEXT + 1)
    plan(fleet)
    fleet.reload()
    assert plan(fleet) == [Spawn(0)]


def test_a_worker_that_ends_badly_while_paused_is_not_replaced() -> None:
    fleet = ready_fleet(1)
    fleet.pause()
    fleet.exited(PID, -9, START)
    assert plan(fleet, START) == [Steer(frozenset())]
    assert plan(fleet, START + 1000) == []


def test_a_pause_before_any_worker_was_ready_is_no_failure() -> None:
    fleet = booting_fleet(1)
    fleet.pause()
    assert plan(fleet) == [Stop(PID)]
    fleet.exited(PID, 0, START)
    assert plan(fleet) == []
    assert not fleet.is_stopping


def test_a_paused_fleet_does_not_replace() -> None:
    fleet = Fleet(1, TIMES)
    plan(fleet)
    start_successor(fleet, PID)
    fleet.reload()
    fleet.pause()
    assert Spawn(0) not in plan(fleet)
