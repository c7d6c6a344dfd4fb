"""The specialised handlers of routes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from types import FunctionType
from typing import Any

from starlette import routing
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.requests import Request

from fastserve.accel.layers import Failed
from fastserve.accel.watching import Watch
from fastserve.asgi.types import ASGIApp, Receive, Scope, Send

Prepare = Callable[[Scope, dict[str, Any]], None]
"""Puts into the scope what the frameworks' routing leaves there. The dict has the parameters in the path."""


class Unfit(Exception):
    """A route cannot be accelerated; the message is the reason."""


class Endpoint:
    """Answers requests for one route. Of the framework it replaces the routing and the layers around the route.

    holder: has the route's application as its attribute `app`. handles_errors: `serve` is there, which gives exceptions
    to what it is told to; else only `serve_within`.
    """

    handles_errors = False
    is_trivial = False  # It takes no arguments, and is called directly.

    def __init__(self, holder: Any, prepare: Prepare) -> None:
        self.holder = holder
        self.app: ASGIApp = holder.app
        self.prepare = prepare

    def is_current(self) -> bool:
        """Tell whether this is still what the framework would do: nothing is overridden or replaced."""
        return self.holder.app is self.app

    async def serve(self, scope: Scope, receive: Receive, send: Send, params: dict[str, Any], failed: Failed) -> None:
        """Answer a request with these parameters in its path; to be called if `handles_errors`."""
        raise NotImplementedError

    async def serve_within(self, params: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with these parameters in its path, from ExceptionMiddleware inwards."""
        self.prepare(scope, params)
        request: Request[Any] = Request(scope, receive, send)
        await wrap_app_handling_exceptions(self.run, request)(scope, receive, send)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, from what is within ExceptionMiddleware inwards."""
        await self.app(scope, receive, send)


class FileStackEndpoint(Endpoint):
    """Answers requests for one route of an application of FastAPI, which closes files after each request."""

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Endpoint."""
        async with AsyncExitStack() as files:
            scope["fastapi_middleware_astack"] = files
            await self.app(scope, receive, send)


class FunctionEndpoint(Endpoint):
    """Answers requests for a function of an application of Starlette."""

    handles_errors = True

    def __init__(self, holder: Any, prepare: Prepare) -> None:
        super().__init__(holder, prepare)
        self._respond = cells(holder.app, routing.request_response)["f"]

    async def serve(self, scope: Scope, receive: Receive, send: Send, params: dict[str, Any], failed: Failed) -> None:
        """See Endpoint."""
        self.prepare(scope, params)
        request: Request[Any] = Request(scope, receive, send)
        watch = Watch(send)
        try:
            response = await self._respond(request)
            await response(scope, receive, watch.send)
        except Exception as error:
            await failed(error, watch.is_started, request, scope, receive, send)


def cells(function: Any, maker: Any) -> dict[str, Any]:
    """Return the variables of a function that another one, of a framework, has made.

    Raises:
        Unfit: it is made by something else.
    """
    if type(function) is not FunctionType or function.__code__ not in maker.__code__.co_consts:
        raise Unfit("its handler is wrapped or replaced")
    code = function.__code__
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)}
