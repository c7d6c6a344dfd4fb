"""Drive an ASGI application by hand, and keep everything about it that can be observed.

The test is the server: it makes the scope, answers receive() and takes what is sent. Nothing stands between the
application and the outcome that could hide a difference: no client library, no default fields, no merging of messages.
"""

from __future__ import annotations

import asyncio
import copy
import enum
import gc
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import anyio.from_thread
import anyio.to_thread

App = Callable[[Any, Any, Any], Any]
Accelerator = Callable[[Any], Any]

HUNG_S = 10.0
"""An application that takes longer than this for one request hangs."""

TINT: ContextVar[str] = ContextVar("tint", default="none")
"""A context variable for applications to set. Its value is part of every note."""

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b|(?<=cancel scope )[0-9a-f]+")


class End(enum.Enum):
    """What receive() says once the body messages are through."""

    WAITS = "waits until the response is complete, then disconnects"
    LEAVES = "disconnects at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the server is asked. body: one message each; is_whole: the last of them is the end of the body.

    raw_path: None for the encoded path. scope: what is different in the scope; a value of None takes the key away.
    breaks_after: send() raises OSError after so many messages, as it does when the client is gone.
    """

    label: str
    method: str = "GET"
    path: str = "/"
    raw_path: bytes | None = None
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: tuple[bytes, ...] = (b"",)
    is_whole: bool = True
    end: End = End.WAITS
    scope: Mapping[str, Any] = field(default_factory=dict)
    breaks_after: int | None = None

    def scope_for(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the scope of this request, with the lifespan's state if there is one."""
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode() if self.raw_path is None else self.raw_path,
            "query_string": self.query,
            "root_path": "",
            "headers": [(b"host", b"example.org"), *self.headers],
            "client": ("192.0.2.7", 40000),
            "server": ("192.0.2.1", 8000),
        }
        if state is not None:
            scope["state"] = dict(state)
        scope.update(copy.deepcopy(dict(self.scope)))
        return {key: value for key, value in scope.items() if value is not None}


class Trace:
    """What the code of one application did, in order. An application is built with one, and notes there."""

    def __init__(self) -> None:
        self._notes: list[object] = []
        self._loop_thread = threading.get_ident()

    def note(self, what: str, *values: object) -> None:
        """Note something, with the kind of thread it happens in and the context variable's value."""
        if threading.get_ident() == self._loop_thread:
            where = "loop"
        else:
            where = f"thread, {anyio.from_thread.run_sync(_borrowed)} borrowed"
        self._notes.append((what, where, TINT.get(), *(described(value) for value in values)))

    def take(self) -> list[object]:
        """Return what was noted since the last time."""
        taken, self._notes = self._notes, []
        return taken


def _borrowed() -> int:
    return anyio.to_thread.current_default_thread_limiter().borrowed_tokens


def described(value: object) -> object:
    """Return a value as it can be compared between two instances of one application."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return (type(value).__name__, _ADDRESS.sub("0x…", repr(value)))
    if isinstance(value, Mapping):
        return (_kind(value), [(described(key), described(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple)):
        return (_kind(value), [described(each) for each in value])
    if isinstance(value, BaseException):
        return error(value)
    name = getattr(value, "__qualname__", None) or getattr(value, "path", None)
    return (_kind(value), name if isinstance(name, str) else "")


def _kind(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def error(raised: BaseException | None, depth: int = 4) -> object:
    """Return an exception as it can be compared: its type, what it says, its notes, its cause and its context."""
    if raised is None or not depth:
        return None
    inner = raised.exceptions if isinstance(raised, BaseExceptionGroup) else ()
    return {
        "type": _kind(raised),
        "says": _ADDRESS.sub("0x…", str(raised)),
        "notes": list(getattr(raised, "__notes__", ())),
        "cause": error(raised.__cause__, depth - 1),
        "context": error(raised.__context__, depth - 1),
        "suppressed": raised.__suppress_context__,
        "inner": [error(each, depth - 1) for each in inner],
    }


@dataclass(slots=True)
class Outcome:
    """All that could be observed of one request, or of one half of the lifespan.

    events: receive() and send() calls in order, with their messages. scope: what the application left in the scope.
    left: tasks that were still there when the application had returned and the event loop had turned.
    unhandled: what was reported to the event loop's exception handler.
    """

    label: str
    events: list[object] = field(default_factory=list)
    raised: object = None
    returned: object = None
    notes: list[object] = field(default_factory=list)
    scope: object = None
    left: int = 0
    unhandled: list[object] = field(default_factory=list)


class _Client:
    """The receive() and send() of one request."""

    def __init__(self, request: Request, outcome: Outcome) -> None:
        self._request = request
        self._outcome = outcome
        self._left = list(request.body)
        self._sent = 0
        self._is_answered = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        message = await self._next()
        self._outcome.events.append(("receive", dict(message)))
        return message

    async def _next(self) -> dict[str, Any]:
        if self._left:
            body = self._left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._left) or not self._request.is_whole}
        if self._request.end is End.WAITS and self._request.is_whole:
            await self._is_answered.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if self._sent == self._request.breaks_after:
            self._outcome.events.append(("refused", message["type"]))
            raise OSError("the client is gone")
        self._sent += 1
        self._outcome.events.append(("send", frozen(message)))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_answered.set()


def frozen(message: Mapping[str, Any]) -> object:
    """Return a message as it was when it was sent. Field pairs are tuples, whatever sequence they came as."""
    return {
        key: [tuple(each) for each in value] if key == "headers" else copy.deepcopy(value)
        for key, value in message.items()
    }


async def _settled(request: Request) -> None:
    """Let what follows from the end of a request happen: generators that were left close when they are collected."""
    if request.end is End.LEAVES or request.breaks_after is not None or not request.is_whole:
        gc.collect()
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def request_outcome(app: App, request: Request, trace: Trace, state: Mapping[str, Any] | None) -> Outcome:
    """Drive the application with one request."""
    outcome = Outcome(request.label)
    client = _Client(request, outcome)
    scope = request.scope_for(state)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: outcome.unhandled.append(error(context.get("exception"))))
    others = asyncio.all_tasks()
    task = asyncio.ensure_future(app(scope, client.receive, client.send))
    await asyncio.wait([task], timeout=HUNG_S)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        outcome.events.append("hung")
    if task.cancelled():
        outcome.raised = "cancelled"
    else:
        outcome.raised = error(task.exception())
        outcome.returned = described(task.result()) if task.exception() is None else None
    await _settled(request)
    outcome.left = len(asyncio.all_tasks() - others - {task})
    outcome.notes = trace.take()
    outcome.scope = {key: described(scope[key]) for key in sorted(scope)}
    return outcome


class Lifespan:
    """The lifespan of an application, driven by hand. state: what it left in the scope's state at start-up."""

    def __init__(self, app: App, trace: Trace) -> None:
        self._trace = trace
        self.state: dict[str, Any] = {}
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._sent: asyncio.Queue[object] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))
        self._task.add_done_callback(lambda task: self._sent.put_nowait("ended"))

    async def _receive(self) -> dict[str, str]:
        return {"type": await self._asked.get()}

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._sent.put_nowait(frozen(message))

    async def outcome(self, what: str) -> Outcome:
        """Ask for start-up or shutdown, and return what happened."""
        self._asked.put_nowait(f"lifespan.{what}")
        async with asyncio.timeout(HUNG_S):
            events = [await self._sent.get()]
            if what == "shutdown" or self._task.done():
                await asyncio.wait([self._task])
        raised = self._task.exception() if self._task.done() else None
        scope = described(self.state)
        return Outcome(what, events, error(raised), notes=self._trace.take(), scope=scope)


@asynccontextmanager
async def _lived(
    app: App, trace: Trace, outcomes: list[Outcome], *, wanted: bool
) -> AsyncIterator[dict[str, Any] | None]:
    if not wanted:
        yield None
        return
    lifespan = Lifespan(app, trace)
    outcomes.append(await lifespan.outcome("startup"))
    yield lifespan.state
    outcomes.append(await lifespan.outcome("shutdown"))


async def drive(app: App, requests: Iterable[Request], trace: Trace, *, lifespan: bool = True) -> list[Outcome]:
    """Drive an application with requests, one after the other, within its lifespan or without one."""
    outcomes: list[Outcome] = []
    async with _lived(app, trace, outcomes, wanted=lifespan) as state:
        outcomes += [await request_outcome(app, request, trace, state) for request in requests]
    return outcomes


Build = Callable[[Trace], Any]
"""Builds a new instance of an application, which notes what it does in the trace."""


def outcomes(
    build: Build, accelerator: Accelerator, requests: Iterable[Request], *, lifespan: bool = True
) -> list[Outcome]:
    """Build an application, accelerate it, and drive it in an event loop of its own."""

    async def run() -> list[Outcome]:
        trace = Trace()
        return await drive(accelerator(build(trace)), requests, trace, lifespan=lifespan)

    gc.collect()
    gc.freeze()  # so that the collections between requests look at nothing older
    try:
        return asyncio.run(run())
    finally:
        gc.unfreeze()
