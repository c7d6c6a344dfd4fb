"""Dependencies of FastAPI endpoints, read once and solved for every request in FastAPI's order.

`fastapi.dependencies.utils.solve_dependencies` is what this stands in for: each dependency is called, or taken from the
cache, once its own dependencies and parameters are there; errors of parameters are collected.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from typing import Any

from fastapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _get_oauth_scopes,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from fastapi.dependencies.utils import _solve_generator, get_dependant, request_body_to_args
from starlette.concurrency import run_in_threadpool

from fastserve.accel.parameters import body_field, take_cookie, take_header, take_path, take_query
from fastserve.accel.taking import Errors, Signature, Solving, Taking, Values

_SPECIAL = (
    "http_connection_param_name",
    "request_param_name",
    "background_tasks_param_name",
    "response_param_name",
    "security_scopes_param_name",
)
"""Attributes of a Dependant: the arguments that FastAPI gives by their types."""

# What not every verified version of FastAPI has: limits on how often a dependency runs at a time, and cleaning up after
# generators in spite of cancellation.
_LIMITS_CONCURRENCY = hasattr(Dependant, "concurrency")
_SHIELDS_GENERATORS = "request" in inspect.signature(_solve_generator).parameters


class Dependency:
    """A callable with dependencies and parameters: the endpoint itself, or one of its dependencies.

    call: what FastAPI would call, at the time of planning. is_flat: there is nothing to wait for before it is called.
    """

    __slots__ = (
        "_body_fields",
        "_cache_key",
        "_concurrency",
        "_dependant",
        "_dependencies",
        "_embeds",
        "_has_body_fields",
        "_is_async",
        "_is_generator",
        "_is_simple",
        "_scopes",
        "_signature",
        "_stack",
        "_takings",
        "call",
        "exposes_request",
        "has_dependencies",
        "has_generators",
        "is_flat",
    )

    def __init__(self, dependant: Dependant, *, embeds_body: bool) -> None:
        assert dependant.call is not None
        self._dependant = dependant
        self.call = call = dependant.call
        self._dependencies = [Dependency(each, embeds_body=embeds_body) for each in dependant.dependencies]
        self._takings = _takings(dependant)
        self._embeds = embeds_body
        self._body_fields = list(dependant.body_params)
        body = body_field(self._body_fields, embeds=embeds_body) if self._body_fields else None
        self._has_body_fields = bool(self._body_fields) and body is None
        self._cache_key = _get_cache_key(dependant=dependant)
        self._scopes = _get_oauth_scopes(dependant=dependant)
        special = {name: getattr(dependant, name) for name in _SPECIAL}
        self._signature = Signature(self._takings, body, special, self._scopes)
        self.is_flat = not (self._dependencies or self._has_body_fields)
        self._concurrency: Any = dependant.concurrency if _LIMITS_CONCURRENCY else None
        self._is_generator = _is_gen_callable(call) or _is_async_gen_callable(call)
        self._is_async = _is_coroutine_callable(call)
        # Both may be true: of a wrapper the one, of what it wraps the other.
        self._is_simple = self._is_async and not self._is_generator
        self._stack = "fastapi_function_astack" if dependant.scope == "function" else "fastapi_inner_astack"
        self.has_dependencies = bool(self._dependencies)
        self.has_generators: bool = any(each._is_generator or each.has_generators for each in self._dependencies)
        gets_request = bool(dependant.request_param_name or dependant.http_connection_param_name)
        self.exposes_request: bool = gets_request or any(each.exposes_request for each in self._dependencies)

    def is_trivial(self) -> bool:
        """Tell whether there is nothing to solve: the callable takes no arguments."""
        special = any(getattr(self._dependant, name) for name in _SPECIAL)
        return not (self._dependencies or self._takings or self._body_fields or special)

    def take(self, state: Solving) -> tuple[Values, Errors]:
        """Return what `solve` does, to be called instead if this `is_flat`."""
        return self._signature.take_all(state)

    async def solve(self, state: Solving) -> tuple[Values, Errors]:
        """Return the arguments for the callable, and what is wrong with parameters."""
        values: Values = {}
        errors: Errors = []
        for each in self._dependencies:
            used = each
            if state.overrides is not None and state.overrides.dependency_overrides:
                used = each._overridden(state.overrides.dependency_overrides)
            arguments, wrong = used.take(state) if used.is_flat else await used.solve(state)
            if wrong:
                errors.extend(wrong)
                continue
            key = each._cache_key
            if each._dependant.use_cache and key in state.cache:
                solved = state.cache[key]
            elif used._is_simple and used._concurrency is None:
                solved = await used.call(**arguments)
            else:
                solved = await used._obtain(arguments, state, each._stack)
            if each._dependant.name is not None:
                values[each._dependant.name] = solved
            if key not in state.cache:
                state.cache[key] = solved
        if not self._has_body_fields:
            self._signature.take(state, values, errors)
            return values, errors
        self._signature.take_parameters(state, values, errors)
        found, wrong = await request_body_to_args(
            body_fields=self._body_fields, received_body=state.body, embed_body_fields=self._embeds
        )
        values.update(found)
        errors.extend(wrong)
        self._signature.take_special(state, values)
        return values, errors

    def _overridden(self, overrides: dict[Any, Any]) -> Dependency:
        """Return what is to be called in place of this dependency, as FastAPI finds it for each request."""
        dependant = self._dependant
        assert dependant.path is not None
        limits: dict[str, Any] = {"concurrency": dependant.concurrency} if _LIMITS_CONCURRENCY else {}
        found = get_dependant(
            path=dependant.path,
            call=overrides.get(dependant.call, self.call),
            name=dependant.name,
            parent_oauth_scopes=self._scopes.copy(),
            scope=dependant.scope,
            **limits,
        )
        return Dependency(found, embeds_body=self._embeds)

    async def _obtain(self, arguments: Values, state: Solving, stack_name: str) -> Any:
        """Call the dependency, in a thread if it is synchronous, as FastAPI does."""
        if self._is_generator:
            stack: AsyncExitStack = state.marked_scope()[stack_name]
            given: dict[str, Any] = {"request": state.request()} if _SHIELDS_GENERATORS else {}
            return await _solve_generator(dependant=self._dependant, stack=stack, sub_values=arguments, **given)
        if self._concurrency is None:
            return await self._run(arguments)
        async with self._concurrency.get_semaphore():
            return await self._run(arguments)

    async def _run(self, arguments: Values) -> Any:
        if self._is_async:
            return await self.call(**arguments)
        return await run_in_threadpool(self.call, **arguments)


def _takings(dependant: Dependant) -> list[Taking]:
    found: list[Taking] = []
    if dependant.path_params:
        found.append(take_path(dependant.path_params))
    if dependant.query_params:
        found.append(take_query(dependant.query_params))
    if dependant.header_params:
        found.append(take_header(dependant.header_params))
    if dependant.cookie_params:
        found.append(take_cookie(dependant.cookie_params))
    return found
