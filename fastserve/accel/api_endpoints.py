"""The specialised handlers of FastAPI's routes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import routing
from fastapi._compat import Undefined
from fastapi.dependencies.models import _is_async_gen_callable, _is_gen_callable
from fastapi.exceptions import EndpointContext, RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fastserve.accel.answers import Answers
from fastserve.accel.bodies import read_body, reader
from fastserve.accel.dependencies import Dependency, Solving
from fastserve.accel.endpoints import FileStackEndpoint, Prepare, Unfit, cells
from fastserve.accel.layers import Failed
from fastserve.accel.watching import Watch
from fastserve.asgi.types import Receive, Scope, Send

_CONTENT_TYPE = (b"content-type", b"application/json")


class ApiEndpoint(FileStackEndpoint):
    """Answers requests for one route of FastAPI.

    When nothing can be put on FastAPI's exit stacks, `serve` does it all. Otherwise FastAPI's `request_response` keeps
    them around what is left.
    """

    def __init__(self, holder: Any, prepare: Prepare) -> None:
        super().__init__(holder, prepare)
        self._cells = found = _handler_cells(holder.app)
        self._overrides = found["dependency_overrides_provider"] or None
        self._dependency = Dependency(found["dependant"], embeds_body=found["embed_body_fields"])
        self._call = self._dependency.call
        self._is_async: bool = found["is_coroutine"]
        self._read = reader(found)
        self._answers = Answers(found, self._context)
        self.is_trivial = self._dependency.is_trivial() and self._read is None and self._is_async
        self._original = self.app
        needs_stacks = self._dependency.has_generators or self._dependency.exposes_request or found["is_body_form"]
        self.handles_errors = not needs_stacks
        if needs_stacks:
            self.app = routing.request_response(self._respond)

    def is_current(self) -> bool:
        """See Endpoint."""
        if self.holder.app is not self._original or not self._dependency.is_unchanged():
            return False
        if not self._dependency.has_dependencies:
            return True
        return not (self._overrides is not None and self._overrides.dependency_overrides)

    async def serve(self, scope: Scope, receive: Receive, send: Send, params: dict[str, Any], failed: Failed) -> None:
        """See Endpoint."""
        _list_headers(scope)
        scope["fastapi_middleware_astack"] = AsyncExitStack()
        self.prepare(scope, params)
        scope["fastapi_inner_astack"] = AsyncExitStack()
        scope["fastapi_function_astack"] = AsyncExitStack()
        state = watch = None
        is_started = False
        try:
            if self.is_trivial:
                result = await self._call()
            else:
                state = Solving(scope, receive, send, self._overrides)
                result = await self._result(state)
            content = self._answers.encode(result, state, scope)
            if content is None:
                state = state or Solving(scope, receive, send, self._overrides)
                response = await self._answers.respond(result, state)
                watch = Watch(send)
                await response(scope, receive, watch.send)
                return
            is_started = True
            fields = [(b"content-length", b"%d" % len(content)), _CONTENT_TYPE]
            await send({"type": "http.response.start", "status": self._answers.status, "headers": fields})
            await send({"type": "http.response.body", "body": content})
            if state is not None and state.background is not None:
                await state.background()
        except Exception as error:
            request = (state or Solving(scope, receive, send, self._overrides)).request()
            await failed(error, is_started or (watch is not None and watch.is_started), request, scope, receive, send)

    async def _respond(self, request: Request[Any]) -> Response:
        """Return the response, as FastAPI's own handler does."""
        _list_headers(request.scope)
        state = Solving.of(request, self._overrides)
        result = await self._result(state)
        content = self._answers.encode(result, state, state.scope)
        if content is None:
            return await self._answers.respond(result, state)
        return Response(
            content, status_code=self._answers.status, media_type="application/json", background=state.background
        )

    async def _result(self, state: Solving) -> Any:
        """Return what the endpoint returns."""
        if self._read is not None:
            state.body = await read_body(self._read, state, self._context)
        arguments, errors = await self._dependency.solve(state)
        if errors:
            body = None if state.body is Undefined else state.body
            raise RequestValidationError(errors, body=body, endpoint_ctx=self._context(state.scope))
        if self._is_async:
            return await self._call(**arguments)
        return await self._run_in_thread(arguments, state.scope)

    async def _run_in_thread(self, arguments: dict[str, Any], scope: Scope) -> Any:
        if self._answers.field is None:
            return await run_in_threadpool(self._call, **arguments)
        return await run_in_threadpool(self._answers.call_and_validate, self._call, arguments, scope)

    def _context(self, scope: Scope) -> EndpointContext:
        """Return what errors say about this endpoint."""
        context = routing._extract_endpoint_context(self._call)
        dependant = self._cells["dependant"]
        if dependant.path:
            mount_path = scope.get("root_path", "").rstrip("/")
            context["path"] = f"{scope['method']} {mount_path}{dependant.path}"
        return context


def _list_headers(scope: Scope) -> None:
    """Make a list of the header fields, which may be any iterable, as FastAPI does."""
    if type(scope["headers"]) is not list:
        scope["headers"] = list(scope["headers"])


def _handler_cells(app: Any) -> dict[str, Any]:
    """Return the variables of FastAPI's handler in the application of a route.

    Raises:
        Unfit: it is not quite FastAPI's own handler, or does what has no specialised form.
    """
    found = cells(cells(app, routing.request_response)["f"], routing.get_request_handler)
    call = found["dependant"].call
    if found["is_sse_stream"] or found["is_json_stream"] or _is_async_gen_callable(call) or _is_gen_callable(call):
        raise Unfit("it streams")
    if found["dependant"].websocket_param_name:
        raise Unfit("it has a parameter for a WebSocket")
    return found
