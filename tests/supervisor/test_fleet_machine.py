"""A fleet over long times and any order of events, beside a naive model of the processes and of what is wanted."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastserve.supervisor.fleet import (
    Abort,
    Action,
    CloseSlot,
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

LONGEST_DELAY_S = 30.0
ABORT_S = 1.0
GIVE_UP_S = 1.0
FORCE_S = 1.0
SAME_S = 0.5
LISTEN_S = 0.5
"""How often the parent process listens to workers."""
SOON_S = 1e-6
"""Times are sums of floats."""
AT_ONCE = st.sampled_from([True, True, True, False])
"""Whether the fleet is asked after an event, or only after the next one: several signals may come at a time."""


@dataclass
class Process:
    """A worker process of the model.

    born: how many reloads there were before. dies_by: when it must have been killed. is_told: to stop, or to end.
    is_steered_away: because it is silent. is_asked: to stop, by someone else. is_leaving: because it was asked again.
    may_die_early: because it was silent when the server was to stop quickly.
    """

    slot: int
    born: int
    is_ready: bool = False
    is_succeeded: bool = False
    is_told: bool = False
    is_given_up: bool = False
    is_aborted: bool = False
    is_steered_away: bool = False
    is_asked: bool = False
    is_leaving: bool = False
    is_silent: bool = False
    is_full: bool = False
    is_killed: bool = False
    may_die_early: bool = False
    dies_by: float = math.inf

    @property
    def serves(self) -> bool:
        return self.is_ready and not self.is_told and not self.is_aborted


@dataclass
class Model:
    """What should be. leaving: how often the server was asked to end, in its own counting of urgency."""

    wanted: set[int]
    existing: set[int]
    now: float = 1000.0
    processes: dict[int, Process] = field(default_factory=dict)
    steered: frozenset[int] = frozenset()
    reloads: int = 0
    was_ready: bool = False
    is_paused: bool = False
    urgency: int = 0
    told: tuple[int, float] = (0, -math.inf)
    leaves_at: float = math.inf
    failed_status: int | None = None
    finished: int | None = None

    def in_slot(self, slot: int) -> list[Process]:
        return [process for process in self.processes.values() if process.slot == slot]


class FleetMachine(RuleBasedStateMachine):
    """Does what the fleet says, as the parent process does: after events, and whenever `next_change` says so."""

    @initialize(
        size=st.integers(1, 3),
        times=st.builds(
            FleetTimes,
            boot_s=st.sampled_from([math.inf, 20.3]),
            stop_s=st.sampled_from([2.0, 20.0]),
            quick_s=st.just(5.0),
            silent_s=st.sampled_from([math.inf, 0.7, 15.0]),
            lifetime_s=st.sampled_from([math.inf, 70.1]),
            delay_s=st.sampled_from([0.0, 8.0]),
        ),
    )
    def begin(self, size: int, times: FleetTimes) -> None:
        self.fleet = Fleet(size, times)
        self.times = times
        self.model = Model(set(range(size)), set(range(size)))
        self.next_pid = 1
        self.spawn_fails = False
        self.open_fails = False
        self.is_settled = True
        self.act()

    # Doing what the fleet says.

    def act(self) -> list[Action]:
        """Do what there is to do now, as often as that has consequences; return what that was."""
        model, done = self.model, []
        for pid, process in model.processes.items():
            if not process.is_silent:
                self.hear(pid)
        if model.leaves_at <= model.now and not model.urgency:
            self.become_urgent(1)
        while model.finished is None:
            actions = []
            for action in self.fleet.plan(model.now):
                self.do(action)
                actions.append(action)
            for pid in [pid for pid, process in model.processes.items() if process.is_killed]:
                self.end(pid, -9)
            done += actions
            if not actions:
                break
        self.is_settled = True
        return done

    def hear(self, pid: int) -> None:
        process = self.model.processes[pid]
        self.fleet.heard(pid, self.model.now)
        if not process.is_aborted:
            process.is_steered_away = False

    def do(self, action: Action) -> None:
        assert self.model.finished is None, "something is to be done after the end"
        match action:
            case Spawn(slot):
                self.spawn(slot)
            case OpenSlot(slot):
                self.open(slot)
            case CloseSlot(slot):
                assert slot in self.model.existing - self.model.wanted
                assert not self.model.in_slot(slot), "a slot is closed while someone serves on it"
                assert slot not in self.model.steered
                self.model.existing.remove(slot)
            case Steer(slots):
                self.model.steered = slots
            case Finish(status):
                assert not self.model.processes, "the server ends before its workers"
                assert status == (self.model.failed_status or 0)
                self.model.finished = status
            case Leave() | Tell():
                pass
            case _:
                self.do_to_worker(action)

    def do_to_worker(self, action: Stop | Quit | Warn | GiveUp | Abort | Kill) -> None:
        match action:
            case Stop(pid) | Quit(pid):
                self.tell(pid, is_quick=isinstance(action, Quit))
            case Warn(pid):
                self.model.processes[pid].is_steered_away = True
                assert self.model.processes[pid].is_silent, "a worker is warned of that was heard"
            case GiveUp(pid):
                process = self.model.processes[pid]
                assert not process.is_aborted
                assert not process.is_ready
                process.is_given_up = process.is_aborted = process.is_steered_away = True
                process.dies_by = min(process.dies_by, self.model.now + GIVE_UP_S + ABORT_S)
            case Abort(pid):
                process = self.model.processes[pid]
                assert process.is_given_up or (process.is_silent and not process.is_aborted)
                process.is_aborted = process.is_steered_away = True
                process.dies_by = min(process.dies_by, self.model.now + ABORT_S)
            case Kill(pid):
                process = self.model.processes[pid]
                is_due = abs(process.dies_by - self.model.now) < SOON_S
                has_shown_its_stack = process.is_silent and process.is_steered_away
                assert is_due or has_shown_its_stack or process.may_die_early, (
                    "a worker is killed too early or too late"
                )
                process.is_killed = True

    def spawn(self, slot: int) -> None:
        model = self.model
        assert not model.urgency, "a worker is started although the server ends"
        assert not model.is_paused
        assert slot in model.wanted & model.existing
        assert all(process.is_told or process.is_ready for process in model.in_slot(slot)), "two are starting"
        if self.spawn_fails:
            self.fleet.could_not_spawn(slot, model.now)
            return
        pid, self.next_pid = self.next_pid, self.next_pid + 1
        model.processes[pid] = Process(slot, model.reloads)
        self.fleet.spawned(slot, pid, model.now)

    def open(self, slot: int) -> None:
        model = self.model
        assert not model.urgency
        assert slot in model.wanted - model.existing
        model.existing.add(slot)
        if self.open_fails:
            model.wanted.remove(slot)
            self.fleet.could_not_open(slot)

    def tell(self, pid: int, *, is_quick: bool) -> None:
        model, process = self.model, self.model.processes.get(pid)
        if process is None:
            return  # It has ended just before.
        assert not is_quick or model.urgency > 1
        if not model.urgency:
            is_unwanted = model.is_paused or process.slot not in model.wanted
            is_asked = process.is_leaving or (process.is_asked and not process.is_ready)
            assert process.is_succeeded or is_unwanted or is_asked, "a worker is stopped before its successor is ready"
            assert process.is_succeeded or process.slot not in model.steered or not process.is_ready
            process.dies_by = min(process.dies_by, model.now + self.times.stop_s)
        process.is_told = True

    def end(self, pid: int, status: int) -> None:
        """End a process and tell the fleet, with the naive rule for what follows."""
        model = self.model
        process = model.processes.pop(pid)
        state = next(worker.state for worker in self.fleet.workers if worker.pid == pid)
        worker = self.fleet.exited(pid, status, model.now)
        assert worker is not None
        assert (worker.slot, worker.state) == (process.slot, state)
        if not process.is_ready and state is State.BOOTING and not model.was_ready and not model.urgency:
            model.failed_status = status if status in (3, 4) else 3
            self.become_urgent(1)

    def become_urgent(self, urgency: int) -> None:
        model = self.model
        if urgency <= model.urgency:
            return
        model.urgency = urgency
        within_s = {1: self.times.stop_s, 2: self.times.stop_s, 3: FORCE_S}[urgency]
        for process in model.processes.values():
            process.may_die_early |= urgency == 2 and process.is_silent
            if urgency > 1 or not process.is_told:
                process.dies_by = min(process.dies_by, model.now + within_s)

    # Time.

    def move_to(self, then: float) -> None:
        """Let time pass, wake up whenever the fleet wants to, and listen to workers in between."""
        model = self.model
        while model.finished is None:
            change = self.fleet.next_change(model.now)
            assert change > model.now, "the fleet wants to be asked again at once"
            is_silent = any(process.is_silent for process in model.processes.values())
            at = min(then, change, model.now + LISTEN_S if is_silent else math.inf)
            if not is_silent and at > model.now + LISTEN_S:
                self.look_at((model.now + at) / 2)
            model.now = at
            self.act()
            if at == then:
                break

    def look_at(self, now: float) -> None:
        """Ask the fleet before the time that `next_change` gave."""
        for pid in self.model.processes:
            self.fleet.heard(pid, now)
        assert list(self.fleet.plan(now)) == [], "next_change has missed something"

    # What happens to workers.

    def pick(self, data: st.DataObject, **wanted: bool) -> int | None:
        pids = [
            pid for pid, each in self.model.processes.items() if all(getattr(each, k) is v for k, v in wanted.items())
        ]
        return data.draw(st.sampled_from(pids), label="pid") if pids else None

    def happened(self, *, at_once: bool) -> None:
        self.is_settled = False
        if at_once:
            self.act()

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), at_once=AT_ONCE)
    def a_worker_becomes_ready(self, data: st.DataObject, at_once: bool) -> None:
        pid = self.pick(data, is_ready=False)
        if pid is not None:
            self.become_ready(pid)
            self.happened(at_once=at_once)

    def become_ready(self, pid: int) -> None:
        process = self.model.processes[pid]
        self.fleet.became_ready(pid, self.model.now)
        process.is_ready = True
        if process.serves and not self.model.urgency:
            self.model.was_ready = True
            for other in self.model.in_slot(process.slot):
                if other is not process and not other.is_succeeded:
                    # It is told so in the next turn, when the server may be ending already.
                    other.is_succeeded = True
                    other.dies_by = min(other.dies_by, self.model.now + self.times.stop_s)

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), status=st.sampled_from([0, 1, 3, 4, -9]), at_once=AT_ONCE)
    def a_worker_ends(self, data: st.DataObject, status: int, at_once: bool) -> None:
        pid = self.pick(data)
        if pid is not None:
            self.end(pid, status)
            self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data())
    def a_worker_falls_silent(self, data: st.DataObject) -> None:
        pid = self.pick(data, is_ready=True, is_silent=False)
        if pid is not None:
            self.model.processes[pid].is_silent = True

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), is_full=st.booleans())
    def a_worker_fills_or_has_space(self, data: st.DataObject, is_full: bool) -> None:
        pid = self.pick(data, is_ready=True)
        if pid is not None:
            self.model.processes[pid].is_full = is_full
            self.fleet.filled(pid, is_full)
            self.act()

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data())
    def a_worker_is_heard_again(self, data: st.DataObject) -> None:
        pid = self.pick(data, is_silent=True)
        if pid is not None:
            self.model.processes[pid].is_silent = False
            self.act()

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), at_once=AT_ONCE)
    def a_worker_is_worn(self, data: st.DataObject, at_once: bool) -> None:
        pid = self.pick(data)
        if pid is not None:
            self.fleet.replace(pid, "worn")
            self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), at_once=AT_ONCE)
    def a_worker_is_asked_to_stop_by_someone_else(self, data: st.DataObject, at_once: bool) -> None:
        pid = self.pick(data)
        if pid is not None:
            self.model.processes[pid].is_asked = True
            self.fleet.asked_to_stop(pid, self.model.now)
            self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule(data=st.data(), at_once=AT_ONCE)
    def a_worker_leaves(self, data: st.DataObject, at_once: bool) -> None:
        pid = self.pick(data, is_asked=True)
        if pid is not None:
            self.model.processes[pid].is_leaving = True
            self.fleet.leaving(pid, self.model.now)
            self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule()
    def a_process_that_is_no_worker_ends(self) -> None:
        self.act()
        assert self.fleet.exited(self.next_pid + 1000, 0, self.model.now) is None
        assert self.model.finished is not None or self.act() == []

    @rule(spawn_fails=st.booleans(), open_fails=st.booleans())
    def the_system_has_enough_or_too_little(self, spawn_fails: bool, open_fails: bool) -> None:
        self.spawn_fails, self.open_fails = spawn_fails, open_fails

    @precondition(lambda self: self.model.finished is None)
    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 29.9, 30.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.act()
        self.move_to(self.model.now + seconds)

    # What is asked for.

    @precondition(lambda self: self.model.finished is None)
    @rule(at_once=AT_ONCE)
    def a_reload(self, at_once: bool) -> None:
        self.model.reloads += 1
        self.model.is_paused = False
        self.fleet.reload()
        self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None and len(self.model.wanted) < 5)
    @rule(at_once=AT_ONCE)
    def one_more(self, at_once: bool) -> None:
        before = self.fleet.slots
        self.fleet.resize(+1)
        (slot,) = self.fleet.slots - before
        self.model.wanted.add(slot)
        self.model.is_paused = False
        self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule()
    def one_less(self) -> None:
        # A slot that was never opened is closed all the same, so they are all opened here.
        self.act()
        self.fleet.resize(-1)
        if len(self.model.wanted) > 1:
            self.model.wanted.remove(max(self.model.wanted))
        self.model.is_paused = False
        self.happened(at_once=True)

    @precondition(lambda self: self.model.finished is None)
    @rule(at_once=AT_ONCE)
    def a_pause(self, at_once: bool) -> None:
        self.model.is_paused = True
        self.fleet.pause()
        self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule(at_once=AT_ONCE, without_delay=st.booleans())
    def a_stop(self, at_once: bool, without_delay: bool) -> None:
        model = self.model
        self.fleet.stop(model.now, without_delay=without_delay)
        if not without_delay and self.was_told(1):
            self.happened(at_once=at_once)
            return
        model.told = (1, model.now)
        if not model.urgency and model.leaves_at == math.inf and self.times.delay_s and not without_delay:
            model.leaves_at = model.now + self.times.delay_s
        else:
            self.become_urgent(3 if model.urgency else 1)
        self.happened(at_once=at_once)

    @precondition(lambda self: self.model.finished is None)
    @rule(at_once=AT_ONCE)
    def a_quick_stop(self, at_once: bool) -> None:
        self.fleet.stop_quickly(self.model.now)
        if not self.was_told(2):
            self.model.told = (2, self.model.now)
            self.become_urgent(3 if self.model.urgency else 2)
        self.happened(at_once=at_once)

    def was_told(self, urgency: int) -> bool:
        """Tell whether the server has just been told to end in this way."""
        told, told_at = self.model.told
        return told == urgency and self.model.now - told_at < SAME_S

    # What follows when nothing goes wrong any more.

    @precondition(lambda self: self.model.finished is None and not self.model.is_paused)
    @rule()
    def everything_goes_well_for_a_while(self) -> None:
        model = self.model
        self.spawn_fails = self.open_fails = False
        reloads = model.reloads
        for pid, process in model.processes.items():
            process.is_silent = process.is_full = False
            self.fleet.filled(pid, False)
        self.act()
        for _ in range(60):
            if model.finished is not None:
                return
            self.take_a_step()
        if not model.urgency and self.times.lifetime_s == math.inf:
            assert self.fleet.is_whole
            assert Counter(process.slot for process in model.processes.values()) == Counter(model.wanted)
            assert model.steered == model.wanted
            assert model.existing == model.wanted
            assert model.reloads == reloads

    def take_a_step(self) -> None:
        for pid, process in list(self.model.processes.items()):
            if process.is_told or process.is_aborted:
                self.end(pid, 0)
            elif not process.is_ready:
                self.become_ready(pid)
        self.act()
        self.move_to(self.model.now + 1)

    # What holds at any time.

    def serving(self) -> set[int]:
        return {process.slot for process in self.model.processes.values() if process.serves}

    @invariant()
    def the_fleet_knows_all_processes(self) -> None:
        processes = {pid: process.slot for pid, process in self.model.processes.items()}
        assert {worker.pid: worker.slot for worker in self.fleet.workers} == processes
        assert self.fleet.is_stopping == bool(self.model.urgency)

    @invariant()
    def one_worker_at_a_time_has_a_successor(self) -> None:
        left = Counter(process.slot for process in self.model.processes.values() if not process.is_told)
        if self.is_settled:
            assert sum(count - 1 for count in left.values()) <= 1

    @invariant()
    def connections_go_to_all_workers_that_serve_and_are_not_silent_and_have_space(self) -> None:
        model = self.model
        if self.is_settled and not model.urgency:
            heard = [each for each in model.processes.values() if each.serves and not each.is_steered_away]
            heard = [each for each in heard if each.slot in model.wanted]
            with_space = {each.slot for each in heard if not each.is_full}
            assert model.steered == (with_space or {each.slot for each in heard})

    @invariant()
    def every_wanted_slot_has_a_worker_or_gets_one_soon(self) -> None:
        model = self.model
        if not self.is_settled or model.urgency or model.is_paused:
            return
        assert model.wanted <= model.existing
        empty = model.wanted - {each.slot for each in model.processes.values() if not each.is_told}
        if empty:
            assert self.fleet.next_change(model.now) <= model.now + LONGEST_DELAY_S
            assert not self.fleet.is_whole

    @invariant()
    def a_fleet_that_is_whole_serves_on_every_slot(self) -> None:
        if self.is_settled and self.fleet.is_whole and not self.model.urgency:
            assert self.model.wanted <= {each.slot for each in self.model.processes.values() if each.is_ready}

    @invariant()
    def who_was_told_to_stop_is_killed_in_time(self) -> None:
        if self.is_settled:
            for process in self.model.processes.values():
                assert self.model.now <= process.dies_by + SOON_S
                assert process.dies_by < math.inf or not (process.is_told or self.model.urgency)

    @invariant()
    def a_paused_fleet_only_has_workers_that_stop(self) -> None:
        if self.is_settled and self.model.is_paused:
            assert all(process.is_told for process in self.model.processes.values())

    def teardown(self) -> None:
        """Whatever has happened, three signals end the server within a second."""
        if not hasattr(self, "fleet"):
            return
        for _ in range(3):
            if self.model.finished is None:
                self.move_to(self.model.now + SAME_S)
            if self.model.finished is None:
                self.a_stop(at_once=True, without_delay=False)
        self.move_to(self.model.now + FORCE_S)
        assert self.model.finished is not None, "the server does not end"


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, report_multiple_bugs=False)
