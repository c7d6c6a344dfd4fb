"""The fleet when files change while the server runs (`--reload`)."""

from __future__ import annotations

import math

from fastserve.supervisor.fleet import Fleet, Quit, Spawn, State, Steer

from .fleets import PID, START, TIMES, plan, said, start_successor, states

SUCCESSOR = PID + 1


def new_fleet() -> Fleet:
    """Return a fleet of one worker that is starting."""
    fleet = Fleet(1, TIMES, in_development=True)
    assert plan(fleet) == [Spawn(0)]
    fleet.spawned(0, PID, START)
    return fleet


def ready_fleet() -> Fleet:
    """Return a fleet of one worker that serves."""
    fleet = new_fleet()
    fleet.became_ready(PID, START)
    assert plan(fleet) == [Steer(frozenset({0}))]
    return fleet


def test_the_successor_starts_first_and_the_old_one_ends_quickly() -> None:
    fleet = ready_fleet()
    fleet.reload()
    assert plan(fleet) == [Spawn(0)]
    start_successor(fleet, SUCCESSOR)
    assert plan(fleet) == [Quit(PID)]
    assert states(fleet) == {PID: State.DRAINING, SUCCESSOR: State.READY}
    assert fleet.next_change(START) == START + TIMES.stop_s
    fleet.exited(PID, 0, START + 1)
    assert plan(fleet, START + 1) == []


def test_a_successor_that_does_not_start_leaves_the_old_one_and_waits_for_the_next_change() -> None:
    fleet = ready_fleet()
    fleet.reload()
    plan(fleet)
    fleet.spawned(0, SUCCESSOR, START)
    fleet.exited(SUCCESSOR, 3, START)
    assert said(fleet) == ["The application did not start. Fastserve waits for the next change, and serves as it was."]
    assert plan(fleet, START + 3600) == []
    assert states(fleet) == {PID: State.READY}
    fleet.reload()
    assert plan(fleet, START + 3600) == [Spawn(0)]


def test_an_application_that_does_not_start_at_first_is_waited_for() -> None:
    fleet = new_fleet()
    fleet.exited(PID, 3, START)
    assert said(fleet) == ["The application did not start. Fastserve waits for the next change."]
    assert plan(fleet, START + 3600) == []
    assert fleet.next_change(START) == math.inf
    fleet.reload()
    assert plan(fleet, START + 3600) == [Spawn(0)]


def test_what_is_starting_with_old_files_is_ended_at_once() -> None:
    fleet = new_fleet()
    fleet.reload()
    assert plan(fleet) == [Quit(PID), Spawn(0)]
    fleet.spawned(0, SUCCESSOR, START)
    fleet.exited(PID, 0, START)
    fleet.became_ready(SUCCESSOR, START)
    assert plan(fleet) == [Steer(frozenset({0}))]


def test_a_successor_with_old_files_is_ended_and_another_one_started() -> None:
    fleet = ready_fleet()
    fleet.reload()
    plan(fleet)
    fleet.spawned(0, SUCCESSOR, START)
    fleet.reload()
    assert plan(fleet) == [Quit(SUCCESSOR), Spawn(0)]
    fleet.spawned(0, SUCCESSOR + 1, START)
    fleet.exited(SUCCESSOR, 0, START)
    fleet.became_ready(SUCCESSOR + 1, START)
    assert plan(fleet) == [Quit(PID)]


def test_a_worker_that_dies_is_replaced_as_ever() -> None:
    fleet = ready_fleet()
    fleet.exited(PID, -11, START + 60)
    assert plan(fleet, START + 60) == [Steer(frozenset()), Spawn(0)]
