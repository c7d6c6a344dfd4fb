"""Calling the application: the coroutines that the tasks of requests run.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send


class Called(Protocol):
    """One request, as the application is called for it."""

    scope: Scope
    receive: Receive
    send: Send


class Calls(Protocol):
    """Who wants to know how calls end."""

    running: int

    def returned(self, called: Called, result: object) -> None:
        """Take note that a call has returned this."""

    def failed(self, called: Called, error: BaseException) -> None:
        """Take note that a call has raised this."""

    def ended(self, called: Called) -> None:
        """Take note that a call has ended, in whichever way."""

    def idle_event(self) -> asyncio.Event:
        """Return an event that is set when no call is running any more."""


async def call(app: ASGIApp, called: Called, calls: Calls) -> None:
    """Call the application for one request."""
    try:
        result = await app(called.scope, called.receive, called.send)
    except BaseException as error:
        # Whatever it is, SystemExit and KeyboardInterrupt too: one request must not end the worker.
        calls.failed(called, error)
    else:
        calls.returned(called, result)
    finally:
        calls.ended(called)


async def wait_idle(calls: Calls) -> None:
    """Wait until no call is running."""
    while calls.running:
        await calls.idle_event().wait()


async def too_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 in place of the application (ASGI application)."""
    body = b"Service Unavailable"
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": fields})
    await send({"type": "http.response.body", "body": body})
