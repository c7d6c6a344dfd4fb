"""Calling the application: the coroutines that the tasks of requests run.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from fastserve.asgi.application import Application

Called_contra = TypeVar("Called_contra", contravariant=True)
"""What the application is called for: an exchange, or a session."""


class Calls(Protocol[Called_contra]):
    """Who wants to know how a call has ended."""

    def returned(self, called: Called_contra, result: object, /) -> None:
        """Take note that it has returned this."""

    def failed(self, called: Called_contra, error: BaseException, /) -> None:
        """Take note that it has raised this."""


async def call(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, called: Called_contra, calls: Calls[Called_contra]
) -> None:
    """Call an application, and tell how that ended."""
    try:
        result: object = await app(scope, receive, send)
    except BaseException as error:
        # Whatever it is, SystemExit and KeyboardInterrupt too: one request must not end the worker.
        calls.failed(called, error)
    else:
        calls.returned(called, result)


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
