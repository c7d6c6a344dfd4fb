"""The frameworks' own middleware around a handler, and what it does about exceptions.

A specialised handler stands in for several layers: ServerErrorMiddleware, the user's middleware (which is called as
usual), ExceptionMiddleware, FastAPI's exit stacks and the route's own layer. As long as nothing is raised they do
nothing that could be seen, so they are left out. An exception is given to the frameworks' own functions, in the order
in which it would have reached them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request

from fastserve.accel.cors import Cors
from fastserve.accel.cors_watching import CorsWatch
from fastserve.accel.watching import Watch
from fastserve.asgi.types import Message, Receive, Scope, Send

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application for one request that is already routed."""
Failed = Callable[[Exception, bool, Request[Any], Scope, Receive, Send], Awaitable[None]]
"""What is to be done with an exception of a route, of which nothing was handled yet. The flag tells whether the
response has been started; the request is the one that exception handlers get."""

_STARTED = {"type": "http.response.start"}


class FusedExceptions(ExceptionMiddleware):
    """ExceptionMiddleware, which answers requests for accelerated routes on the spot.

    It takes the place of the one that the framework has made, and has all of its attributes. answer: returns what
    answers a request, or None; it is None itself while there is no plan.
    """

    answer: Callable[[Scope, Receive, Send], Awaitable[None] | None] | None = None

    def take_over(self, answer: Callable[[Scope, Receive, Send], Awaitable[None] | None] | None) -> None:
        """Answer requests by this from now on; None makes this the framework's own layer again."""
        layer: Any = self
        layer.answer = answer
        layer.__class__ = FusedExceptions if answer is not None else ExceptionMiddleware

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI application)."""
        if self.answer is not None and scope["type"] == "http":
            answer = self.answer(scope, receive, send)
            if answer is not None:
                await answer
                return
        await super().__call__(scope, receive, send)


class Stack:
    """The middleware of an application, as far as it is known.

    exceptions: the innermost layer, or None when the stack hides it. server_errors: the outermost one when all of the
    framework's layers there are the original ones, else None. first: what is called by these; it is `exceptions` when
    the user has no middleware. cors: stands in for `first` when that is a CORSMiddleware and all that the user has.
    """

    __slots__ = ("cors", "exceptions", "first", "outermost", "server_errors")

    def __init__(self, outermost: Any, exceptions: FusedExceptions | None, frameworks_layers: tuple[type, ...]) -> None:
        self.outermost = outermost
        self.exceptions = exceptions
        self.server_errors: ServerErrorMiddleware | None = None
        self.first: Any = outermost
        self.cors: Cors | None = None
        if type(outermost) is ServerErrorMiddleware:
            layer: Any = outermost.app
            for expected in frameworks_layers:
                kind: Any = type(layer)
                if kind is not expected:
                    return
                layer = layer.app
            self.server_errors, self.first = outermost, layer
            self.cors = Cors.of(layer, exceptions)

    def is_bare(self) -> bool:
        """Tell whether there is nothing between the outermost and the innermost layers."""
        return self.server_errors is not None and self.first is self.exceptions

    async def guard(self, app: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """Call an application, with what ServerErrorMiddleware does around it."""
        watch = Watch(send)
        try:
            await app(scope, receive, watch.send)
        except Exception as error:
            await self._give_up(_raising(error, watch.is_started), scope, receive, _passing(send))

    async def serve_with_cors(
        self, endpoint: Any, params: dict[str, Any] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have an endpoint answer a request as within CORSMiddleware (params: see Endpoint.serve)."""
        assert self.cors is not None
        watch = CorsWatch(self.cors, scope, send)
        try:
            if endpoint.handles_errors:
                await endpoint.serve(scope, receive, watch.send, params, self.failed_inside)
            else:
                await endpoint.serve_within(params, scope, receive, watch.send)
        except Exception as error:
            await self._give_up(_raising(error, watch.is_started), scope, receive, _passing(send))

    async def failed_inside(
        self, error: Exception, is_started: bool, request: Request[Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Do what the route's own layer and ExceptionMiddleware would (see Failed)."""
        app = _handling(error, is_started, request, scope, receive, send)
        del error  # See _raising.
        await app(scope, receive, _passing(send))

    async def failed(
        self, error: Exception, is_started: bool, request: Request[Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Do what all layers would, without any of the user's (see Failed)."""
        app = _handling(error, is_started, request, scope, receive, send)
        del error  # See _raising.
        await self._give_up(app, scope, receive, _passing(send))

    async def _give_up(self, app: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        server_errors = copy.copy(self.server_errors)
        assert server_errors is not None
        server_errors.app = app
        await server_errors(scope, receive, send)


def fuse(app: Any) -> FusedExceptions | None:
    """Give an application its middleware, and return the innermost layer, which is one of ours; None if it is hidden.

    To be called when it would make its middleware itself. What it has already made is used as it is.
    """
    if app.middleware_stack is not None:
        return _take_place(_innermost(app.middleware_stack))
    found: list[Any] = []

    def note(layer: Any) -> Any:
        """Return a layer as it is: something that Starlette takes for a middleware, the innermost one of the user."""
        found.append(layer)
        return layer

    users = app.user_middleware
    app.user_middleware = [*users, Middleware(note)]
    try:
        app.middleware_stack = app.build_middleware_stack()
    finally:
        app.user_middleware = users
    return _take_place(found[-1]) if found else None


def _take_place(layer: Any) -> FusedExceptions | None:
    """Make a layer one of ours if it is the framework's original, and return it."""
    if type(layer) is ExceptionMiddleware:
        layer.__class__ = FusedExceptions
    return layer if type(layer) is FusedExceptions else None


def _innermost(layer: Any) -> Any:
    """Return the ExceptionMiddleware that is somewhere in a stack, or None when it is hidden."""
    seen: set[int] = set()
    while layer is not None and id(layer) not in seen:
        if isinstance(layer, ExceptionMiddleware):
            return layer
        seen.add(id(layer))
        layer = inspect.getattr_static(layer, "app", None) and getattr(layer, "app", None)
    return None


def _handling(
    error: Exception, is_started: bool, request: Request[Any], scope: Scope, receive: Receive, send: Send
) -> Handler:
    """Return an application that raises an exception, within the two layers that may handle it."""
    within_route = wrap_app_handling_exceptions(_raising(error, is_started), request)
    outer: Request[Any] = Request(scope, receive, send)
    return wrap_app_handling_exceptions(within_route, outer)


def _raising(error: Exception, is_started: bool) -> Handler:
    """Return an application that lets the layers around it see that the response is started, and raises, once.

    A traceback has frames, and with them all that endpoints hold. A frame that has the exception would keep all of it
    until the next garbage collection: Starlette takes tracebacks away only from 1.10 on, and only of what is handled.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal error
        if is_started:
            await send(_STARTED)
        try:
            raise error
        finally:
            del error

    return app


def _passing(send: Send) -> Send:
    """Return a `send` that keeps the message of `_raising` to itself."""

    async def outward(message: Message) -> None:
        if message is not _STARTED:
            await send(message)

    return outward
