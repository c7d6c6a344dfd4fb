"""Serving what settings describe: in this process, or with a parent and workers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from fastserve.asgi.types import ASGIApp
from fastserve.net.certificates import Certificates, open_certificates
from fastserve.settings import BindSettings, Settings
from fastserve.streams import open_missing_streams
from fastserve.supervisor.cpus import CpuPlan, placed, plan_workers
from fastserve.supervisor.hooks import load_hooks
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.master import Master
from fastserve.supervisor.pidfile import PidFile
from fastserve.supervisor.reload import Watcher
from fastserve.supervisor.systemd import Notifier, listen_fds
from fastserve.supervisor.upgrade import Heir, Inheritance, inherit
from fastserve.version import VERSION
from fastserve.wire.http1.parsers import describe_parser
from fastserve.worker.apploader import forget_modules, load_app, put_first_on_path
from fastserve.worker.build import build, interpreter
from fastserve.worker.loops import check_loop, loop_factory, loop_name
from fastserve.worker.owner import Person
from fastserve.worker.scoreboard import Scoreboard
from fastserve.worker.server import Place, Server
from fastserve.worker.worker import run_worker

_log = logging.getLogger("fastserve")


def serve(settings: Settings, *, before_load: Callable[[], None] = lambda: None) -> int:
    """Serve until a signal ends the server, and return its exit status.

    before_load: called in each worker that was forked, before the application is loaded.

    Raises:
        StartupError: an address cannot be listened on, or what the options name cannot be loaded or written.
        SettingsError: the event loop that is asked for is not installed, CPUs are that may not be used, or an option
            lacks another one.
    """
    folder = os.getcwd()
    notifier = Notifier(os.environ)
    inheritance = inherit(os.environ)
    fds = inheritance.listen_fds if inheritance is not None else listen_fds(os.environ)
    if fds and not settings.bind.is_named:
        bind = BindSettings(bind=tuple(f"fd://{fd}" for fd in fds), backlog=settings.bind.backlog)
        settings = replace(settings, bind=bind)
    certificates = open_certificates(settings.tls)
    with contextlib.ExitStack() as stack:
        take_pid_file = _hold_pid_file(stack, settings, inheritance)
        if inheritance is None and not settings.needs_supervisor:
            stack.enter_context(placed(settings.processes))
            return _serve_alone(settings, notifier, certificates)
        return _supervise(settings, notifier, inheritance, fds, folder, take_pid_file, before_load, certificates)


def _hold_pid_file(
    stack: contextlib.ExitStack, settings: Settings, inheritance: Inheritance | None
) -> Callable[[], None]:
    """Write the file of --pid, if there is to be one; return what to call when this is the server."""
    if settings.processes.pid is None:
        return lambda: None
    predecessor = inheritance.pid if inheritance is not None else None
    return stack.enter_context(PidFile(settings.processes.pid, predecessor=predecessor)).take_over


class _Operator(Person):
    """A person, and the service manager that is told of everything. scoreboard: of a server that has one."""

    def __init__(self, urls: list[str], notifier: Notifier, scoreboard: Scoreboard | None) -> None:
        super().__init__(urls)
        self._notifier = notifier
        self._scoreboard = scoreboard

    def worker_is_ready(self) -> None:
        super().worker_is_ready()
        self._notifier.ready()

    def tell(self, number: int, server: Server) -> None:
        if self.has_renewed(number, server):
            return
        if not server.is_stopping:
            self._notifier.stopping()
        if self._scoreboard is not None:
            self._scoreboard.is_leaving = True
        super().tell(number, server)

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        if self._notifier.watchdog_s is not None:
            self._notifier.alive()
            loop.call_later(self._notifier.watchdog_s, self.watch, loop, server)


def _serve_alone(settings: Settings, notifier: Notifier, certificates: Certificates | None) -> int:
    if settings.app.app_dir is not None:
        put_first_on_path(settings.app.app_dir)
    loop_factory(settings.processes.loop)  # So that what is wrong with it is said first.
    _announce(settings, "1 worker")
    place = only_place() if settings.status.is_wanted else None
    sockets = ListeningSockets(settings.bind, settings.processes.balance, scheme=settings.tls.scheme)
    try:
        return run_worker(
            settings,
            sockets.for_slot(0),
            _Operator(sockets.urls, notifier, place.scoreboard if place is not None else None),
            load=lambda: load_app(settings.app),
            place=place,
            certificates=certificates,
        )
    finally:
        sockets.close()


def only_place() -> Place:
    """Return the place of a worker that is alone."""
    scoreboard = Scoreboard(1)
    record = scoreboard.reserve(0, time.monotonic())
    record.claim()
    return Place(0, scoreboard, record)


def _supervise(
    settings: Settings,
    notifier: Notifier,
    inheritance: Inheritance | None,
    fds: list[int],
    folder: str,
    take_pid_file: Callable[[], None],
    before_load: Callable[[], None],
    certificates: Certificates | None,
) -> int:
    if settings.reload.reload and settings.processes.workers != 1:
        _log.warning('"workers" flag is ignored when reloading is enabled.')
        settings = replace(settings, processes=replace(settings.processes, workers=1))
    if settings.app.app_dir is not None:
        put_first_on_path(settings.app.app_dir)
    check_loop(settings.processes.loop)
    plan = plan_workers(settings.processes)
    if settings.processes.workers == 1 and settings.supervised:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in settings.supervised)
        plan = replace(plan, reason=f"and a supervisor, for {flags}")
    _announce(settings, _describe(plan))
    pid = os.getpid()
    hooks = load_hooks(settings.processes.hooks)
    inherited = inheritance.addresses if inheritance is not None else None
    watcher: Watcher | None = None
    sockets = ListeningSockets(settings.bind, settings.processes.balance, inherited, scheme=settings.tls.scheme)
    try:
        watcher = Watcher(settings.reload) if settings.reload.reload else None
        master = Master(
            settings,
            plan,
            sockets,
            load=_loader(settings, watcher, before_load),
            hooks=hooks,
            notifier=notifier,
            on_ready=take_pid_file,
            inheritance=inheritance,
            new_heir=lambda: Heir(
                sockets.describe(), sockets.fds(), listen_fds=fds, environment=notifier.environment, folder=folder
            ),
            watcher=watcher,
            certificates=certificates,
        )
        return master.run()
    finally:
        if os.getpid() == pid:  # A worker leaves this way too.
            sockets.close()
            if watcher is not None:
                watcher.close()


def _loader(settings: Settings, watcher: Watcher | None, before_load: Callable[[], None]) -> Callable[[], ASGIApp]:
    """Return what returns the application in each worker."""
    preloaded = _preload(settings) if settings.processes.preload else None

    def load() -> ASGIApp:
        before_load()
        if preloaded is not None:
            return preloaded
        if watcher is not None:
            forget_modules(watcher.directories)
        return load_app(settings.app)

    return load


def _preload(settings: Settings) -> ASGIApp:
    """Import the application now, for all workers."""
    app = load_app(settings.app)
    open_missing_streams()  # The application may have closed them, and the supervisor logs.
    gc.collect()
    gc.freeze()  # So that a collection in a worker does not write to the pages that it shares with the others.
    return app


def _announce(settings: Settings, workers: str) -> None:
    loop = loop_name(settings.processes.loop)
    parser = describe_parser(settings.http.http)
    name = settings.app.app
    _log.info("fastserve %s: %s, %s, %s, %s, %s, %s", VERSION, name, workers, loop, parser, build(), interpreter())


def _describe(plan: CpuPlan) -> str:
    return f"{plan.workers} worker{'s' if plan.workers != 1 else ''} ({plan.reason})"
