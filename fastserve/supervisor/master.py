"""The life of the parent process: it forks workers, passes signals on and reaps. What to do when is up to the fleet."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import logging
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from fastserve.asgi.types import ASGIApp
from fastserve.errors import BindError
from fastserve.logs import log_colored, reopen_log_files
from fastserve.net.certificates import Certificates
from fastserve.settings import Settings
from fastserve.streams import flush_streams
from fastserve.supervisor.cpus import CpuPlan, pin
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
from fastserve.supervisor.hooks import Hooks
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.process import WorkerProcess, describe_end
from fastserve.supervisor.reload import Watcher
from fastserve.supervisor.systemd import Notifier
from fastserve.supervisor.upgrade import Heir, Inheritance
from fastserve.worker.owner import Parent, announce
from fastserve.worker.scoreboard import Record, Scoreboard
from fastserve.worker.server import Place
from fastserve.worker.worker import run_worker

_log = logging.getLogger("fastserve")

# How many workers there may be at a time, those that are being replaced included.
_MOST_WORKERS = 1024
# Beyond its time for a graceful stop, what a worker gets before it is killed.
_KILL_MARGIN_S = 2.0
_QUICK_S = 5.0
# How often the beats and the memory of workers are looked at, and which of them are full.
_LOOK_S = 0.5
_LOOK_AT_SPACE_S = 0.05
_LOOK_AT_MEMORY_S = 5.0
_LOOK_AT_CERTIFICATES_S = 2.0
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_STDERR = 2  # and not sys.stderr, which the application may have replaced or removed


class Master:
    """Runs the workers of a server until it is told to stop.

    load: returns the application; called in each worker. on_ready: called when all workers serve, at first and after a
    reload. inheritance: what another server has given to this one. new_heir: starts a server to replace this one.
    watcher: of files, in development. certificates: for TLS; read anew for workers that start after they have changed.
    """

    def __init__(
        self,
        settings: Settings,
        plan: CpuPlan,
        sockets: ListeningSockets,
        *,
        load: Callable[[], ASGIApp],
        hooks: Hooks,
        notifier: Notifier,
        on_ready: Callable[[], None],
        inheritance: Inheritance | None,
        new_heir: Callable[[], Heir],
        watcher: Watcher | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._sockets = sockets
        self._load = load
        self._hooks = hooks
        self._notifier = notifier
        self._on_ready = on_ready
        self._inheritance = inheritance
        self._new_heir = new_heir
        self._watcher = watcher
        self._certificates = certificates
        self._pid = os.getpid()
        self._scoreboard = Scoreboard(_MOST_WORKERS)
        self._fleet = Fleet(plan.workers, _fleet_times(settings), in_development=watcher is not None)
        self._workers: dict[int, WorkerProcess] = {}
        self._failures_told: set[str] = set()
        self._heir: Heir | None = None
        self._steered: frozenset[int] = frozenset()
        self._owes_ready = True
        self._owes_announcement = True
        self._holds_sockets = True
        self._is_succeeded = False
        self._status: int | None = None
        now = time.monotonic()
        self._look_at = now
        # Without a limit they are full only when they are out of file descriptors.
        has_limit = settings.connections.connections is not None
        self._space_s = _LOOK_AT_SPACE_S if has_limit else _LOOK_S
        self._look_at_space = now
        self._look_at_memory = now
        self._look_at_certificates = now
        self._alive_at = now
        self._handle_signal: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._interrupt,
            signal.SIGQUIT: self._stop_quickly,
            signal.SIGHUP: self._reload,
            signal.SIGTTIN: lambda: self._resize("SIGTTIN", +1),
            signal.SIGTTOU: lambda: self._resize("SIGTTOU", -1),
            signal.SIGWINCH: self._pause,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._upgrade,
            signal.SIGCHLD: lambda: None,  # Children are looked for in every turn.
        }

    def run(self) -> int:
        """Run workers until a signal ends the server, and return its exit status.

        Raises:
            BindError: another server listens on the same address.
            SystemExit: in each worker, when it ends.
        """
        self._sockets.listen()
        for slot in range(self._plan.workers):
            self._sockets.add_slot(slot)
        if self._watcher is not None:
            _log.info("Will watch for changes in these directories: %s", self._watcher.directories)
            log_colored(
                _log, "Started reloader process [%d] using %s", self._pid, self._watcher.name, fg="cyan", bold=True
            )
        else:
            log_colored(_log, "Started parent process [%d]", self._pid, fg="cyan", bold=True)
        _set_title("fastserve")
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        before = self._catch_signals()
        try:
            while True:
                for action in self._fleet.plan(time.monotonic()):
                    self._act(action)
                if self._status is not None:
                    what = "reloader" if self._watcher else "parent"
                    log_colored(_log, f"Stopping {what} process [%d]", self._pid, fg="cyan", bold=True)
                    return self._status
                self._settle()
                self._wait()
        finally:
            if os.getpid() == self._pid:  # A worker leaves this way too.
                self._release(before)

    def _catch_signals(self) -> dict[int, Any]:
        """Have signals written to a socket, in the order in which they come; return the handlers there were."""
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._take_signals)
        if self._inheritance is not None:
            self._selector.register(self._inheritance.channel, selectors.EVENT_READ, self._look_at_predecessor)
        if self._watcher is not None:
            self._selector.register(self._watcher, selectors.EVENT_READ, self._look_at_changes)
        return {number: signal.signal(number, _do_nothing) for number in self._handle_signal}

    def _release(self, handlers: dict[int, Any]) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for worker in self._workers.values():
            worker.close()
        self._close_own_files()

    def _close_own_files(self) -> None:
        """Close what only the parent process uses."""
        self._selector.close()
        self._wakeup.close()
        self._wakeup_end.close()
        self._notifier.close()
        if self._inheritance is not None:
            self._inheritance.channel.close()
        if self._heir is not None:
            self._heir.close()
        if self._watcher is not None:
            self._watcher.close_in_child()

    # Waiting for something to happen.

    def _wait(self) -> None:
        now = time.monotonic()
        due = [self._fleet.next_change(now), self._look_at, self._look_at_space]
        if self._notifier.watchdog_s is not None:
            due.append(self._alive_at)
        for key, _ in self._selector.select(max(min(due) - now, 0.0)):
            key.data()
        self._reap()
        self._look()

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._wakeup.recv(4096):
                if number in self._handle_signal:
                    self._handle_signal[number]()

    def _reap(self) -> None:
        """Take note of children that have ended; as process 1, also of those that are not ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, status: int) -> None:
        if self._heir is not None and pid == self._heir.pid:
            self._heir.reaped(status)
            if self._heir.channel in self._selector.get_map():
                self._look_at_heir()
            return
        process = self._workers.pop(pid, None)
        if process is None:
            return
        said_why = self._listen_to(process)
        self._stop_watching(process.channel)
        process.close()
        worker = self._fleet.exited(pid, status, time.monotonic())
        if worker is not None and worker.state is State.READY:
            self._failures_told.clear()  # What keeps its successor from starting is worth being told again.
        self._hooks.call("worker_exit", process.slot, pid, status)
        is_expected = worker is not None and worker.state is State.DRAINING and status == 0
        if not is_expected and not said_why:
            _log.error("Child process [%d] died: %s", pid, describe_end(status))

    def _stop_watching(self, channel: socket.socket) -> None:
        if channel in self._selector.get_map():
            self._selector.unregister(channel)

    def _listen_to(self, process: WorkerProcess) -> bool:
        """Act on what a worker says; tell whether it has said why it ends."""
        self._take_signals()  # First: what a worker does may be the effect of a signal to all processes.
        try:
            for event, text in process.messages():
                self._take_message(process, event, text)
        except EOFError:
            self._stop_watching(process.channel)
        return process.has_failed

    def _take_message(self, process: WorkerProcess, event: str, text: str) -> None:
        match event:
            case "ready":
                self._worker_is_ready(process)
            case "worn":
                self._fleet.replace(process.pid, text)
            case "asked":
                self._fleet.asked_to_stop(process.pid, time.monotonic())
            case "leaving":
                self._fleet.leaving(process.pid, time.monotonic())
            case "failed":
                process.has_failed = True
                self._fleet.explained(process.pid, time.monotonic())
                self._tell_failure(text)

    def _worker_is_ready(self, process: WorkerProcess) -> None:
        self._failures_told.clear()
        if self._owes_announcement:
            self._owes_announcement = False
            announce(self._sockets.urls)
        self._fleet.became_ready(process.pid, time.monotonic())
        self._hooks.call("worker_ready", process.slot, process.pid)

    def _tell_failure(self, text: str) -> None:
        """Log why a worker could not start; only once when all say the same."""
        if text not in self._failures_told:
            self._failures_told.add(text)
            _log.error("%s", text)

    def _look(self) -> None:
        """Look at the beats and the memory of workers, and tell the service manager that we do."""
        now = time.monotonic()
        if now >= self._look_at:
            # When this process itself was stopped, as in a container that is paused, so were the workers.
            was_stopped = now - self._look_at > _LOOK_S
            self._look_at = now + _LOOK_S
            for process in self._workers.values():
                self._fleet.heard(process.pid, now if was_stopped else process.record.beat_us / 1e6)
        if now >= self._look_at_space:
            self._look_at_space = now + self._space_s
            for process in self._workers.values():
                self._fleet.filled(process.pid, process.record.is_full)
        if self._settings.recycling.memory_bytes is not None and now >= self._look_at_memory:
            self._look_at_memory = now + _LOOK_AT_MEMORY_S
            self._weigh(self._settings.recycling.memory_bytes)
        if self._certificates is not None and now >= self._look_at_certificates:
            self._look_at_certificates = now + _LOOK_AT_CERTIFICATES_S
            self._certificates.reload_if_changed()
        if self._notifier.watchdog_s is not None and now >= self._alive_at:
            self._alive_at = now + self._notifier.watchdog_s
            self._notifier.alive()

    def _weigh(self, most: int) -> None:
        for pid in list(self._workers):
            with contextlib.suppress(psutil.Error, OSError):  # It has ended, or there are no file descriptors.
                size = psutil.Process(pid).memory_info().rss
                if size > most:
                    self._fleet.replace(pid, f"it takes {size >> 20} MiB of memory, more than {most >> 20} MiB")

    def _settle(self) -> None:
        """Tell everyone once all workers serve."""
        if self._owes_ready and self._fleet.is_whole and not self._fleet.is_stopping:
            self._owes_ready = False
            self._notifier.ready()
            self._on_ready()
            if self._inheritance is not None:
                self._sockets.take_over()
                self._inheritance.accept()

    # What signals ask for.

    def _stop(self) -> None:
        _log.info("Received SIGTERM, exiting.")
        self._disinherit()
        self._fleet.stop(time.monotonic())

    def _interrupt(self) -> None:
        _log.info("Received SIGINT, exiting.")
        self._disinherit()
        self._fleet.interrupt(time.monotonic())

    def _stop_quickly(self) -> None:
        _log.info("Received SIGQUIT, exiting.")
        self._disinherit()
        self._fleet.stop_quickly(time.monotonic())

    def _disinherit(self) -> None:
        """Stop a new server that is not ready yet: whoever stops this one wants none."""
        if self._heir is not None and not self._fleet.is_stopping:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._heir.pid, signal.SIGTERM)

    def _reload(self) -> None:
        if self._fleet.is_stopping:
            return
        what = (
            "the same code, because of --preload"
            if self._settings.processes.preload
            else "the application imported anew"
        )
        _log.info("Received SIGHUP, replacing all workers: %s.", what)
        if self._certificates is not None:
            self._certificates.reload()
        self._failures_told.clear()
        self._owes_ready = True
        self._notifier.reloading()
        self._fleet.reload()

    def _look_at_changes(self) -> None:
        assert self._watcher is not None
        try:
            paths = self._watcher.changes()
        except EOFError:
            self._selector.unregister(self._watcher)
            if not self._fleet.is_stopping:
                _log.error("Files are not watched any more. SIGHUP replaces the worker.")
            return
        if paths and not self._fleet.is_stopping:
            shown = ", ".join(f"'{path}'" for path in paths)
            _log.warning("%s detected changes in %s. Reloading...", self._watcher.name, shown)
            self._failures_told.clear()
            self._fleet.reload()

    def _resize(self, name: str, change: int) -> None:
        _log.info("Received %s, one worker %s.", name, "more" if change > 0 else "less")
        self._fleet.resize(change)

    def _pause(self) -> None:
        if os.isatty(0):
            return  # A terminal sends this when its window changes.
        _log.info("Received SIGWINCH, stopping all workers. SIGHUP starts them again.")
        self._fleet.pause()

    def _reopen_logs(self) -> None:
        reopen_log_files()
        for process in self._workers.values():
            process.send_signal(signal.SIGUSR1)

    def _upgrade(self) -> None:
        if self._heir is not None or self._fleet.is_stopping:
            return
        if self._pid == 1:
            _log.error("Received SIGUSR2, but process 1 cannot be replaced: a container ends with it.")
            return
        try:
            self._heir = self._new_heir()
        except Exception as error:  # Whatever it is, this one serves.
            _log.error("Cannot start a new server: %s", error)
            return
        _log.info("Received SIGUSR2, started a new server, process [%d].", self._heir.pid)
        self._selector.register(self._heir.channel, selectors.EVENT_READ, self._look_at_heir)

    def _look_at_heir(self) -> None:
        assert self._heir is not None
        is_ready = self._heir.is_ready()
        if is_ready is False:
            return
        self._selector.unregister(self._heir.channel)
        if is_ready and not self._fleet.is_stopping:
            _log.info("The new server is ready.")
            self._is_succeeded = True
            self._sockets.give_away()
            self._notifier.succeeded_by(self._heir.pid)
            self._fleet.stop(time.monotonic(), without_delay=True)
            return
        self._heir.close()
        self._heir = None
        if not self._fleet.is_stopping:
            _log.error("The new server did not become ready. This one goes on.")
            self._sockets.steer(self._steered, self._cpus())

    def _look_at_predecessor(self) -> None:
        assert self._inheritance is not None
        if self._inheritance.is_over():
            self._selector.unregister(self._inheritance.channel)
            self._inheritance.channel.close()
            self._inheritance = None
            self._sockets.take_over()
            for slot in self._sockets.slots - self._fleet.slots:
                self._sockets.remove_slot(slot)

    # What the fleet asks for.

    def _act(self, action: Action) -> None:
        match action:
            case Spawn(slot):
                self._spawn(slot)
            case OpenSlot(slot):
                self._open_slot(slot)
            case CloseSlot(slot):
                self._sockets.remove_slot(slot)
            case Steer(slots):
                self._steered = slots
                self._sockets.steer(slots, self._cpus())
            case Leave():
                self._leave()
            case Tell(text, is_error):
                _log.log(logging.ERROR if is_error else logging.INFO, "%s", text)
            case Finish(status):
                self._status = status
            case _:
                self._act_on_worker(action)

    def _act_on_worker(self, action: Stop | Quit | Warn | GiveUp | Abort | Kill) -> None:
        match action:
            case Stop(pid):
                if self._fleet.is_stopping:
                    _log.info("Terminating child process [%d]", pid)
                if pid in self._workers:
                    self._workers[pid].record.is_told = True
                self._signal(pid, signal.SIGTERM)
            case Quit(pid):
                _log.info("Terminating child process [%d]", pid)
                self._signal(pid, signal.SIGQUIT)
            case Warn(pid, silent_s):
                text = "The event loop of worker [%d] has been blocked for %.1f seconds. What its threads are doing:"
                _log.warning(text, pid, silent_s)
                self._signal(pid, signal.SIGUSR2)
            case GiveUp(pid):
                if pid in self._workers:
                    self._workers[pid].ask_to_give_up()
            case Abort(pid, reason):
                _log.error("Aborting worker [%d]: %s.", pid, reason)
                self._signal(pid, signal.SIGABRT)
            case Kill(pid, reason):
                _log.error("Killing worker [%d]: %s.", pid, reason)
                self._signal(pid, signal.SIGKILL)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        if pid in self._workers:
            self._workers[pid].send_signal(number)

    def _cpus(self) -> dict[int, int]:
        planned = ((slot, self._plan.cpu(slot)) for slot in self._sockets.slots)
        return {slot: cpu for slot, cpu in planned if cpu is not None}

    def _open_slot(self, slot: int) -> None:
        try:
            self._sockets.add_slot(slot)
        except BindError as error:
            _log.error("There can be no more workers: %s", error)
            self._fleet.could_not_open(slot)

    def _leave(self) -> None:
        if not self._is_succeeded:
            self._scoreboard.is_leaving = True
            self._notifier.stopping()
        if self._fleet.is_stopping and self._holds_sockets:
            # The workers have them still. When they have taken what is waiting there, clients are refused.
            self._holds_sockets = False
            self._sockets.close()

    # Forking.

    def _spawn(self, slot: int) -> None:
        now = time.monotonic()
        try:
            record = self._scoreboard.reserve(slot, now)
        except LookupError as error:
            self._could_not_spawn(slot, str(error))
            return
        self._hooks.call("pre_fork", slot)
        try:
            channel, theirs = socket.socketpair()
        except OSError as error:
            record.clear()
            self._could_not_spawn(slot, error.strerror)
            return
        flush_streams()
        # The signals that come in between are for the worker to handle, in its own way.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handle_signal)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handle_signal)
            channel.close()
            theirs.close()
            record.clear()
            self._could_not_spawn(slot, error.strerror)
            return
        if pid == 0:
            channel.close()
            sys.exit(self._work(slot, theirs, record))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handle_signal)
        theirs.close()
        channel.setblocking(False)
        process = WorkerProcess(slot, pid, channel, record)
        self._workers[pid] = process
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._listen_to(process))
        self._fleet.spawned(slot, pid, now)

    def _could_not_spawn(self, slot: int, reason: str | None) -> None:
        _log.error("Cannot start a worker: %s", reason)
        self._fleet.could_not_spawn(slot, time.monotonic())

    def _work(self, slot: int, channel: socket.socket, record: Record) -> int:
        """Be a worker, in a process that was just forked; return its exit status."""
        signal.set_wakeup_fd(-1)
        self._close_own_files()
        for process in self._workers.values():
            process.channel.close()
        faulthandler.enable(_STDERR)
        faulthandler.register(signal.SIGUSR2, _STDERR, all_threads=True)
        owner = Parent(channel, self._pid, record)
        # Those that the worker catches stay blocked until it does; the others are the parent's, and do nothing here.
        not_for_workers = set(self._handle_signal) - {*owner.signals, signal.SIGUSR1}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, not_for_workers)
        atexit.register(_ignore, {*self._handle_signal, *owner.signals})
        _end_with_parent()
        _set_title(f"fastserve:w{slot}")
        cpu = self._plan.cpu(slot)
        if cpu is not None:
            pin(cpu)
        record.claim()
        timeouts = replace(self._settings.timeouts, drain_delay_s=0.0)  # The parent has waited.

        def load() -> ASGIApp:
            self._hooks.call("post_fork", slot)
            return self._load()

        try:
            return run_worker(
                replace(self._settings, timeouts=timeouts),
                self._sockets.keep_only(slot),
                owner,
                load=load,
                place=Place(slot, self._scoreboard, record),
                certificates=self._certificates,
            )
        finally:
            channel.close()


def _fleet_times(settings: Settings) -> FleetTimes:
    timeouts = settings.timeouts
    return FleetTimes(
        boot_s=timeouts.boot_s or math.inf,
        stop_s=timeouts.stop_s + _KILL_MARGIN_S,
        has_set_stop=timeouts.graceful_s is not None,
        quick_s=_QUICK_S,
        silent_s=timeouts.silent_s or math.inf,
        lifetime_s=settings.recycling.lifetime_s or math.inf,
        delay_s=timeouts.drain_delay_s,
    )


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal that only has to wake this process up, or is not for it."""


def _set_title(title: str) -> None:
    """Name this process for ps and top (Linux: at most 15 characters)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(title)


def _ignore(signals: Iterable[int]) -> None:
    # The interpreter takes its handlers away when it ends, and then a late signal would look like a crash.
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


def _end_with_parent() -> None:
    """Have this process told when its parent ends, also while its event loop is blocked (Linux: prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
