"""From a request to what answers it: what is done for every request before anything waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from starlette._utils import get_route_path
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY

from fastserve.accel.cors import Cors
from fastserve.accel.lookup import Lookup
from fastserve.asgi.types import Receive, Scope, Send

_BODY_LIMIT = MAX_BODY_SIZE_SCOPE_KEY
Params = dict[str, Any]


class Marks:
    """What an application leaves in the scope.

    app: the application. handlers: of exceptions. router, endpoint: as Starlette notes them. route: what is noted as
    such, or None. marks: what FastAPI notes in a dict of its own; None when there is none. has_stacks: FastAPI's exit
    stacks are among it, on which nothing is going to be put. Without, the layers that make them are there.
    """

    __slots__ = ("_app", "_endpoint", "_handlers", "_marks", "_route", "_router", "has_stacks")

    def __init__(self, app: Any, handlers: Any, endpoint: Any, route: Any, marks: dict[str, Any] | None) -> None:
        self._app = app
        self._handlers = handlers
        self._router = app.router
        self._endpoint = endpoint
        self._route = route
        self._marks = marks
        self.has_stacks = False

    def put_all(self, scope: Scope, params: Params) -> None:
        """Put it into the scope of a request with these parameters in its path."""
        scope["app"] = self._app
        self.put(scope, params)

    def put(self, scope: Scope, params: Params) -> None:
        """Put everything but the application into the scope, as from ExceptionMiddleware inwards."""
        if self.has_stacks:
            list_headers(scope)
            scope["fastapi_middleware_astack"] = AsyncExitStack()
        self._put_route(scope, params)
        if self.has_stacks:
            scope["fastapi_inner_astack"] = AsyncExitStack()
            scope["fastapi_function_astack"] = AsyncExitStack()

    def _put_route(self, scope: Scope, params: Params) -> None:
        scope["starlette.exception_handlers"] = self._handlers
        if "router" not in scope:
            scope["router"] = self._router
        if self._marks is not None:
            scope.setdefault("fastapi", {}).update(self._marks)
        known = scope.get("path_params")
        scope["endpoint"] = self._endpoint
        scope["path_params"] = {**known, **params} if known else params
        if self._route is not None:
            scope["route"] = self._route


def list_headers(scope: Scope) -> None:
    """Make a list of the header fields, which may be any iterable, as FastAPI does."""
    if type(scope["headers"]) is not list:
        scope["headers"] = list(scope["headers"])


class Routed:
    """A route, and what must stay as it is for the plan to hold.

    holder: has the route's application as its attribute `app`. dependant, call: the former has the latter as its
    attribute `call`; None for routes of Starlette. overrides: has the attribute `dependency_overrides`; None when
    nothing can be overridden.
    """

    __slots__ = (
        "_calling",
        "_overridable",
        "_planned_app",
        "_planned_call",
        "handles_errors",
        "holder",
        "is_trivial",
        "marks",
    )

    def __init__(self, holder: Any, marks: Marks) -> None:
        self.holder = holder
        self.marks = marks
        self._planned_app = holder.app
        self._calling: Any = None
        self._planned_call: Any = None
        self._overridable: Any = None
        self.handles_errors = False
        self.is_trivial = False

    def depend_on(self, dependant: Any, call: Any, overrides: Any) -> None:
        """Take note of what else must stay as it is."""
        self._calling = dependant
        self._planned_call = call
        self._overridable = overrides

    def is_current(self) -> bool:
        """Tell whether this is still what the framework would do: nothing is overridden or replaced."""
        if self.holder.app is not self._planned_app:
            return False
        if self._calling is not None and self._calling.call is not self._planned_call:
            return False
        return self._overridable is None or not self._overridable.dependency_overrides


class Dispatcher:
    """Finds what answers a request. A plan sets its attributes once it is made.

    Not to be derived from: see Encoder.

    app: the application. outermost: its middleware. routers: each with a copy of its routes. lookup: finds a route, a
    Routed, and the parameters in the path. guards_outside: the framework's outermost layers are known.
    is_bare: there is nothing between these and the innermost one. sets_root_path: the application may have one of its
    own. is_unpatched, is_all_unpatched: see accel.patches. first, guard, serve_with_cors, failed, failed_inside,
    cors: of the stack (accel.layers).
    """

    __slots__ = (
        "app",
        "cors",
        "failed",
        "failed_inside",
        "first",
        "guard",
        "guards_outside",
        "is_all_unpatched",
        "is_bare",
        "is_unpatched",
        "lookup",
        "outermost",
        "routers",
        "serve_with_cors",
        "sets_root_path",
    )

    app: Any
    outermost: Any
    routers: list[tuple[Any, list[Any]]]
    lookup: Lookup
    guards_outside: bool
    is_bare: bool
    sets_root_path: bool
    is_unpatched: Callable[[], bool]
    is_all_unpatched: Callable[[], bool]
    first: Any
    guard: Callable[..., Awaitable[None]]
    serve_with_cors: Callable[..., Awaitable[None]]
    failed: Any
    failed_inside: Any
    cors: Cors | None

    def is_stale(self) -> bool:
        """Tell whether the application has been changed, so that a new plan may be better."""
        if self.app.middleware_stack is not self.outermost:
            return True
        for router, routes in self.routers:  # noqa: SIM110 - a generator expression cannot be compiled
            if router.routes != routes:
                return True
        return False

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what answers a request in place of the application, or None when that has to do it."""
        if not self._enter(scope):
            return None
        found = self._found_outside(scope)
        if found is None:
            return self._answer_in_middleware(scope, receive, send)
        endpoint = found[0]
        if not endpoint.handles_errors:
            return self._serve(endpoint, found[1], scope, receive, send)
        endpoint.marks.put_all(scope, found[1])
        return self._serve(endpoint, None, scope, receive, send)

    def answer_unseen(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what `answer` does, for a caller that does not look for what is left in the scope.

        It is put there when somebody else may look: an exception handler, a response that the endpoint has made.
        """
        if not self._enter(scope):
            return None
        found = self._found_outside(scope)
        if found is None:
            return self._answer_in_middleware(scope, receive, send)
        return self._serve(found[0], found[1], scope, receive, send)

    def answer_inside(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what answers a request in place of ExceptionMiddleware, or None when that has to do it."""
        if "fastapi.telemetry" in scope or self.is_stale():
            return None
        found = self._found(scope)
        if found is None:
            return None
        endpoint = found[0]
        if not endpoint.handles_errors:
            return endpoint.serve_within(found[1], scope, receive, send)  # type: ignore[no-any-return]
        endpoint.marks.put(scope, found[1])
        return endpoint.serve(scope, receive, send, None, self.failed_inside)  # type: ignore[no-any-return]

    def _enter(self, scope: Scope) -> bool:
        """Do what the application's own `__call__` does to a scope; return False when that has to do all."""
        if not self.guards_outside or "fastapi.telemetry" in scope or _BODY_LIMIT in scope:
            return False
        if self.sets_root_path and self.app.root_path:
            scope["root_path"] = self.app.root_path
        return True

    def _found_outside(self, scope: Scope) -> tuple[Any, Params] | None:
        """Return what answers a request without calling any middleware of the user, as `_found` does."""
        if not self.is_bare and (self.cors is None or not self.cors.passes(scope)):
            return None
        return self._found(scope)

    def _serve(
        self, endpoint: Any, params: Params | None, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Have what `_found_outside` has found answer a request (params: see Endpoint.serve)."""
        if not endpoint.handles_errors:
            scope["app"] = self.app
        if not self.is_bare:
            return self.serve_with_cors(endpoint, params, scope, receive, send)
        if endpoint.handles_errors:
            return endpoint.serve(scope, receive, send, params, self.failed)  # type: ignore[no-any-return]
        return self.guard(endpoint.within(params), scope, receive, send)

    def _answer_in_middleware(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what calls the user's middleware, which will call `answer_inside`."""
        if self.is_bare or not self.is_unpatched():
            return None
        scope["app"] = self.app
        return self.guard(self.first, scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Any, Params] | None:
        """Return what answers a request, and the parameters in its path; or None when the framework does."""
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        found = self.lookup.find(scope["method"], path)
        if found is None:
            return None
        routed = found[0]
        if not routed.is_current():
            return None
        return found if (self.is_unpatched() if routed.is_trivial else self.is_all_unpatched()) else None


class Entrance:
    """Where requests come in that a server gives to an accelerated application itself.

    dispatcher: of the present plan, or None. other: answers what no plan does, and what comes before there is one.
    """

    __slots__ = ("dispatcher", "other")

    def __init__(self, other: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.dispatcher: Dispatcher | None = None
        self.other = other

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return what answers a request, or whatever else the scope is for."""
        dispatcher = self._current(scope)
        answer = dispatcher.answer(scope, receive, send) if dispatcher is not None else None
        return self.other(scope, receive, send) if answer is None else answer

    def answer_unseen(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the same for a server, whose scopes are new and which does not look for what is left in them."""
        dispatcher = self._current(scope)
        answer = dispatcher.answer_unseen(scope, receive, send) if dispatcher is not None else None
        return self.other(scope, receive, send) if answer is None else answer

    def _current(self, scope: Scope) -> Dispatcher | None:
        """Return the dispatcher if its plan holds, and the scope is one of a request."""
        dispatcher = self.dispatcher
        if dispatcher is None or scope["type"] != "http" or dispatcher.is_stale():
            return None
        return dispatcher
