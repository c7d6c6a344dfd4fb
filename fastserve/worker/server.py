"""The server of one worker: from the start of the application to its end, in a running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve.accel import accelerate, entrance, read_routes
from fastserve.addresses import AllowList, describe_client, socket_authority
from fastserve.asgi.accesslog import log_closed, log_opened, open_access_log
from fastserve.asgi.answered import Answered
from fastserve.asgi.application import Application
from fastserve.asgi.calling import too_busy
from fastserve.asgi.forwarded import ForwardedFields
from fastserve.asgi.metrics import Metrics
from fastserve.asgi.scope import ScopeBuilder
from fastserve.asgi.sessions import Sessions
from fastserve.asgi.tracing import tracer
from fastserve.asgi.types import ASGIApp
from fastserve.errors import BindError, ProtocolViolation
from fastserve.logs import adopt_uvicorn_loggers
from fastserve.net.ageing import Ages
from fastserve.net.certificates import Certificates, open_certificates
from fastserve.net.crowd import Crowd
from fastserve.net.deadlines import TICK_S, Clock, Deadlines
from fastserve.net.listener import Listener
from fastserve.net.stream import Address
from fastserve.net.transports import transports_for
from fastserve.settings import ProxySettings, Settings
from fastserve.wire.http1.parsers import fields_parser, head_reader
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults
from fastserve.worker.connectionlog import state_class
from fastserve.worker.lifespan import Lifespan
from fastserve.worker.offers import http_spec_version, passes_paths
from fastserve.worker.scoreboard import Record, Report, Scoreboard, WorkerState
from fastserve.worker.status import ForwardedFieldsWithPeer, StatusPaths

_log = logging.getLogger("fastserve")

# Of the time for a graceful stop, what requests leave to the lifespan of the application. It has all that is left.
_LIFESPAN_SHARE = 0.2
_LIFESPAN_LEAST_S = 0.5
_LIFESPAN_MOST_S = 5.0
# A quick stop: how long running requests may take.
_QUICK_S = 1.0
# When the worker is replaced: how long connections without a request may stay for a last one.
_LAST_REQUEST_S = 5.0
# In any case: what clients have sent may be on its way.
_LAST_LOOK_S = 0.25
# How often is looked whether the certificates have changed.
_CERTIFICATES_S = 2
# How long connections may take to be gone after they were cut.
_CUT_S = 0.25
# How long calls may take to end after they were cancelled.
_CANCEL_S = 0.5


class Stopping(enum.IntEnum):
    """How the server is ending."""

    NOT = 0
    LEAVING = 1  # it still serves
    GRACEFUL = 2
    QUICK = 3
    FORCED = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is among others.

    slot: its number. scoreboard: of all workers. record: its own, there.
    """

    slot: int
    scoreboard: Scoreboard
    record: Record


class Server:
    """Serves an application on listening sockets, in the running event loop.

    on_ready: called once, as soon as connections are accepted. on_worn: called once, with the reason, when the worker
    should be replaced. observers: called with each request that is answered, or never will be. certificates: those of
    the options, when they have been read already.

    Raises:
        CertificateError: they cannot be used.
        AccelerationError: what has to be accelerated cannot be.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        sockets: Sequence[socket.socket],
        place: Place | None,
        *,
        on_ready: Callable[[], None],
        on_worn: Callable[[str], None],
        observers: Sequence[Callable[[Answered], None]] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._place = place
        self._on_ready = on_ready
        self._on_worn = on_worn
        self._loop = loop = asyncio.get_running_loop()
        self._started_at = time.monotonic()
        self._metrics = Metrics()
        self._requests_left = settings.recycling.draw_max_requests() or 0
        adopt_uvicorn_loggers()  # The application has been imported.
        self._access_log = open_access_log(settings.logs, loop)
        self._app = app
        app = accelerate(app, mode=settings.app.accelerate)
        if settings.app.lifespan == "off":
            read_routes(app)
        trace = tracer()
        self.lifespan = self._lifespan = Lifespan(trace(app), settings.app.lifespan)
        forwarded = self._forwarded_fields()
        spec_version = http_spec_version(settings.app.http_spec_version)
        self._scopes = ScopeBuilder(settings.app.root_path, forwarded, spec_version)
        self._application = Application(
            self._with_status(trace(entrance(app))),
            self._scopes,
            loop=loop,
            concurrency=settings.connections.concurrency,
            cancel_after_s=settings.timeouts.cancel_s,
            raises_disconnect=spec_version != "2.3",
            busy=self._with_status(too_busy),
            observers=[*self._observers(), *observers],
        )
        if settings.websockets.ws != "none":
            self._application.open_session = self._sessions(trace(app)).open
        self._defaults = ResponseDefaults(
            server=b"fastserve" if settings.http.server_header else None,
            date=settings.http.date_header,
            fields=settings.http.fields,
        )
        self._refreshed_at = 0
        self._clock = Clock(loop.time())
        parser = fields_parser(settings.http.http)
        reader = head_reader(settings.http.http, settings.requests)
        self._state = state_class()(
            loop=loop,
            timeouts=settings.timeouts,
            limits=settings.connections,
            deadlines=Deadlines(loop.time()),
            new_wire=lambda: Http1(parser, settings.requests, self._defaults, reader),
            open_exchange=self._application.open_exchange,
            log_refusal=_log_refusal,
            observe_refusal=self._application.observe_refusal,
            keeps_connections=settings.timeouts.keep_alive_s > 0,
        )
        self._certificates = certificates or open_certificates(settings.tls)
        self._transports = transports_for(
            self._state, _introducers(settings.proxies), self._certificates, settings.tls.handshake_s
        )
        age_s = settings.connections.age_s
        self._ages = Ages(age_s) if age_s is not None else None
        self._crowd = Crowd(self._state, self._tell_full)
        self._listeners = [Listener(sock, self._state, self._transports, self._crowd) for sock in sockets]
        self._stopping = Stopping.NOT
        self._is_replaced = False  # it stops, and the server does not
        self._has_left = False
        self._stop_changed = asyncio.Event()
        self._forced = asyncio.Event()
        self._requests_end_at = float("inf")  # when running requests are cancelled
        self._lifespan_ends_at = float("inf")

    # What happens with each request.

    def _with_status(self, app: ASGIApp) -> ASGIApp:
        status = self._settings.status
        if self._place is None or not status.is_wanted:
            return app
        return StatusPaths(app, status, is_leaving=self._is_leaving, reports=self._place.scoreboard.reports)

    def _forwarded_fields(self) -> ForwardedFields | None:
        if not self._settings.proxies.headers:
            return None
        has_status = self._place is not None and self._settings.status.is_wanted
        return (ForwardedFieldsWithPeer if has_status else ForwardedFields)(self._settings.proxies)

    def _is_leaving(self) -> bool:
        """Tell whether it is the whole server that stops, or is about to."""
        return self._place is None or self._place.scoreboard.is_leaving

    def _observers(self) -> list[Callable[[Answered], None]]:
        return [*([] if self._access_log is None else [self._access_log.observe]), *self._counters()]

    def _counters(self) -> list[Callable[[Answered], None]]:
        observers: list[Callable[[Answered], None]] = []
        if self._place is not None:
            observers.append(self._metrics.count)
        if self._requests_left:
            observers.append(self._count_down)
        return observers

    def _sessions(self, app: ASGIApp) -> Sessions:
        log = self._access_log
        return Sessions(
            app,
            self._application,
            self._scopes,
            self._settings.websockets,
            self._settings.connections,
            loop=self._loop,
            on_answered=[*([] if log is None else [log.observe_handshake, log_opened]), *self._counters()],
            on_ended=[] if log is None else [log.observe_end, log_closed],
        )

    def _count_down(self, exchange: Answered) -> None:
        if exchange.is_refused:
            return  # It did not wear the application.
        self._requests_left -= 1
        if not self._requests_left:
            self._on_worn(f"it has served {self._settings.recycling.max_requests} requests or more")

    # What is going on.

    @property
    def answered(self) -> int:
        """How many requests have been answered, if this has a place where they are counted."""
        return self._metrics.requests

    @property
    def connections(self) -> Collection[object]:
        """The connections that are open."""
        return self._state.connections

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The calls of the application that wait for something."""
        return self._application.tasks

    # Stopping. All of this may be called from a signal handler, also while the event loop is blocked.

    @property
    def is_stopping(self) -> bool:
        """Whether the server has been told to stop."""
        return self._stopping is not Stopping.NOT

    @property
    def is_forced(self) -> bool:
        """Whether the server has been told to end at once."""
        return self._stopping is Stopping.FORCED

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call something in the event loop, as soon as that is running."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    def reload_certificates(self) -> bool:
        """Read the certificates again, and tell whether there are any."""
        if self._certificates is not None:
            self.call_soon(self._certificates.reload)
        return self._certificates is not None

    def stop(self) -> None:
        """End after the time to leave, and after what is running is finished.

        When called again, without the time to leave, and then at once.
        """
        if self._stopping >= Stopping.GRACEFUL:
            self._advance(Stopping.FORCED)
            return
        self._is_replaced = not self._is_leaving()
        if self._stopping is Stopping.NOT and self._settings.timeouts.drain_delay_s:
            self._advance(Stopping.LEAVING)
        else:
            self._advance(Stopping.GRACEFUL)

    def stop_quickly(self) -> None:
        """Give running requests a moment, and end. When called again, or after `stop`: end at once.

        That this worker is being replaced does not count: that was not the end of the server.
        """
        self._hurry(Stopping.QUICK)

    def interrupt(self) -> None:
        """End without the time to leave: as quickly as by `stop_quickly`, unless the user has set a time.

        When called again, or after `stop`: end at once.
        """
        self._hurry(Stopping.QUICK if self._settings.timeouts.graceful_s is None else Stopping.GRACEFUL)

    def _hurry(self, stopping: Stopping) -> None:
        is_first = self._stopping < Stopping.GRACEFUL or (self._stopping is Stopping.GRACEFUL and self._is_replaced)
        self._advance(stopping if is_first else Stopping.FORCED)

    def give_up_start(self) -> None:
        """End with what the application waits for, if it has not started. To be called in the event loop."""
        self._lifespan.give_up(f"it has not started within {self._settings.timeouts.boot_s:g} seconds")

    def end_at_once(self) -> None:
        """End without waiting for anything."""
        self._advance(Stopping.FORCED)

    def _advance(self, stopping: Stopping) -> None:
        self._stopping = stopping
        now = self._loop.time()
        if stopping is Stopping.GRACEFUL:
            self._lifespan_ends_at = now + self._settings.timeouts.stop_s
            self._requests_end_at = self._lifespan_ends_at - self._lifespan_s()
        elif stopping is Stopping.QUICK:
            # No later than a graceful stop that has begun: the supervisor counts from then.
            self._lifespan_ends_at = min(self._lifespan_ends_at, now + self._settings.timeouts.stop_s)
            self._requests_end_at = min(now + _QUICK_S, self._lifespan_ends_at - self._lifespan_s())
        self.call_soon(self._tell_stopping)

    def _tell_stopping(self) -> None:
        if self.is_forced:
            self._forced.set()
        self._stop_changed.set()

    def _lifespan_s(self) -> float:
        """Return how long before the end of a graceful stop requests have to end, for the lifespan."""
        if self._lifespan.state is None:
            return 0.0
        return min(self._settings.timeouts.stop_s * _LIFESPAN_SHARE, _LIFESPAN_MOST_S)

    # The life of the server.

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            LifespanError: the application failed to start.
            BindError: another server listens on the same address.
        """
        try:
            await self._run()
        finally:
            self._transports.close()
            if self._access_log is not None:
                self._access_log.flush()

    async def _run(self) -> None:
        started = await _first(self._lifespan.start(), self._stop_changed)
        if not started:
            self._lifespan.cancel()
            return
        self._scopes.state = self._lifespan.state
        pathsend = self._settings.app.pathsend
        self._scopes.offer_paths(passes_paths(self._app) if pathsend == "auto" else pathsend == "on")
        adopt_uvicorn_loggers()
        if self._access_log is not None:
            self._access_log.look_again()
        try:
            self._open()
        except BindError:
            await self._end_lifespan()
            raise
        await self._leave()
        _log.info("Shutting down")
        drained = await _first(self._finish_requests(), self._forced)
        ended = drained and await _first(self._end_lifespan(), self._forced)
        running = self._application.running
        await self._cut_connections()  # First: what is cancelled has nobody left to answer.
        self._application.cancel_all()
        if not ended:
            self._lifespan.cancel()
            if running:
                _log.warning("Stopped at once: %s cut off.", _count(running, "request is", "requests are"))

    def _open(self) -> None:
        self._tick()
        for sock, listener in zip(self._sockets, self._listeners, strict=True):
            try:
                sock.listen(self._settings.bind.backlog)
            except OSError as error:
                raise BindError(f"cannot listen on {socket_authority(sock.getsockname())}: {error.strerror}") from None
            listener.start()
        self._on_ready()

    def _tick(self) -> None:
        self._loop.call_later(TICK_S, self._tick)  # First, so that nothing can stop the clock.
        self._state.deadlines.tick(self._clock.read(self._loop.time()))
        self._crowd.tick()
        if self._ages is not None:
            self._ages.tick(self._loop.time(), self._state.connections)
        now = int(time.time())
        if now != self._refreshed_at:
            self._refreshed_at = now
            self._defaults.refresh(now)
            self._application.refresh()
            if self._certificates is not None and now % _CERTIFICATES_S == 0:
                self._certificates.reload_if_changed()
        if self._place is not None:
            self._place.record.write(self._report(self._place.slot))
            if self._place.scoreboard.is_leaving and not self._has_left:
                self._hear_of_leaving()

    def _hear_of_leaving(self) -> None:
        """Take note that the whole server is about to stop."""
        self._has_left = True
        self._state.keeps_connections = False
        if self._stopping >= Stopping.GRACEFUL:
            self._drain_connections()

    def _tell_full(self, is_full: bool) -> None:
        if self._place is not None:
            self._place.record.is_full = is_full

    def _report(self, slot: int) -> Report:
        return Report(
            pid=os.getpid(),
            slot=slot,
            state=WorkerState.READY if self._stopping < Stopping.GRACEFUL else WorkerState.DRAINING,
            started_us=int(self._started_at * 1e6),
            beat_us=int(time.monotonic() * 1e6),
            connections=len(self._state.connections),
            is_full=self._state.is_crowded or not self._state.has_space(),
            running=self._application.running,
            requests=self._metrics.requests,
            sent_bytes=self._metrics.sent_bytes,
            status=self._metrics.status,
            latency=self._metrics.latency,
        )

    async def _leave(self) -> None:
        """Serve until told to stop, and then for the time to leave."""
        await self._stop_changed.wait()
        if self._stopping is Stopping.LEAVING:
            delay_s = self._settings.timeouts.drain_delay_s
            _log.info("Shutting down in %g seconds", delay_s)
            self._state.keeps_connections = False
            self._stop_changed.clear()
            try:
                async with asyncio.timeout(delay_s):
                    await self._stop_changed.wait()
            except TimeoutError:
                if self._stopping is Stopping.LEAVING:
                    self._advance(Stopping.GRACEFUL)

    async def _finish_requests(self) -> None:
        """Let what is running finish, as long as there is time, and cancel the rest."""
        for listener in self._listeners:
            await listener.stop()
        self._drain_connections()
        if not await self._is_done_by(self._drain(), lambda: self._requests_end_at):
            await self._cancel_requests()

    async def _is_done_by(self, work: Coroutine[Any, Any, None], ends_at: Callable[[], float]) -> bool:
        """Do the work, and tell whether it was done by a time, which a quick stop brings nearer; if not, cancel it."""
        doing = asyncio.ensure_future(work)
        changed: asyncio.Future[Any] | None = None
        try:
            while not doing.done() and (left_s := ends_at() - self._loop.time()) > 0:
                self._stop_changed.clear()
                changed = asyncio.ensure_future(self._stop_changed.wait())
                await asyncio.wait((doing, changed), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            if doing.done():
                await doing
                return True
            return False
        finally:
            doing.cancel()
            if changed is not None:
                changed.cancel()

    def _drain_connections(self) -> None:
        """Have all connections end with the exchange that they carry, or a last one."""
        self._state.keeps_connections = False
        goes_on = self._stopping is Stopping.GRACEFUL and not self._is_leaving()
        # The server goes on when a worker is replaced, so its clients have no reason to expect that a connection is
        # closed: the next request may be on its way. It is answered, and then the connection is closed.
        most_s = min(_LAST_REQUEST_S, self._settings.timeouts.stop_s / 2) if goes_on else 0.0
        self._state.idle_s = max(most_s, _LAST_LOOK_S)
        self._state.is_draining = True
        for connection in list(self._state.connections):
            connection.drain(cuts_heads=not goes_on)

    async def _drain(self) -> None:
        if self._state.connections:
            _log.info("Waiting for connections to close. (CTRL+C to force quit)")
            await self._state.wait_no_connections()
        if self._application.running:
            _log.info("Waiting for background tasks to complete. (CTRL+C to force quit)")
            await self._application.wait_idle()

    async def _cancel_requests(self) -> None:
        running = self._application.running
        if running:
            what = _count(running, "request: it", "requests: they")
            _log.error("Cancelling %s did not finish within the time for a shutdown.", what)
        self._application.cancel_all()
        try:
            async with asyncio.timeout(_CANCEL_S):
                await self._application.wait_idle()
        except TimeoutError:
            pass  # An application that holds on to its cancellation is left behind.

    async def _end_lifespan(self) -> None:
        began_at = self._loop.time()
        least_at = began_at + _LIFESPAN_LEAST_S
        if self._stopping is Stopping.NOT:  # It has hardly started.
            self._lifespan_ends_at = began_at + self._settings.timeouts.stop_s
        if not await self._is_done_by(self._lifespan.stop(), lambda: max(self._lifespan_ends_at, least_at)):
            _log.error("The application did not shut down within %.1f seconds.", self._loop.time() - began_at)
            self._lifespan.cancel()

    async def _cut_connections(self) -> None:
        for connection in list(self._state.connections):
            connection.cut()
        if self._state.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CUT_S):
                    await self._state.wait_no_connections()


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


async def _first(work: Coroutine[Any, Any, None], event: asyncio.Event) -> bool:
    """Do the work, and tell whether it was done before the event was set; if not, it is cancelled."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
        return False
    doing.result()
    return True


def _introducers(settings: ProxySettings) -> AllowList | None:
    """Return the proxies that send a PROXY header, None when nobody does."""
    return AllowList(settings.protocol_trusted, "--proxy-allow-ips") if settings.protocol == "on" else None


def _log_refusal(client: Address | None, violation: ProtocolViolation, is_answered: bool) -> None:
    what = "closed after its response" if is_answered else f"refused with {violation.status}"
    _log.warning("%s - %s: %s", describe_client(client), what, violation.reason)
