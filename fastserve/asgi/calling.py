"""Calling the application: the coroutines that the tasks of requests run.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from fastserve.asgi.application import Application
    from fastserve.asgi.exchange import Exchange


async def call(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, exchange: Exchange, calls: Application
) -> None:
    """Call an application for one request, and tell how that ended."""
    try:
        result: object = await app(scope, receive, send)
    except BaseException as error:
        # Whatever it is, SystemExit and KeyboardInterrupt too: one request must not end the worker.
        calls.failed(exchange, error)
    else:
        calls.returned(exchange, result)


async def wait_idle(calls: Application) -> None:
    """Wait until no call is running."""
    while calls.running:
        await calls.idle_event().wait()


async def too_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 in place of the application (ASGI application)."""
    body = b"Service Unavailable"
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": fields})
    await send({"type": "http.response.body", "body": body})
