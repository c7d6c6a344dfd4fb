"""Calling the application: a task for each request, and what happens when the application fails."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from fastserve.asgi.answered import Answered
from fastserve.asgi.calling import call, too_busy, wait_idle
from fastserve.asgi.exchange import Caller, Exchange
from fastserve.asgi.scope import ScopeBuilder
from fastserve.asgi.types import ASGIApp
from fastserve.errors import ClientDisconnected, causes
from fastserve.net.stream import Answering, Stream
from fastserve.wire.events import RequestHead
from fastserve.wire.ws.handshake import PROTOCOL as WEBSOCKET

_log = logging.getLogger("fastserve")

# Names of this module are found faster than imported ones, where both are compiled.
_Task = asyncio.Task
_call = call
# A task that starts eagerly runs up to its first real wait at once; most requests are answered by then.
_CAN_START_EAGERLY = sys.version_info >= (3, 12)


class Application(Caller):
    """The application, as one worker calls it.

    Every call gets a copy of the context in which this is made: what one request sets is not seen by the next, even on
    the same connection. At most `concurrency` calls run at a time; `busy` is called for further requests.

    observers: called with each request that is answered, or never will be. running: how many calls have not returned.
    websockets: how many of them are for WebSockets, which `concurrency` does not count. open_session: makes what
    answers a request that opens a WebSocket; None where such a request is one like any other.
    """

    __slots__ = (
        "_app",
        "_became_idle",
        "_busy",
        "_calls",
        "_cancel_after_s",
        "_cancelled",
        "_concurrency",
        "_context",
        "_loop",
        "_observers",
        "_scopes",
        "_starts_eagerly",
        "_task_options",
        "_tasks",
        "open_session",
        "running",
        "websockets",
    )

    def __init__(
        self,
        app: ASGIApp,
        scopes: ScopeBuilder,
        *,
        loop: asyncio.AbstractEventLoop,
        concurrency: int | None,
        observers: Sequence[Callable[[Exchange], None]],
        busy: ASGIApp = too_busy,
        cancel_after_s: float | None = None,
        raises_disconnect: bool = True,
    ) -> None:
        self.raises_disconnect = raises_disconnect
        self._app = app
        self._busy = busy
        self._scopes = scopes
        self._loop = loop
        self._concurrency = concurrency or sys.maxsize
        self._observers = list(observers)
        self._context = contextvars.copy_context()
        self._task_options: dict[str, Any] = {"loop": loop, "eager_start": True}
        self._tasks: set[asyncio.Task[Any]] = set()  # those that have not ended at once
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._cancel_after_s = cancel_after_s
        self._calls: dict[Exchange, asyncio.Task[Any]] = {}  # their tasks, when they may have to be cancelled
        self.running = 0
        self._became_idle: asyncio.Event | None = None  # for those who wait for it
        self.websockets = 0
        self.open_session: Callable[[RequestHead, Stream], Answering] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look whether the application has replaced the factory of tasks. The loop's tick calls this."""
        self._starts_eagerly = _CAN_START_EAGERLY and self._loop.get_task_factory() is None

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The calls that have not returned at once."""
        return set(self._tasks)

    def open_exchange(self, head: RequestHead, stream: Stream) -> Answering:
        """Return the exchange for a request, or the session for one that opens a WebSocket.

        Raises:
            ProtocolViolation: there can be no such session.
        """
        if head.protocol is not None and head.protocol == WEBSOCKET and self.open_session is not None:
            return self.open_session(head, stream)
        return self._new_exchange(head, stream)

    def _new_exchange(self, head: RequestHead, stream: Stream) -> Exchange:
        exchange = Exchange.__new__(Exchange)
        exchange.begin(head, self._scopes.build(head, stream), stream, self)
        return exchange

    def observe_refusal(self, head: RequestHead, stream: Stream, status: int, size: int) -> None:
        """Tell the observers of a request that the server answers itself, before there is an exchange for it."""
        exchange = self._new_exchange(head, stream)
        exchange.is_refused = True
        exchange.cut_short(status, size)
        self.response_sent(exchange)

    def call(self, exchange: Exchange) -> None:
        """Call the application for this exchange, in a task of its own."""
        app = self._app if self.running - self.websockets < self._concurrency else self._busy
        task = self.start(_call(app, exchange.scope, exchange.receive, exchange.send, exchange, self))
        if self._cancel_after_s is not None and not task.done():
            self._calls[exchange] = task

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
        """Run a call in a task of its own, which is returned. At its end it has to tell `ended`."""
        self.running += 1
        context = self._context.copy()
        if self._starts_eagerly:
            self._task_options["context"] = context
            task = _Task(coroutine, **self._task_options)
        else:
            task = self._loop.create_task(coroutine, context=context)
        if not task.done():
            self._tasks.add(task)
        return task

    def peer_left(self, exchange: Exchange) -> None:
        """Have a call cancelled, if it is to be, unless it answers in time (see exchange.Caller)."""
        if self._cancel_after_s is not None:
            self._loop.call_later(self._cancel_after_s, self._cancel_left, exchange)

    def _cancel_left(self, exchange: Exchange) -> None:
        task = self._calls.pop(exchange, None)
        if task is not None and not exchange.is_done():
            self._cancelled.add(task)
            task.cancel()

    def response_sent(self, exchange: Exchange) -> None:
        """Tell the observers (see exchange.Caller)."""
        if self._observers:
            tell(self._observers, exchange)

    def returned(self, exchange: Exchange, result: object) -> None:
        """Take note that a call has returned this."""
        if result is not None:
            _log.error("ASGI callable should return None, but returned %r.", result)
        try:
            if not exchange.is_done():
                self._end_unanswered(exchange)
        finally:
            self._ended(exchange)

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """Take note that a call has raised this."""
        if isinstance(error, GeneratorExit) and asyncio.current_task(self._loop) is None:
            return  # It did not end, but was destroyed together with the event loop.
        try:
            self.report(error, exchange)
            exchange.fail()
        finally:
            self._ended(exchange)

    def report(self, error: BaseException, answered: Answered) -> None:
        """Log what a call has raised, unless that follows from the client's going away, or from what we did to it."""
        if isinstance(error, BaseExceptionGroup):
            error = error.split(ClientDisconnected)[1] or ClientDisconnected()
        if isinstance(error, ClientDisconnected):
            return  # Raised by us, and let through as the specification allows.
        if _follows_from_disconnect(error):
            _log.debug("The client disconnected", exc_info=error)
            return
        if answered.is_cut:
            _log.debug("The server had ended the request", exc_info=error)
            return
        if self.is_cancelled():
            return  # Whatever it raises now, it is our doing.
        _log.error("Exception in ASGI application", exc_info=error)

    def is_cancelled(self) -> bool:
        """Tell whether it is we who have cancelled the call that is running now."""
        return bool(self._cancelled) and asyncio.current_task(self._loop) in self._cancelled

    def _end_unanswered(self, exchange: Exchange) -> None:
        if exchange.peer_is_gone:
            exchange.abandon()
            return
        if not self.is_cancelled():
            what = "completing" if exchange.status else "starting"
            _log.error("ASGI callable returned without %s response.", what)
        exchange.fail()

    def _ended(self, exchange: Exchange) -> None:
        self.ended()
        if self._calls:
            self._calls.pop(exchange, None)
        if not exchange.is_done():
            self.response_sent(exchange)

    def ended(self) -> None:
        """Take note that the call of the current task is over."""
        self.running -= 1
        if self._tasks:
            task = cast("asyncio.Task[Any]", asyncio.current_task(self._loop))
            self._tasks.discard(task)
            self._cancelled.discard(task)
        if not self.running and self._became_idle is not None:
            self._became_idle.set()

    def wait_idle(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that waits until no call is running."""
        return wait_idle(self)

    def idle_event(self) -> asyncio.Event:
        """Return an event that is set when no call is running any more."""
        if self._became_idle is None:
            self._became_idle = asyncio.Event()
        self._became_idle.clear()
        return self._became_idle

    def cancel_all(self) -> None:
        """Cancel the calls that are running."""
        self._cancelled |= self._tasks
        for task in self._tasks:
            task.cancel()


def tell(observers: list[Callable[[Any], None]], answered: Answered) -> None:
    """Call observers with a request that is over. What they raise is logged: it is no failure of the application."""
    for observe in observers:
        try:
            observe(answered)
        except Exception:
            _log.exception("A request could not be logged or counted")


def _follows_from_disconnect(error: BaseException) -> bool:
    """Tell whether this was raised because of our error: frameworks make one of their own of it, as Starlette does."""
    return any(isinstance(cause, ClientDisconnected) for cause in causes(error))
