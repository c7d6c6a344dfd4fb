"""`run`, `serve` and `Server`: serving from a program, as `uvicorn.run` and `uvicorn.Server` do."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from fastserve.asgi.types import ASGIApp
from fastserve.config import STARTUP_FAILURE, Config
from fastserve.errors import StartupError
from fastserve.logs import adopt_uvicorn_loggers, log_colored
from fastserve.settings import Settings, listed
from fastserve.streams import flush_streams
from fastserve.supervisor.cpus import placed
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.pidfile import PidFile
from fastserve.supervisor.serve import only_place
from fastserve.supervisor.serve import serve as serve_settings
from fastserve.worker.apploader import refuse_nested
from fastserve.worker.owner import announce
from fastserve.worker.server import Server as Core
from fastserve.worker.worker import close_loop, explain

_log = logging.getLogger("fastserve")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long threads that the application has started may keep a worker once everything else has ended.
_THREADS_S = 5.0
_TICK_S = 0.1  # as uvicorn has it, for those who override on_tick()


class Listening:
    """A socket that connections are accepted on, as `asyncio.Server` shows it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sockets = (sock,)

    def is_serving(self) -> bool:
        """Tell whether the socket is open."""
        return self.sockets[0].fileno() >= 0


class ServerState:
    """What a server is doing."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self.default_headers: list[tuple[bytes, bytes]] = []

    def show(self, core: Core) -> None:
        """Show what this one is doing from now on."""
        self._core = core

    @property
    def total_requests(self) -> int:
        """How many requests have been answered."""
        return self._core.answered if self._core is not None else 0

    @property
    def connections(self) -> set[Any]:
        """The connections that are open."""
        return set(self._core.connections) if self._core is not None else set()

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The calls of the application that are running."""
        return self._core.tasks if self._core is not None else set()


class Server:
    """Serves an application in this process, in an event loop of its own (`run`) or in the running one (`serve`).

    started: whether connections are accepted. should_exit: set it, in any thread, to stop gracefully; force_exit: to
    stop at once. servers: the sockets. lifespan: what runs the application's. `startup`, `main_loop`, `on_tick`,
    `shutdown` and `handle_exit` may be overridden.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.server_state = ServerState()
        self.started = False
        self.servers: list[Listening] = []
        self.last_notified = 0.0
        self._should_exit = False
        self._force_exit = False
        self._core: Core | None = None
        self._running: asyncio.Task[None] | None = None
        self._opened: ListeningSockets | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._on_ready: Callable[[], None] = lambda: None
        self._captured_signals: list[int] = []

    @functools.cached_property
    def limit_max_requests(self) -> int | None:
        """After how many requests the server ends, with a part of this by chance; None when it does not."""
        return self.config.settings.recycling.draw_max_requests()

    # Stopping, from any thread and from signal handlers.

    @property
    def should_exit(self) -> bool:
        """Whether the server is to stop."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, wanted: bool) -> None:
        self._should_exit = wanted
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Whether the server is to stop at once."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, wanted: bool) -> None:
        self._force_exit = wanted
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_wishes)

    def _take_wishes(self) -> None:
        self._woken.set()
        if self._core is None:
            return
        if self._should_exit and not self.started:
            self._core.stop()
        if self._force_exit and not self._core.is_forced:
            self._core.end_at_once()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM: stop, and with a second SIGINT at once."""
        self._captured_signals.append(sig)
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals, if this is the main thread; afterwards they have the effect that they had before."""
        with self._signals_caught():
            yield
        for number in reversed(self._captured_signals):
            signal.raise_signal(number)

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Serving.

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in a new event loop; in any thread.

        Raises:
            NestedServer: an application that is being loaded calls this.
            RuntimeError: an event loop is running here.
            SystemExit: the server cannot start, which is logged.
        """
        refuse_nested()
        _refuse_in_loop("Server.run()", "await Server.serve()")
        self._run(self.serve(sockets))

    def run_to_end(self) -> None:
        """Serve until told to stop by a signal, which has no further effect.

        Raises:
            SystemExit: the server cannot start, which is logged.
        """
        with self._signals_caught():
            self._run(self._serve_or_exit(None))

    def run_in_thread(self, on_ready: Callable[[], None]) -> None:
        """Serve until `should_exit` is set. on_ready: called when connections are accepted.

        Raises:
            StartupError: the server cannot start.
        """
        self._on_ready = on_ready
        self._run(self.serve_without_signals())

    def _run(self, serving: Coroutine[Any, Any, None]) -> None:
        loop = self.config.get_loop_factory()()
        try:
            loop.run_until_complete(serving)
        finally:
            close_loop(loop)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in the running event loop. Cancelling this stops quickly.

        sockets: to accept connections on, instead of the addresses of the configuration; they are closed in the end.

        Raises:
            NestedServer: an application that is being loaded calls this.
            SystemExit: the server cannot start, which is logged.
        """
        refuse_nested()
        with self.capture_signals():
            await self._serve_or_exit(sockets)

    async def _serve_or_exit(self, sockets: list[socket.socket] | None) -> None:
        try:
            await self.serve_without_signals(sockets)
        except StartupError as error:
            _log.error("%s", explain(error))
            raise SystemExit(STARTUP_FAILURE) from None

    async def serve_without_signals(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, and leave signals to others.

        Raises:
            StartupError: the server cannot start.
            SettingsError: it may not use the CPUs of `affinity`.
        """
        settings = self.config.settings
        unused = needing_other_processes(settings)
        for text in settings.remarks:
            _log.warning("%s.", text)
        if unused:
            _log.warning("Server is one process, and does not use %s: fastserve.run does.", _quoted(unused))
        with contextlib.ExitStack() as stack:
            if settings.processes.pid is not None:
                stack.enter_context(PidFile(settings.processes.pid))
            stack.enter_context(placed(settings.processes))
            await self._serve(sockets)

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if not self.config.loaded:
            self.config.loaded_app = self.config.load_app()
            self.config.loaded = True
        adopt_uvicorn_loggers()
        log_colored(_log, "Started server process [%d]", os.getpid(), fg="cyan")
        try:
            await self.startup(sockets=sockets)
            if self.started and not self.should_exit:
                await self.main_loop()
            if self.started:
                await self.shutdown(sockets=sockets)
                log_colored(_log, "Finished server process [%d]", os.getpid(), fg="cyan")
        finally:
            await self._end(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and accept connections. When told to stop in between, return without.

        Raises:
            StartupError: the application does not start, or an address cannot be listened on.
        """
        settings = self.config.settings
        recycling = replace(settings.recycling, max_requests=self.limit_max_requests, max_requests_jitter=0)
        settings = replace(settings, recycling=recycling)
        self._loop = loop = asyncio.get_running_loop()
        if sockets is None:
            self._opened = ListeningSockets(settings.bind, settings.processes.balance, scheme=settings.tls.scheme)
        serving = sockets if sockets is not None else self._opened_sockets()
        ready = loop.create_future()
        self._core = Core(
            self.config.loaded_app,
            settings,
            serving,
            only_place(),
            on_ready=lambda: ready.set_result(None),
            on_worn=self._is_worn,
        )
        self.lifespan = self._core.lifespan
        self.server_state.show(self._core)
        self.server_state.default_headers = self.config.encoded_headers
        self._running = asyncio.create_task(self._core.run())
        self._take_wishes()
        await asyncio.wait((ready, self._running), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            self._running.result()
            return
        self.servers = [Listening(sock) for sock in serving]
        self.started = True
        if self._opened is not None:
            announce(self.urls)
        self._on_ready()

    @property
    def urls(self) -> list[str]:
        """Where the server can be reached, if it has opened the sockets by itself."""
        return self._opened.urls if self._opened is not None else []

    def _opened_sockets(self) -> Sequence[socket.socket]:
        assert self._opened is not None
        return self._opened.for_slot(0)

    def _is_worn(self, reason: str) -> None:
        _log.info("Maximum request limit of %d exceeded. Terminating process.", self.server_state.total_requests)
        self.should_exit = True

    async def main_loop(self) -> None:
        """Return when the server is to stop."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864000
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._woken.wait()

    async def on_tick(self, counter: int) -> bool:
        """Tell whether the server is to stop. Called ten times a second; counter: how often so far."""
        callback = self.config.callback_notify
        if callback is not None and time.monotonic() - self.last_notified > self.config.timeout_notify:
            self.last_notified = time.monotonic()
            await callback()
        return self.should_exit or self._running is None or self._running.done()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests that are running, and stop the application."""
        assert self._core is not None
        assert self._running is not None
        if not self._core.is_stopping:
            self._core.stop()
        await self._running

    async def _end(self, sockets: list[socket.socket] | None) -> None:
        """Close everything, also when this was cancelled, or failed."""
        if self._core is not None and self._running is not None and not self._running.done():
            self._core.stop_quickly()
            with contextlib.suppress(StartupError):
                await self._running
        if self._opened is not None:
            self._opened.close()
        for sock in sockets or ():
            sock.close()
        self._loop = None


async def serve(app: ASGIApp | Callable[..., Any] | str, **options: Any) -> None:
    """Serve an application in the running event loop until SIGINT, SIGTERM or a cancellation. See Config.

    Raises:
        NestedServer: an application that is being loaded calls this.
        SystemExit: the server cannot start, which is logged.
    """
    refuse_nested()
    await Server(Config(app, **options)).serve()


def run(app: ASGIApp | Callable[..., Any] | str, **options: Any) -> None:
    """Serve an application until a signal ends the server: the `fastserve` command for programs. See Config.

    Raises:
        NestedServer: an application that is being loaded calls this.
        RuntimeError: an event loop is running here.
        SystemExit: the server cannot start, or has failed, which is logged.
    """
    refuse_nested()
    _refuse_in_loop("fastserve.run()", "await fastserve.serve(...)")
    config = Config(app, **options)
    settings = config.settings
    if isinstance(app, str) and threading.current_thread() is threading.main_thread():
        status = _serve_by_name(settings)
        if status:
            sys.exit(status)
    elif unused := needing_other_processes(settings):
        if isinstance(app, str):
            _log.warning("You must call fastserve.run in the main thread to enable %s.", _quoted(unused))
        else:
            _log.warning("You must pass the application as an import string to enable %s.", _quoted(unused))
        sys.exit(STARTUP_FAILURE)
    else:
        Server(config).run_to_end()


def _refuse_in_loop(called: str, instead: str) -> None:
    """Do nothing, unless an event loop is running in this thread, which could not run another one meanwhile.

    Raises:
        RuntimeError: it is.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{called} runs an event loop of its own, and one is running here already: use {instead}")


def needing_other_processes(settings: Settings) -> list[str]:
    """Return the options that one process cannot have; it can end after a number of requests."""
    return [name for name in settings.supervised if name != "limit_max_requests"]


def _quoted(names: list[str]) -> str:
    return listed([repr(name) for name in names])


def _serve_by_name(settings: Settings) -> int:
    """Serve as the command does, and return the exit status; workers do not return."""
    pid = os.getpid()
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)}
    for text in settings.remarks:
        _log.warning("%s.", text)
    try:
        return serve_settings(settings, before_load=atexit._clear)
    except StartupError as error:
        _log.error("%s", error.explain())
        return error.exit_code
    except SystemExit as leaving:
        if os.getpid() != pid:
            _leave_worker(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_worker(status: int) -> None:
    """End a worker without going on in the program that it was forked from. What the application left is run."""
    watchdog = threading.Timer(_THREADS_S, os._exit, (status,))
    watchdog.daemon = True
    watchdog.start()
    threading._shutdown()  # type: ignore[attr-defined]  # It waits for threads, as at the end of an interpreter.
    atexit._run_exitfuncs()
    logging.shutdown()
    flush_streams()
    os._exit(status)
