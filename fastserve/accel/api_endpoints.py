"""The specialised handlers of FastAPI's routes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastapi import routing
from fastapi._compat import Undefined
from fastapi.dependencies.models import _is_async_gen_callable, _is_gen_callable
from fastapi.exceptions import EndpointContext, RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fastserve.accel.answers import Answers
from fastserve.accel.bodies import body_of
from fastserve.accel.dependencies import Dependency
from fastserve.accel.dispatching import Marks, list_headers
from fastserve.accel.endpoints import FileStackEndpoint, Unfit, cells
from fastserve.accel.layers import Failed
from fastserve.accel.taking import Errors, Solving, Values
from fastserve.accel.watching import Watch
from fastserve.asgi.types import Receive, Scope, Send


class ApiEndpoint(FileStackEndpoint):
    """Answers requests for one route of FastAPI.

    When nothing can be put on FastAPI's exit stacks, `serve` does it all. Otherwise FastAPI's `request_response` keeps
    them around what is left.
    """

    def __init__(self, holder: Any, marks: Marks) -> None:
        super().__init__(holder, marks)
        self._cells = found = _handler_cells(holder.app)
        self._overrides = found["dependency_overrides_provider"] or None
        self._dependency = Dependency(found["dependant"], embeds_body=found["embed_body_fields"])
        self._call = self._dependency.call
        self._is_async: bool = found["is_coroutine"]
        self._body = body_of(found, self._context)
        self._answers = Answers(found, self._context)
        self._encoder = self._answers.encoder
        self.depend_on(found["dependant"], self._call, self._overrides if self._dependency.has_dependencies else None)
        self.is_trivial = self._dependency.is_trivial() and self._body is None and self._is_async
        needs_stacks = self._dependency.has_generators or self._dependency.exposes_request or found["is_body_form"]
        self.handles_errors = marks.has_stacks = not needs_stacks
        if needs_stacks:
            self.app = routing.request_response(self._respond)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, unmarked: dict[str, Any] | None, failed: Failed
    ) -> None:
        """See Endpoint."""
        state = watch = None
        is_started = False
        try:
            if self.is_trivial:
                result = await self._call()
                content = self._encoder.encode(result, False, scope)
            else:
                state = Solving(scope, receive, send, self.marks, unmarked, self._overrides)
                result = await self._result(state)
                content = self._encoder.encode(result, state.solved_response is not None, scope)
            if content is None:
                state = state or Solving(scope, receive, send, self.marks, unmarked, self._overrides)
                response = await self._answers.respond_specially(result, state)
                watch = Watch(send)
                await response(state.marked_scope(), receive, watch.send)
                return
            is_started = True
            if not self._encoder.respond(send, content):
                fields = self._encoder.fields(len(content)).copy()
                await send({"type": "http.response.start", "status": self._encoder.status, "headers": fields})
                await send({"type": "http.response.body", "body": content})
            if state is not None and state.background is not None:
                await state.background()
        except Exception as error:
            state = state or Solving(scope, receive, send, self.marks, unmarked, self._overrides)
            is_started = is_started or (watch is not None and watch.is_started)
            await failed(error, is_started, state.request(), scope, receive, send)

    async def _respond(self, request: Request[Any]) -> Response:
        """Return the response, as FastAPI's own handler does."""
        list_headers(request.scope)
        state = Solving(request.scope, request._receive, request._send, self.marks, None, self._overrides)
        state.use(request)
        result = await self._result(state)
        content = self._encoder.encode(result, state.solved_response is not None, state.scope)
        if content is None:
            return await self._answers.respond_specially(result, state)
        return Response(
            content, status_code=self._encoder.status, media_type="application/json", background=state.background
        )

    def _result(self, state: Solving) -> Awaitable[Any]:
        """Return what the endpoint returns, awaitable. What has not to be waited for is done at once."""
        dependency = self._dependency
        if not dependency.is_flat or not (self._body is None or self._body.take(state)):
            return self._awaited_result(state)
        arguments, errors = dependency.take(state)
        return self._called(arguments, errors, state)

    async def _awaited_result(self, state: Solving) -> Any:
        """Return what the endpoint returns."""
        if self._body is not None and not self._body.take(state):
            await self._body.read(state)
        dependency = self._dependency
        arguments, errors = dependency.take(state) if dependency.is_flat else await dependency.solve(state)
        return await self._called(arguments, errors, state)

    def _called(self, arguments: Values, errors: Errors, state: Solving) -> Awaitable[Any]:
        """Call the endpoint, and return its result, awaitable.

        Raises:
            RequestValidationError: there are errors.
        """
        if errors:
            body = None if state.body is Undefined else state.body
            raise RequestValidationError(errors, body=body, endpoint_ctx=self._context(state.scope))
        if self._is_async:
            return self._call(**arguments)  # type: ignore[no-any-return]
        return self._run_in_thread(arguments, state.scope)

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
