"""The specialised handlers of routes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from types import FunctionType
from typing import Any

from starlette import routing
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.requests import Request

from fastserve.accel.dispatching import Marks, Routed
from fastserve.accel.layers import Failed
from fastserve.accel.watching import Watch
from fastserve.asgi.types import ASGIApp, Receive, Scope, Send


class Unfit(Exception):
    """A route cannot be accelerated; the message is the reason."""


class Endpoint(Routed):
    """Answers requests for one route. Of the framework it replaces the routing and the layers around the route.

    handles_errors: `serve` is there, which gives exceptions to what it is told to; else only `serve_within`. It has
    to put the marks into the scope if that is not done yet.
    is_trivial: it takes no arguments, and is called directly.
    """

    def __init__(self, holder: Any, marks: Marks) -> None:
        super().__init__(holder, marks)
        self.app: ASGIApp = holder.app

    def within(self, params: dict[str, Any]) -> ASGIApp:
        """Return `serve_within` for these parameters."""
        return partial(self.serve_within, params)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, unmarked: dict[str, Any] | None, failed: Failed
    ) -> None:
        """Answer a request; to be called if `handles_errors`.

        unmarked: the parameters in its path, while the scope has no marks; None when they are there. They have to be
        before anybody else gets the scope, and need not be if nobody does.
        """
        raise NotImplementedError

    async def serve_within(self, params: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with these parameters in its path, from ExceptionMiddleware inwards."""
        self.marks.put(scope, params)
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

    def __init__(self, holder: Any, marks: Marks) -> None:
        super().__init__(holder, marks)
        self.handles_errors = True
        self._respond = cells(holder.app, routing.request_response)["f"]

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, unmarked: dict[str, Any] | None, failed: Failed
    ) -> None:
        """See Endpoint."""
        if unmarked is not None:
            self.marks.put_all(scope, unmarked)
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
