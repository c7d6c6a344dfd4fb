"""The life of one worker process."""

from __future__ import annotations

import _thread
import asyncio
import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
from types import FrameType
from typing import Any

from fastserve.asgi.answered import Answered
from fastserve.asgi.types import ASGIApp
from fastserve.errors import AccelerationError, AppLoadError, BindError, LifespanError, SettingsError, StartupError
from fastserve.logs import adopt_uvicorn_loggers, log_colored, reopen_log_files
from fastserve.net.certificates import Certificates
from fastserve.settings import Settings
from fastserve.worker.garbage import collecting
from fastserve.worker.loops import new_loop
from fastserve.worker.memory import keep_freed_memory
from fastserve.worker.owner import Owner
from fastserve.worker.server import Place, Server

_log = logging.getLogger("fastserve")

# How long the process may take to end when it is to end at once.
_FORCE_S = 1.0
# How long before the end is said what happens.
_ANNOUNCED_S = 0.2
# How long tasks, and asynchronous generators, that are still there at the end may take to be cancelled.
_CANCEL_S = 0.5


class _StopLoading(BaseException):
    """A signal came while the application was being loaded."""


class Signals:
    """Passes signals on to the server, also while its event loop is blocked by Python code.

    A signal that comes earlier ends the loading of the application, or is kept until there is a server.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._server: Server | None = None
        self._is_loading = False
        self._early: list[int] = []

    @property
    def should_exit(self) -> bool:
        """Whether the server is to stop. What streams events looks for this at the handler of SIGTERM."""
        return self._server is not None and self._server.is_stopping

    def catch(self) -> None:
        """Catch the signals of the owner, also those that have been blocked; to be called in the main thread."""
        signal.signal(signal.SIGUSR1, self._reopen_logs)  # unless that is one of them
        for number in self._owner.signals:
            signal.signal(number, self._take)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*self._owner.signals, signal.SIGUSR1})

    def pass_to(self, server: Server) -> None:
        """Pass signals to this server from now on, and those that came before."""
        self._server = server
        for number in self._early:
            self._act_on(number)

    def load(self, load: Callable[[], ASGIApp]) -> ASGIApp:
        """Return what this returns.

        Raises:
            _StopLoading: a signal came.
        """
        try:
            self._is_loading = True
            if self._early:
                raise _StopLoading
            return load()
        finally:
            self._is_loading = False

    def _reopen_logs(self, number: int, frame: FrameType | None) -> None:
        if self._server is not None:
            self._server.call_soon(reopen_log_files)  # Not in the middle of a line that is being written.
        else:
            reopen_log_files()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._owner.hear(number):
            self._act_on(number)

    def _act_on(self, number: int) -> None:
        if self._server is None:
            self._early.append(number)  # The application may catch what is raised into its import.
            if self._is_loading:
                raise _StopLoading
            return
        was_forced = self._server.is_forced
        self._owner.tell(number, self._server)
        if self._server.is_forced and not was_forced:
            # The loop may be blocked for good. This watchdog needs neither the loop nor the interpreter's lock, and
            # shows what it was that did not end.
            faulthandler.dump_traceback_later(_FORCE_S, exit=True, file=2)
            # A handler takes no lock that what it has interrupted may hold, as starting a threading.Thread does.
            _thread.start_new_thread(_announce_cut, ())


def _announce_cut() -> None:
    """Say what the watchdog is going to do, unless the process ends before."""
    time.sleep(_FORCE_S - _ANNOUNCED_S)
    _log.error("The process does not end, and is cut off. What its threads are doing:")


def run_worker(
    settings: Settings,
    sockets: Sequence[socket],
    owner: Owner,
    *,
    load: Callable[[], ASGIApp],
    place: Place | None,
    observers: Sequence[Callable[[Answered], None]] = (),
    certificates: Certificates | None = None,
) -> int:
    """Serve an application on these sockets until a signal ends it, and return the exit status.

    load: returns the application. place: of this worker among others, where there are others. observers, certificates:
    see Server. To be called in the main thread. The status is 0 after a signal, 3 when the application cannot be loaded
    or started, and 2 when the event loop cannot be made.
    """
    os.environ["FASTSERVE_WORKER_ID"] = str(place.slot if place is not None else 0)
    keep_freed_memory()
    signals = Signals(owner)
    try:
        signals.catch()
        app = signals.load(load)
        loop = new_loop(settings.processes.loop)
    except _StopLoading:
        return 0
    except AppLoadError as error:
        owner.worker_failed(error.explain())
        return error.exit_code
    except SettingsError as error:  # of the event loop, which only a worker makes
        owner.worker_failed(f"{error}")
        return error.exit_code
    adopt_uvicorn_loggers()
    log_colored(_log, "Started server process [%d]", os.getpid(), fg="cyan")
    try:
        with collecting(settings.processes.gc) as settle:

            def be_ready() -> None:
                settle()
                owner.worker_is_ready()

            new_server = partial(
                Server,
                app,
                settings,
                sockets,
                place,
                on_ready=be_ready,
                on_worn=owner.worker_is_worn,
                observers=observers,
                certificates=certificates,
            )
            loop.run_until_complete(_serve(new_server, owner, signals))
    except (AccelerationError, LifespanError) as error:
        owner.worker_failed(explain(error))
        return error.exit_code
    except BindError as error:
        owner.worker_failed(f"{error}")
        return error.exit_code
    finally:
        close_loop(loop)
        for sock in sockets:
            sock.close()
    log_colored(_log, "Finished server process [%d]", os.getpid(), fg="cyan")
    return 0


def explain(error: StartupError) -> str:
    """Return what to log of a server that cannot start."""
    if not isinstance(error, LifespanError):
        return error.explain()
    reason = str(error).rstrip()
    if "\n" in reason:  # Starlette gives the whole traceback as its reason.
        return f"Application startup failed. Exiting.\n{reason}"
    where = f"\nIt waits here (most recent call last):\n{error.stack.rstrip()}" if error.stack else ""
    return f"Application startup failed: {reason}. Exiting.{where}"


async def _serve(new_server: Callable[[], Server], owner: Owner, signals: Signals) -> None:
    server = new_server()  # It belongs to the event loop that is running.
    signals.pass_to(server)
    owner.watch(asyncio.get_running_loop(), server)
    await server.run()


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left in the event loop, and close it.

    Tasks and asynchronous generators have a moment to end. The threads of its executor are not waited for: one that is
    stuck would keep the process for ever.
    """
    _cancel_tasks(loop)
    _wait_briefly(loop, {loop.create_task(loop.shutdown_asyncgens())})
    _cancel_tasks(loop)  # what generators are waiting for
    loop.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        _wait_briefly(loop, left)


def _wait_briefly(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
    loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_S))
