"""Dependencies of FastAPI endpoints, read once and solved for every request in FastAPI's order.

`fastapi.dependencies.utils.solve_dependencies` is what this stands in for: each dependency is called, or taken from the
cache, once its own dependencies and parameters are there; errors of parameters are collected.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import BackgroundTasks
from fastapi._compat import Undefined
from fastapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _get_oauth_scopes,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from fastapi.dependencies.utils import _solve_generator, get_dependant, request_body_to_args
from fastapi.security.oauth2 import SecurityScopes
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fastserve.accel.parameters import (
    Errors,
    Source,
    Take,
    Values,
    body_field,
    take_cookie,
    take_header,
    take_path,
    take_query,
)
from fastserve.asgi.types import Receive, Scope, Send


class Solving(Source):
    """The state of solving the dependencies of one request.

    overrides: has the attribute `dependency_overrides`, or is None. A dependency may set them for later ones.
    """

    __slots__ = ("background", "body", "cache", "overrides", "solved_response")

    def __init__(self, scope: Scope, receive: Receive, send: Send, overrides: Any) -> None:
        super().__init__(scope, receive, send)
        self.overrides = overrides
        self.body: Any = Undefined
        self.background: StarletteBackgroundTasks | None = None
        self.solved_response: Response | None = None
        self.cache: dict[Any, Any] = {}

    @classmethod
    def of(cls, request: Request[Any], overrides: Any) -> Solving:
        """Return the state for this request."""
        state = cls(request.scope, request._receive, request._send, overrides)
        state._request = request
        return state

    def tasks(self) -> StarletteBackgroundTasks:
        """Return the background tasks, the same each time."""
        if self.background is None:
            self.background = BackgroundTasks()
        return self.background

    def response(self) -> Response:
        """Return the response on which dependencies set header fields and a status, the same each time."""
        if self.solved_response is None:
            self.solved_response = Response()
            del self.solved_response.headers["content-length"]
            self.solved_response.status_code = None  # type: ignore[assignment]
        return self.solved_response


class Dependency:
    """A callable with dependencies and parameters: the endpoint itself, or one of its dependencies.

    call: what FastAPI would call, at the time of planning; `is_unchanged` tells whether it still would.
    """

    __slots__ = (
        "_body",
        "_body_fields",
        "_cache_key",
        "_dependant",
        "_dependencies",
        "_embeds",
        "_is_async",
        "_is_generator",
        "_scopes",
        "_stack",
        "_takes",
        "call",
        "exposes_request",
        "has_dependencies",
        "has_generators",
    )

    def __init__(self, dependant: Dependant, *, embeds_body: bool) -> None:
        assert dependant.call is not None
        self._dependant = dependant
        self.call = call = dependant.call
        self._dependencies = [Dependency(each, embeds_body=embeds_body) for each in dependant.dependencies]
        self._takes = _takes(dependant)
        self._embeds = embeds_body
        self._body_fields = list(dependant.body_params)
        self._body = body_field(self._body_fields, embeds=embeds_body) if self._body_fields else None
        self._cache_key = _get_cache_key(dependant=dependant)
        self._scopes = _get_oauth_scopes(dependant=dependant)
        self._is_generator = _is_gen_callable(call) or _is_async_gen_callable(call)
        self._is_async = _is_coroutine_callable(call)
        self._stack = "fastapi_function_astack" if dependant.scope == "function" else "fastapi_inner_astack"
        self.has_dependencies = bool(self._dependencies)
        self.has_generators: bool = any(each._is_generator or each.has_generators for each in self._dependencies)
        gets_request = bool(dependant.request_param_name or dependant.http_connection_param_name)
        self.exposes_request: bool = gets_request or any(each.exposes_request for each in self._dependencies)

    def is_trivial(self) -> bool:
        """Tell whether there is nothing to solve: the callable takes no arguments."""
        dependant = self._dependant
        return not (
            self._dependencies
            or self._takes
            or self._body_fields
            or dependant.request_param_name
            or dependant.http_connection_param_name
            or dependant.response_param_name
            or dependant.background_tasks_param_name
            or dependant.security_scopes_param_name
        )

    def is_unchanged(self) -> bool:
        """Tell whether this is still what FastAPI would call: instrumentation replaces it."""
        return self._dependant.call is self.call

    async def solve(self, state: Solving) -> tuple[Values, Errors]:
        """Return the arguments for the callable, and what is wrong with parameters."""
        values: Values = {}
        errors: Errors = []
        for each in self._dependencies:
            used = each
            if state.overrides is not None and state.overrides.dependency_overrides:
                used = each._overridden(state.overrides.dependency_overrides)
            arguments, wrong = await used.solve(state)
            if wrong:
                errors.extend(wrong)
                continue
            key = each._cache_key
            if each._dependant.use_cache and key in state.cache:
                solved = state.cache[key]
            else:
                solved = await used._obtain(arguments, state, each._stack)
            if each._dependant.name is not None:
                values[each._dependant.name] = solved
            if key not in state.cache:
                state.cache[key] = solved
        for take in self._takes:
            take(state, values, errors)
        if self._body_fields:
            await self._take_body(state, values, errors)
        self._take_special(state, values)
        return values, errors

    async def _take_body(self, state: Solving, values: Values, errors: Errors) -> None:
        if self._body is not None:
            self._body.take(state.body, values, errors)
            return
        found, wrong = await request_body_to_args(
            body_fields=self._body_fields, received_body=state.body, embed_body_fields=self._embeds
        )
        values.update(found)
        errors.extend(wrong)

    def _take_special(self, state: Solving, values: Values) -> None:
        dependant = self._dependant
        if dependant.http_connection_param_name:
            values[dependant.http_connection_param_name] = state.request()
        if dependant.request_param_name:
            values[dependant.request_param_name] = state.request()
        if dependant.background_tasks_param_name:
            values[dependant.background_tasks_param_name] = state.tasks()
        if dependant.response_param_name:
            values[dependant.response_param_name] = state.response()
        if dependant.security_scopes_param_name:
            values[dependant.security_scopes_param_name] = SecurityScopes(scopes=self._scopes.copy())

    def _overridden(self, overrides: dict[Any, Any]) -> Dependency:
        """Return what is to be called in place of this dependency, as FastAPI finds it for each request."""
        dependant = self._dependant
        assert dependant.path is not None
        found = get_dependant(
            path=dependant.path,
            call=overrides.get(dependant.call, self.call),
            name=dependant.name,
            parent_oauth_scopes=self._scopes.copy(),
            scope=dependant.scope,
            concurrency=dependant.concurrency,
        )
        return Dependency(found, embeds_body=self._embeds)

    async def _obtain(self, arguments: Values, state: Solving, stack_name: str) -> Any:
        """Call the dependency, in a thread if it is synchronous, as FastAPI does."""
        if self._is_generator:
            stack: AsyncExitStack = state.scope[stack_name]
            return await _solve_generator(
                request=state.request(), dependant=self._dependant, stack=stack, sub_values=arguments
            )
        if self._dependant.concurrency is None:
            return await self._run(arguments)
        async with self._dependant.concurrency.get_semaphore():
            return await self._run(arguments)

    async def _run(self, arguments: Values) -> Any:
        if self._is_async:
            return await self.call(**arguments)
        return await run_in_threadpool(self.call, **arguments)


def _takes(dependant: Dependant) -> list[Take]:
    found = []
    if dependant.path_params:
        found.append(take_path(dependant.path_params))
    if dependant.query_params:
        found.append(take_query(dependant.query_params))
    if dependant.header_params:
        found.append(take_header(dependant.header_params))
    if dependant.cookie_params:
        found.append(take_cookie(dependant.cookie_params))
    return found
