"""A fleet over long times and any order of events, beside a naive model of what should be there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastserve.supervisor.fleet import Finish, Fleet, Kill, Spawn, State, Terminate

LONGEST_DELAY_S = 30.0
PROOF_S = 30.0
AGAIN_S = 1.0
"""What a worker gets after the second request to stop."""
SOON_S = 1e-6
"""Times are sums of floats."""


@dataclass
class Process:
    """A worker process of the model. asked: how often it was asked to stop."""

    slot: int
    ready_at: float | None = None
    asked: int = 0


class FleetMachine(RuleBasedStateMachine):
    """Does what the fleet says, as the parent process does: after every event and whenever `next_change` says so.

    processes: those that are alive, by pid. empty: for each slot without one, when it should be filled. failures: how
    many workers of a slot ended in a row without having proven themselves.
    """

    @initialize(size=st.integers(1, 4), stop_s=st.sampled_from([0.0, 0.5, 20.0]))
    def begin(self, size: int, stop_s: float) -> None:
        self.fleet = Fleet(size, stop_s=stop_s)
        self.size = size
        self.stop_s = stop_s
        self.now = 1000.0
        self.next_pid = 1
        self.processes: dict[int, Process] = {}
        self.empty: dict[int, float] = dict.fromkeys(range(size), self.now)
        self.failures = [0] * size
        self.was_ready = False
        self.status: int | None = None
        self.stops = 0
        self.killed_by = math.inf  # when every process must have been killed
        self.finished: int | None = None
        self.act()

    # Doing what the fleet says.

    def act(self) -> None:
        """Do what there is to do now, as often as that has consequences."""
        while self.finished is None:
            actions = list(self.fleet.plan(self.now))
            for action in actions:
                self.do(action)
            if not actions:
                break

    def do(self, action: Spawn | Terminate | Kill | Finish) -> None:
        match action:
            case Spawn(slot):
                self.spawn(slot)
            case Terminate(pid):
                assert self.status is not None, "a worker is asked to stop although the server does not"
                self.processes[pid].asked += 1
            case Kill(pid):
                assert self.status is not None, "a worker is killed although the server does not stop"
                assert self.processes[pid].asked > 0, "a worker is killed that was never asked"
                self.end(pid)
            case Finish(status):
                assert not self.processes, "the server ends before its workers"
                self.finished = status

    def spawn(self, slot: int) -> None:
        assert self.status is None, "a worker is started although the server stops"
        assert slot in self.empty, "two workers in one slot"
        assert abs(self.now - self.empty.pop(slot)) < SOON_S, "a worker is started too early or too late"
        pid, self.next_pid = self.next_pid, self.next_pid + 1
        self.processes[pid] = Process(slot)
        self.fleet.spawned(slot, pid, self.now)

    def end(self, pid: int) -> None:
        """End a process and tell the fleet, with the naive rule for what follows."""
        process = self.processes.pop(pid)
        worker = self.fleet.exited(pid, self.now)
        assert worker is not None
        assert worker.slot == process.slot
        if self.status is not None:
            return
        if not self.was_ready:
            self.status = 3
            self.stops = 1
            self.killed_by = self.now + self.stop_s
            return
        if process.ready_at is not None and self.now - process.ready_at >= PROOF_S:
            self.failures[process.slot] = 0
        failures = self.failures[process.slot]
        delay = min(2.0 ** (failures - 1), LONGEST_DELAY_S) if failures else 0.0
        self.failures[process.slot] += 1
        self.empty[process.slot] = self.now + delay

    def become_ready(self, pid: int) -> None:
        self.fleet.became_ready(pid, self.now)
        if not self.processes[pid].asked:
            self.was_ready = True
        self.processes[pid].ready_at = self.now
        self.act()

    def move_to(self, then: float) -> None:
        """Let time pass, and wake up whenever the fleet wants to."""
        while self.finished is None:
            change = self.fleet.next_change()
            if change is None or change > then:
                break
            assert change > self.now, "the fleet wants to be asked again at once"
            self.now = change
            self.act()
        self.now = then

    # What happens.

    @precondition(lambda self: self.finished is None)
    @rule(data=st.data())
    def a_worker_becomes_ready(self, data: st.DataObject) -> None:
        starting = [pid for pid, process in self.processes.items() if process.ready_at is None]
        if starting:
            self.become_ready(data.draw(st.sampled_from(starting), label="pid"))

    @precondition(lambda self: self.finished is None and self.processes)
    @rule(data=st.data())
    def a_worker_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.processes)), label="pid"))
        self.act()

    @precondition(lambda self: self.status is None and self.processes)
    @rule(data=st.data(), seconds=st.sampled_from([PROOF_S - 0.1, PROOF_S]))
    def a_worker_serves_for_a_while_and_ends(self, data: st.DataObject, seconds: float) -> None:
        pid = data.draw(st.sampled_from(sorted(self.processes)), label="pid")
        if self.processes[pid].ready_at is None:
            self.become_ready(pid)
        self.move_to(self.now + seconds)
        self.end(pid)
        self.act()

    @precondition(lambda self: self.finished is None)
    @rule()
    def a_process_that_is_no_worker_ends(self) -> None:
        assert self.fleet.exited(self.next_pid + 1000, self.now) is None
        self.act()

    @precondition(lambda self: self.finished is None)
    @rule(seconds=st.sampled_from([0.1, 0.9, 1.0, 3.0, 29.9, 30.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.move_to(self.now + seconds)

    @precondition(lambda self: self.finished is None)
    @rule()
    def a_signal_asks_to_stop(self) -> None:
        asked_before = {pid: process.asked for pid, process in self.processes.items()}
        self.fleet.stop(self.now)
        self.stops += 1
        if self.status is None:
            self.status = 0
        self.killed_by = min(self.killed_by, self.now + (self.stop_s if self.stops == 1 else AGAIN_S))
        self.act()
        for pid, process in self.processes.items():
            assert process.asked == asked_before[pid] + 1, "a worker is not told"

    @precondition(lambda self: self.finished is None and self.status is None and self.was_ready)
    @rule()
    def the_longest_delay_passes(self) -> None:
        self.move_to(self.now + LONGEST_DELAY_S)
        assert not self.empty, "a worker of a server that was ready is not replaced"

    @precondition(lambda self: self.finished is not None)
    @rule(seconds=st.sampled_from([0.0, 300.0]))
    def a_server_that_has_ended_is_looked_at_again(self, seconds: float) -> None:
        self.now += seconds
        assert list(self.fleet.plan(self.now)) == [Finish(self.status or 0)]

    # What holds at any time.

    @invariant()
    def every_slot_has_one_worker_or_none(self) -> None:
        slots = [process.slot for process in self.processes.values()]
        assert len(slots) == len(set(slots))
        assert sorted(worker.pid for worker in self.fleet.workers) == sorted(self.processes)

    @invariant()
    def the_fleet_sees_each_worker_as_it_is(self) -> None:
        for worker in self.fleet.workers:
            process = self.processes[worker.pid]
            if self.status is not None:
                assert worker.state is State.STOPPING
            else:
                assert worker.state is (State.STARTING if process.ready_at is None else State.READY)

    @invariant()
    def a_server_that_stops_has_no_worker_left_after_its_time(self) -> None:
        assert self.fleet.is_stopping == (self.status is not None)
        if self.processes:
            assert self.now <= self.killed_by + SOON_S

    @invariant()
    def a_server_that_does_not_stop_knows_when_to_fill_its_empty_slots(self) -> None:
        if self.status is None:
            change = self.fleet.next_change()
            assert (change is None) == (not self.empty)
            assert not self.empty or change == min(self.empty.values())

    @invariant()
    def the_exit_status_is_that_of_what_stopped_the_server(self) -> None:
        if self.finished is not None:
            assert self.finished == self.status

    def teardown(self) -> None:
        """Whatever has happened, two signals end the server within a second."""
        if not hasattr(self, "fleet"):
            return
        for _ in range(2):
            if self.finished is None:
                self.a_signal_asks_to_stop()
        self.move_to(self.now + AGAIN_S)
        assert self.finished is not None, "the server does not end"
        assert self.finished == self.status


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
