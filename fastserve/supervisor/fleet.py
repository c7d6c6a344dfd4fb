"""Which workers there should be. Pure: told what happened and what time it is, it says what to do.

A slot is the place of one worker. Its worker is BOOTING, then READY, then DRAINING until it is gone. Whatever the
cause, a worker is replaced before it is retired: its slot gets a second worker, and only when that is ready is the
first one told to stop. One slot at a time.

    no worker ever ready, and one ends or is not ready in time    the server ends: the application does not start
    a worker ends                                                 a new one, at once or after a growing delay
    a worker is to be replaced                                    a successor first; if that does not become ready, the
                                                                  worker stays, and a reload is given up
    a worker is not ready in time                                 asked to say why; if it does not react, ended
    a worker's event loop is silent                               told in time, then ended and replaced
    a worker is told to stop, and the server is not               it is replaced

In development, a worker that does not start waits for the next reload, and one that is replaced ends quickly.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fastserve.worker.repeats import Repeats

STARTUP_FAILED = 3
"""The exit status of a server, or a worker, that could not start."""

APP_NOT_LOADED = 4
"""What gunicorn's workers end with instead when the application cannot be imported."""

RELOAD = "reload"
"""The reason for replacing a worker that a reload gives."""

_FIRST_DELAY_S = 1.0
_LAST_DELAY_S = 30.0
# A worker that was ready for so long was fine; when it ends, the delay starts anew.
_PROVEN_S = 30.0
# Between asking a worker that is not ready in time what it waits for, and taking it for one that does not react.
_GIVE_UP_S = 1.0
# Between asking for the stack of a worker that does not react, and ending it.
_ABORT_S = 1.0
# When everything is to end at once.
_FORCE_S = 1.0
# A worker is warned of when its event loop has been silent for this share of the time that it may be, and for so long:
# a process that only had to wait for a CPU is not worth a warning.
_WARN_SHARE = 0.1
_WARN_LEAST_S = 1.0
# How much later than a worker the server may hear of a signal that was sent to all processes.
_ASKED_S = 0.25


class State(enum.Enum):
    """What a worker is doing."""

    BOOTING = enum.auto()
    READY = enum.auto()
    DRAINING = enum.auto()


class Stopping(enum.IntEnum):
    """How the server is ending."""

    NOT = 0
    GRACEFUL = 1
    QUICK = 2
    FORCED = 3


@dataclass(frozen=True, slots=True)
class FleetTimes:
    """In seconds. boot_s: to become ready. stop_s: to finish. quick_s: to end when it cannot, or need not, do more.

    silent_s: for which an event loop may be silent. lifetime_s: after which a worker is replaced. Infinity is no limit.
    delay_s: to go on serving after the server was told to stop. has_set_stop: the user has set the time to finish.
    """

    boot_s: float = math.inf
    stop_s: float = 30.0
    quick_s: float = 5.0
    silent_s: float = math.inf
    lifetime_s: float = math.inf
    delay_s: float = 0.0
    has_set_stop: bool = False


@dataclass(slots=True)
class Worker:
    """A worker process.

    since: when it came into its state. beat_at: when its event loop was heard last. kill_at: when it is to be killed.
    abort_at: when it is taken for one that does not react. asked_at: when it was told to stop, and not by the server.
    is_outdated: it was started before the last reload. is_full: it has no space for another connection.
    """

    slot: int
    pid: int
    state: State
    since: float
    beat_at: float
    kill_at: float = math.inf
    abort_at: float = math.inf
    asked_at: float = math.inf
    is_silent: bool = False
    is_full: bool = False
    is_outdated: bool = False
    failure: str | None = None  # why it is being ended, unless it was asked to stop


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker in this slot, and tell `spawned`."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a worker to finish and stop."""

    pid: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Ask a worker to stop quickly."""

    pid: int


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell that the event loop of a worker is silent, and show its stack."""

    pid: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Ask a worker that is not ready in time to say what it waits for, and to end."""

    pid: int


@dataclass(frozen=True, slots=True)
class Abort:
    """End a worker that does not react, and show its stack."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker at once."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """Open the sockets of a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class CloseSlot:
    """Close the sockets of a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Steer:
    """Let new connections go to these slots."""

    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class Leave:
    """Let everyone know that the server is about to stop, while it still serves."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Log a message."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """End the server with this exit status."""

    status: int


Action: TypeAlias = (
    Spawn | Stop | Quit | Warn | GiveUp | Abort | Kill | OpenSlot | CloseSlot | Steer | Leave | Tell | Finish
)


@dataclass(slots=True)
class _Slot:
    """A place for a worker.

    is_open: it has its sockets. retry_at: when a worker may be started. delay_s: after the next failure. is_retired: no
    worker is wanted.
    """

    number: int
    is_open: bool = True
    retry_at: float = -math.inf
    delay_s: float = 0.0
    is_retired: bool = False
    workers: list[Worker] = field(default_factory=list)

    def find(self, state: State) -> Worker | None:
        return next((worker for worker in self.workers if worker.state is state), None)

    def put_off(self, now: float) -> None:
        """Delay the next start, longer each time."""
        self.retry_at = now + self.delay_s
        self.delay_s = min(max(2 * self.delay_s, _FIRST_DELAY_S), _LAST_DELAY_S)


class Fleet:
    """size: how many workers there should be. in_development: whether files change while the server runs."""

    def __init__(self, size: int, times: FleetTimes, *, in_development: bool = False) -> None:
        self._times = times
        self._in_development = in_development
        self._slots = [_Slot(number) for number in range(size)]
        self._was_ready = False
        self._is_paused = False
        self._to_replace: dict[int, str] = {}  # slot to reason, in order
        self._replacing: int | None = None  # the slot that has, or is about to get, a successor
        self._steered: frozenset[int] = frozenset()
        self._leave_at = math.inf  # when the server is to stop
        self._stopping = Stopping.NOT
        self._repeats = Repeats()
        self._status = 0
        self._pending: list[Action] = []

    # What there is.

    @property
    def workers(self) -> list[Worker]:
        """The workers there are."""
        return [worker for slot in self._slots for worker in slot.workers]

    @property
    def slots(self) -> set[int]:
        """The slots that there are."""
        return {slot.number for slot in self._slots}

    @property
    def is_stopping(self) -> bool:
        """Whether the server is to end."""
        return self._stopping is not Stopping.NOT

    @property
    def is_whole(self) -> bool:
        """Whether every slot has a worker that is ready, and nothing is being replaced."""
        slots = [slot for slot in self._slots if not slot.is_retired]
        return not self._to_replace and all(slot.find(State.READY) for slot in slots)

    def _find(self, pid: int) -> tuple[_Slot, Worker] | None:
        for slot in self._slots:
            for worker in slot.workers:
                if worker.pid == pid:
                    return slot, worker
        return None

    # What happened.

    def spawned(self, slot: int, pid: int, now: float) -> None:
        """Take note that a worker was started."""
        worker = Worker(slot, pid, State.BOOTING, now, beat_at=now)
        next(each for each in self._slots if each.number == slot).workers.append(worker)
        if self.is_stopping:
            self._end(worker, now)

    def became_ready(self, pid: int, now: float) -> None:
        """Take note that a worker accepts connections."""
        found = self._find(pid)
        if found is None or found[1].state is not State.BOOTING or found[1].failure is not None:
            return
        slot, worker = found
        predecessor = slot.find(State.READY)
        worker.state, worker.since, worker.beat_at = State.READY, now, now
        self._was_ready = True
        if self._replacing == slot.number:
            self._replacing = None
        # One that was started before the last reload may have the old code: then it is its turn again.
        reason = None if worker.is_outdated else self._to_replace.pop(slot.number, None)
        if reason == RELOAD and RELOAD not in self._to_replace.values() and not self._in_development:
            self._pending.append(Tell("All workers have been replaced."))
        if predecessor is not None:
            self._drain(predecessor, now)
        if slot.is_retired:
            self._drain(worker, now)

    def heard(self, pid: int, beat_at: float) -> None:
        """Take note of when the event loop of a worker was running last."""
        found = self._find(pid)
        if found is not None:
            found[1].beat_at = max(beat_at, found[1].beat_at)

    def filled(self, pid: int, is_full: bool) -> None:
        """Take note of whether a worker has space for another connection."""
        found = self._find(pid)
        if found is not None:
            found[1].is_full = is_full

    def asked_to_stop(self, pid: int, now: float) -> None:
        """Take note that someone has told a worker to stop, and perhaps everyone. It goes on."""
        found = self._find(pid)
        if found is not None:
            found[1].asked_at = now

    def explained(self, pid: int, now: float) -> None:
        """Take note that a worker has said why it is not ready, and ends."""
        found = self._find(pid)
        if found is not None and found[1].abort_at < math.inf:
            found[1].abort_at = math.inf
            found[1].kill_at = min(found[1].kill_at, now + self._times.quick_s)

    def leaving(self, pid: int, now: float) -> None:
        """Take note that a worker ends because it was told to stop again."""
        found = self._find(pid)
        if found is not None:
            self._drain(found[1], now)

    def exited(self, pid: int, status: int, now: float) -> Worker | None:
        """Take note that a process ended; return the worker that it was, None if it was none.

        status: the exit status, negative for a signal.
        """
        found = self._find(pid)
        if found is None:
            return None
        slot, worker = found
        slot.workers.remove(worker)
        if self.is_stopping or worker.state is State.DRAINING:
            return worker
        if worker.state is State.BOOTING:
            self._failed_to_boot(slot, worker, status, now)
        else:
            if now - worker.since >= _PROVEN_S:
                slot.delay_s = 0.0
            slot.put_off(now)
        return worker

    def _failed_to_boot(self, slot: _Slot, worker: Worker, status: int, now: float) -> None:
        if self._in_development:
            self._wait_for_reload(slot)
            return
        if not self._was_ready:
            self._pending.append(Tell("No worker could be started. Exiting.", is_error=True))
            self._status = status if status in (STARTUP_FAILED, APP_NOT_LOADED) else STARTUP_FAILED
            self._advance(Stopping.GRACEFUL, now)
            return
        slot.delay_s = max(slot.delay_s, _FIRST_DELAY_S)
        slot.put_off(now)
        if self._replacing == slot.number:
            self._replacing = None
            if self._to_replace.get(slot.number) == RELOAD:
                self._to_replace = {key: why for key, why in self._to_replace.items() if why != RELOAD}
                text = "The reload is given up: a new worker did not become ready. The running workers stay in service."
            else:
                text = f"Worker {slot.number} could not be replaced. It goes on, and is replaced later."
        else:
            text = f"Worker {slot.number} could not be started. The next attempt is in {slot.retry_at - now:g} s."
            if not any(each.find(State.READY) for each in self._slots):
                text = f"{text} There is no worker that serves."
        self._pending.append(Tell(text, is_error=True))

    def _wait_for_reload(self, slot: _Slot) -> None:
        slot.retry_at = math.inf
        self._replacing = None
        self._to_replace.clear()
        goes_on = ", and serves as it was" if slot.find(State.READY) is not None else ""
        self._pending.append(Tell(f"The application did not start. Fastserve waits for the next change{goes_on}."))

    def could_not_spawn(self, slot: int, now: float) -> None:
        """Take note that no process could be made."""
        found = next(each for each in self._slots if each.number == slot)
        found.delay_s = max(found.delay_s, _FIRST_DELAY_S)
        found.put_off(now)
        if self._replacing == slot:
            self._replacing = None

    # What is wanted.

    def replace(self, pid: int, reason: str) -> None:
        """Replace a worker, when it is its turn."""
        found = self._find(pid)
        if found is None or found[1].state is not State.READY or found[0].is_retired:
            return
        if found[0].number not in self._to_replace:
            self._to_replace[found[0].number] = reason
            self._pending.append(Tell(f"Worker [{pid}] is going to be replaced: {reason}."))

    def reload(self) -> None:
        """Replace all workers; start them again if they are paused."""
        self._is_paused = False
        for slot in self._slots:
            if not slot.is_retired:
                self._to_replace[slot.number] = RELOAD
                for worker in slot.workers:
                    worker.is_outdated = True
                slot.retry_at, slot.delay_s = -math.inf, 0.0

    def resize(self, change: int) -> None:
        """Change how many workers there should be by one; at least one is left."""
        self._is_paused = False
        wanted = [slot for slot in self._slots if not slot.is_retired]
        if change > 0:
            number = next(n for n in range(len(self._slots) + 1) if all(slot.number != n for slot in self._slots))
            self._slots.append(_Slot(number, is_open=False))
            self._slots.sort(key=lambda slot: slot.number)
        elif len(wanted) > 1:
            self._retire(wanted[-1])

    def _retire(self, slot: _Slot) -> None:
        slot.is_retired = True
        self._to_replace.pop(slot.number, None)

    def pause(self) -> None:
        """Drain all workers, and start none until there is a reload or a resize."""
        self._is_paused = True

    def could_not_open(self, slot: int) -> None:
        """Take note that a slot has no sockets: it is given up."""
        self._retire(next(each for each in self._slots if each.number == slot))

    def stop(self, now: float, *, without_delay: bool = False) -> None:
        """End the server after its time to leave, and after what is running is finished.

        When called again, without the time to leave, and then at once; but what comes within half a second is the same.
        without_delay: without the time to leave, and in any case.
        """
        if self._repeats.is_repeated(Stopping.GRACEFUL, now) and not without_delay:
            return
        if self._stopping is not Stopping.NOT:
            self._advance(Stopping.FORCED, now)
        elif self._leave_at == math.inf and self._times.delay_s and not without_delay:
            self._leave_at = now + self._times.delay_s
            self._pending.append(Leave())
        else:
            self._advance(Stopping.GRACEFUL, now)

    def stop_quickly(self, now: float) -> None:
        """End the server soon; when it is ending already, at once. What comes within half a second is the same."""
        self._hurry(Stopping.QUICK, now)

    def interrupt(self, now: float) -> None:
        """End the server without its time to leave: soon, or in the time that the user has set for that.

        When it is ending already, at once. What comes within half a second is the same.
        """
        self._hurry(Stopping.GRACEFUL if self._times.has_set_stop else Stopping.QUICK, now)

    def _hurry(self, stopping: Stopping, now: float) -> None:
        if not self._repeats.is_repeated(Stopping.QUICK, now):
            self._advance(stopping if self._stopping is Stopping.NOT else Stopping.FORCED, now)

    def _advance(self, stopping: Stopping, now: float) -> None:
        if stopping > self._stopping:
            self._stopping = stopping
            self._pending.append(Leave())
            for worker in self.workers:
                self._end(worker, now)

    def _end(self, worker: Worker, now: float) -> None:
        """Ask a worker to stop in the way in which the server is ending."""
        if self._stopping is Stopping.GRACEFUL:
            self._drain(worker, now)
            return
        within_s = self._quick_s(worker, now) if self._stopping is Stopping.QUICK else _FORCE_S
        worker.state, worker.since = State.DRAINING, now
        worker.kill_at = min(worker.kill_at, now + within_s)
        self._pending.append(Quit(worker.pid))

    def _quick_s(self, worker: Worker, now: float) -> float:
        """Return the time for a quick stop. The application has its own, but a worker that is blocked hears nothing."""
        is_blocked = worker.state is State.READY and self._is_silent(worker, now)
        return self._times.quick_s if is_blocked else self._times.stop_s

    def _drain(self, worker: Worker, now: float) -> None:
        if worker.state is not State.DRAINING:
            if worker.state is State.BOOTING and worker.slot == self._replacing:
                self._replacing = None  # It is no successor any more.
            is_urgent = self._in_development and not self.is_stopping
            within_s = self._quick_s(worker, now) if is_urgent else self._times.stop_s
            worker.state, worker.since = State.DRAINING, now
            worker.kill_at = min(worker.kill_at, now + within_s)
            self._pending.append(Quit(worker.pid) if is_urgent else Stop(worker.pid))

    # What is to be done.

    def plan(self, now: float) -> Iterator[Action]:
        """Yield what has to be done for the fleet to be as it should. Each action is to be done before the next."""
        self._look_at_times(now)
        if self._leave_at <= now and not self.is_stopping:
            self._advance(Stopping.GRACEFUL, now)
        if not self.is_stopping:
            yield from self._open_slots()
            self._plan_asked(now)
            self._plan_slots(now)
            self._plan_replacement(now)
            self._plan_steering()
        elif not self.workers:
            self._pending.append(Finish(self._status))
        pending, self._pending = self._pending, []
        yield from pending

    def _open_slots(self) -> Iterator[OpenSlot]:
        for slot in list(self._slots):
            if not slot.is_open and not slot.is_retired:
                slot.is_open = True
                yield OpenSlot(slot.number)  # It may turn out that this cannot be done.

    def _look_at_times(self, now: float) -> None:
        times = self._times
        for worker in self.workers:
            if worker.kill_at <= now:
                worker.kill_at = math.inf
                self._pending.append(Kill(worker.pid, worker.failure or "it did not stop in time"))
            elif worker.failure is not None:
                if worker.abort_at <= now:
                    self._abort(worker, worker.failure, now)
            elif worker.state is State.BOOTING and worker.since + times.boot_s <= now:
                worker.failure = f"it did not become ready within {times.boot_s:g} seconds"
                worker.abort_at = now + _GIVE_UP_S
                self._pending.append(GiveUp(worker.pid))
            elif worker.state is State.READY:
                self._listen_to(worker, now)
                if worker.since + times.lifetime_s <= now:
                    self.replace(worker.pid, f"it has been running for {times.lifetime_s:g} seconds")

    def _listen_to(self, worker: Worker, now: float) -> None:
        silent_s = now - worker.beat_at
        if worker.beat_at + self._times.silent_s <= now:
            self._abort(worker, f"its event loop has been blocked for {silent_s:.1f} seconds", now)
        elif not self._is_silent(worker, now):
            worker.is_silent = False
        elif not worker.is_silent:
            worker.is_silent = True
            self._pending.append(Warn(worker.pid, silent_s))

    def _is_silent(self, worker: Worker, now: float) -> bool:
        """Tell whether a worker has not been heard for so long that it must be blocked."""
        return worker.beat_at + max(self._times.silent_s * _WARN_SHARE, _WARN_LEAST_S) <= now

    def _abort(self, worker: Worker, reason: str, now: float) -> None:
        worker.failure, worker.abort_at = reason, math.inf
        if worker.is_silent:  # Its stack has been shown.
            self._pending.append(Kill(worker.pid, reason))
        else:
            worker.kill_at = min(worker.kill_at, now + _ABORT_S)
            self._pending.append(Abort(worker.pid, reason))

    def _plan_asked(self, now: float) -> None:
        """Replace workers that were told to stop, unless it is the whole server that is about to."""
        for worker in self.workers if self._leave_at == math.inf else ():
            if worker.asked_at + _ASKED_S > now:
                continue
            worker.asked_at = math.inf
            if worker.state is State.BOOTING:
                self._drain(worker, now)
            else:
                self.replace(worker.pid, "it was told to stop")

    def _plan_slots(self, now: float) -> None:
        for slot in list(self._slots):
            if self._in_development:
                self._give_up_outdated(slot, now)
            if slot.is_retired or self._is_paused:
                for worker in slot.workers:
                    self._drain(worker, now)
                if slot.is_retired and not slot.workers:
                    self._slots.remove(slot)
                    self._pending.append(CloseSlot(slot.number))
            elif not any(worker.state is not State.DRAINING for worker in slot.workers) and slot.retry_at <= now:
                self._pending.append(Spawn(slot.number))

    def _give_up_outdated(self, slot: _Slot, now: float) -> None:
        """End what is starting with files that have changed since."""
        for worker in slot.workers:
            if worker.state is State.BOOTING and worker.is_outdated:
                self._drain(worker, now)

    def _plan_replacement(self, now: float) -> None:
        if self._replacing is not None or self._is_paused:
            return
        for slot in self._slots:
            # Without a worker that is ready it has one that is starting, or gets one.
            if slot.number in self._to_replace and slot.retry_at <= now and slot.find(State.READY) is not None:
                self._replacing = slot.number
                self._pending.append(Spawn(slot.number))
                return

    def _plan_steering(self) -> None:
        serving = [slot for slot in self._slots if not slot.is_retired and self._can_serve(slot)]
        able = frozenset(slot.number for slot in serving)
        # What waits at a full worker stays there. Where all are full, any may have idle connections that make room.
        with_space = frozenset(slot.number for slot in serving if not self._is_full(slot))
        ready = with_space or able
        if ready != self._steered:
            self._steered = ready
            # Before anything is stopped.
            self._pending.insert(0, Steer(ready))

    def _can_serve(self, slot: _Slot) -> bool:
        worker = slot.find(State.READY)
        return worker is not None and not worker.is_silent and worker.failure is None

    def _is_full(self, slot: _Slot) -> bool:
        worker = slot.find(State.READY)
        return worker is not None and worker.is_full

    def next_change(self, now: float) -> float:
        """Return when `plan` may have something new to say though nothing happens; infinity for never.

        Silence does not count: that a worker is not heard is only known when all have been listened to.
        """
        times = [self._leave_at, *(slot.retry_at for slot in self._slots)]
        for worker in self.workers:
            times += [worker.kill_at, worker.abort_at, worker.asked_at + _ASKED_S]
            if worker.failure is None and worker.state is State.BOOTING:
                times.append(worker.since + self._times.boot_s)
            elif worker.failure is None and worker.state is State.READY:
                times.append(worker.since + self._times.lifetime_s)
        return min((at for at in times if at > now), default=math.inf)
