"""From a request to what answers it: what is done for every request before anything waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from starlette._utils import get_route_path
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY

from fastserve.accel.cors import PREFLIGHT, Cors
from fastserve.asgi.types import Receive, Scope, Send

_PREFLIGHT = PREFLIGHT
_BODY_LIMIT = MAX_BODY_SIZE_SCOPE_KEY
Params = dict[str, Any]


class Marks:
    """What routing leaves in the scope.

    handlers, router, endpoint: as Starlette notes them. route: what is noted as such, or None. marks: what FastAPI
    notes in a dict of its own; None when there is none.
    """

    __slots__ = ("_endpoint", "_handlers", "_marks", "_route", "_router")

    def __init__(self, handlers: Any, router: Any, endpoint: Any, route: Any, marks: dict[str, Any] | None) -> None:
        self._handlers = handlers
        self._router = router
        self._endpoint = endpoint
        self._route = route
        self._marks = marks

    def put(self, scope: Scope, params: Params) -> None:
        """Put it into the scope of a request with these parameters in its path."""
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

    def put_with_stacks(self, scope: Scope, params: Params) -> None:
        """Put it into the scope together with FastAPI's exit stacks, on which nothing is going to be put."""
        list_headers(scope)
        scope["fastapi_middleware_astack"] = AsyncExitStack()
        self.put(scope, params)
        scope["fastapi_inner_astack"] = AsyncExitStack()
        scope["fastapi_function_astack"] = AsyncExitStack()


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

    app: the application. outermost: its middleware. routers: each with a copy of its routes. find: returns a route, as
    a Routed, and the parameters in the path; or None. guards_outside: the framework's outermost layers are known.
    is_bare: there is nothing between these and the innermost one. sets_root_path: the application may have one of its
    own. is_unpatched, has_arguments_unpatched: see accel.patches. first, guard, serve_with_cors, failed, failed_inside,
    cors: of the stack (accel.layers).
    """

    __slots__ = (
        "app",
        "cors",
        "failed",
        "failed_inside",
        "find",
        "first",
        "guard",
        "guards_outside",
        "has_arguments_unpatched",
        "is_bare",
        "is_unpatched",
        "outermost",
        "routers",
        "serve_with_cors",
        "sets_root_path",
    )

    app: Any
    outermost: Any
    routers: list[tuple[Any, list[Any]]]
    find: Callable[[str, str], tuple[Any, Params] | None]
    guards_outside: bool
    is_bare: bool
    sets_root_path: bool
    is_unpatched: Callable[[], bool]
    has_arguments_unpatched: Callable[[], bool]
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
        if not self.guards_outside or "fastapi.telemetry" in scope or _BODY_LIMIT in scope:
            return None
        if self.sets_root_path and self.app.root_path:
            scope["root_path"] = self.app.root_path
        if not self.is_bare:
            return self._answer_in_middleware(scope, receive, send)
        found = self._found(scope)
        if found is None:
            return None
        scope["app"] = self.app
        endpoint = found[0]
        if endpoint.handles_errors:
            return endpoint.serve(scope, receive, send, found[1], self.failed)  # type: ignore[no-any-return]
        return self.guard(endpoint.within(found[1]), scope, receive, send)

    def answer_inside(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what answers a request in place of ExceptionMiddleware, or None when that has to do it."""
        if "fastapi.telemetry" in scope or self.is_stale():
            return None
        found = self._found(scope)
        if found is None:
            return None
        endpoint = found[0]
        if endpoint.handles_errors:
            return endpoint.serve(scope, receive, send, found[1], self.failed_inside)  # type: ignore[no-any-return]
        return endpoint.serve_within(found[1], scope, receive, send)  # type: ignore[no-any-return]

    def _answer_in_middleware(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what calls the user's middleware, which will call `answer_inside`."""
        if not self.is_unpatched():
            return None
        if self.cors is not None:
            origin = self.cors.origin(scope)
            found = self._found(scope) if origin is not _PREFLIGHT else None
            if found is not None:
                scope["app"] = self.app
                return self.serve_with_cors(found[0], found[1], origin, scope, receive, send)
        scope["app"] = self.app
        return self.guard(self.first, scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Any, Params] | None:
        """Return what answers a request, and the parameters in its path; or None when the framework does."""
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        found = self.find(scope["method"], path)
        if found is None or not self.is_unpatched():
            return None
        routed = found[0]
        if not routed.is_current() or not (routed.is_trivial or self.has_arguments_unpatched()):
            return None
        return found


class Entrance:
    """Where requests come in that a server gives to an accelerated application itself.

    plan: the present one, or None. other: answers what no plan does, and what comes before there is one.
    """

    __slots__ = ("other", "plan")

    def __init__(self, other: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.plan: Dispatcher | None = None
        self.other = other

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return what answers a request, or whatever else the scope is for."""
        plan = self.plan
        if plan is not None and scope["type"] == "http" and not plan.is_stale():
            answer = plan.answer(scope, receive, send)
            if answer is not None:
                return answer
        return self.other(scope, receive, send)
