"""What the tests of the fleet share: fleets in a known state, and what to do with them."""

from __future__ import annotations

from fastserve.supervisor.fleet import Action, Fleet, FleetTimes, State, Tell

START = 1000.0
"""What the clock shows at first."""
PID = 100
"""The worker of slot 0 at first; those of the other slots have the next pids."""
OTHER = PID + 1
TIMES = FleetTimes(stop_s=20.0, quick_s=5.0)


def plan(fleet: Fleet, now: float = START) -> list[Action]:
    """Return what is to be done, without what is only said."""
    return [action for action in fleet.plan(now) if not isinstance(action, Tell)]


def said(fleet: Fleet, now: float = START) -> list[str]:
    """Return what is said, without what is to be done."""
    return [action.text for action in fleet.plan(now) if isinstance(action, Tell)]


def states(fleet: Fleet) -> dict[int, State]:
    """Return the states of all workers, by pid."""
    return {worker.pid: worker.state for worker in fleet.workers}


def booting_fleet(size: int = 2, times: FleetTimes = TIMES) -> Fleet:
    """Return a fleet whose workers have just been started."""
    fleet = Fleet(size, times)
    plan(fleet)
    for slot in range(size):
        fleet.spawned(slot, PID + slot, START)
    plan(fleet)
    return fleet


def ready_fleet(size: int = 2, times: FleetTimes = TIMES) -> Fleet:
    """Return a fleet whose workers have just become ready."""
    fleet = booting_fleet(size, times)
    for slot in range(size):
        fleet.became_ready(PID + slot, START)
    plan(fleet)
    return fleet


def start_successor(fleet: Fleet, pid: int, now: float = START, *, slot: int = 0) -> None:
    """Start another worker in a slot, and let it become ready."""
    fleet.spawned(slot, pid, now)
    fleet.became_ready(pid, now)
