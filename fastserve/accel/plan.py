"""The plan of an application: which of its routes are accelerated, and how a request gets to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from fastserve.accel.cors import PREFLIGHT
from fastserve.accel.endpoints import Endpoint, FunctionEndpoint, Prepare, Unfit
from fastserve.accel.layers import FusedExceptions, Stack
from fastserve.accel.matching import Candidate, Matcher
from fastserve.accel.patches import Part, always, parts, patched, unchanged, with_arguments
from fastserve.accel.reports import RouteReport
from fastserve.asgi.types import Receive, Scope, Send

_AFTER_UNKNOWN = "an earlier route may match as well, and only the framework can tell"


class Listed(NamedTuple):
    """A route of an application: what it matches and who answers, and why that is the framework if it is.

    candidate: None when it never matches a request of HTTP.
    """

    route: Any
    candidate: Candidate | None
    reason: str | None


class Plan:
    """What is to be done with the requests for an application, as long as `is_current`.

    reports: on all routes. off: why nothing is accelerated at all, or None.
    """

    def __init__(self, app: Starlette, adapter: Adapter, exceptions: FusedExceptions | None) -> None:
        self.app = app
        self._adapter = adapter
        self._outermost = app.middleware_stack
        self._stack = Stack(app.middleware_stack, exceptions, adapter.layers())
        self.off = _off(adapter, self._stack)
        self._is_unpatched = unchanged([*always(adapter.framework), *adapter.watched()])
        self._has_arguments_unpatched = unchanged(with_arguments(adapter.framework))
        listed = list(adapter.routes(self._prepare))
        self._routers = [(router, list(router.routes)) for router in adapter.routers()]
        self.reports = list(_reports(listed, self.off))
        self._find = Matcher([each.candidate for each in listed if each.candidate is not None]).find
        self._is_bare = self.off is None and self._stack.is_bare()
        self._guards_outside = self.off is None and self._stack.server_errors is not None
        self._sets_root_path = adapter.sets_root_path
        if exceptions is not None:
            FusedExceptions.take_over(exceptions, self.answer_inside if self.off is None else None)

    def is_stale(self) -> bool:
        """Tell whether the application has been changed, so that a new plan may be better."""
        if self.app.middleware_stack is not self._outermost:
            return True
        for router, routes in self._routers:  # noqa: SIM110 - faster than a generator expression
            if router.routes != routes:
                return True
        return False

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what answers a request in place of the application, or None when that has to do it."""
        if not self._guards_outside or "fastapi.telemetry" in scope or MAX_BODY_SIZE_SCOPE_KEY in scope:
            return None
        if self._sets_root_path and self.app.root_path:  # type: ignore[attr-defined]
            scope["root_path"] = self.app.root_path  # type: ignore[attr-defined]
        if not self._is_bare:
            return self._answer_in_middleware(scope, receive, send)
        found = self._endpoint(scope)
        if found is None:
            return None
        endpoint, params = found
        scope["app"] = self.app
        if endpoint.handles_errors:
            return endpoint.serve(scope, receive, send, params, self._stack.failed)
        return self._stack.guard(partial(endpoint.serve_within, params), scope, receive, send)

    def answer_inside(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what answers a request in place of ExceptionMiddleware, or None when that has to do it."""
        if "fastapi.telemetry" in scope or self.is_stale():
            return None
        found = self._endpoint(scope)
        if found is None:
            return None
        endpoint, params = found
        if endpoint.handles_errors:
            return endpoint.serve(scope, receive, send, params, self._stack.failed_inside)
        return endpoint.serve_within(params, scope, receive, send)

    def _answer_in_middleware(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what calls the user's middleware, which will call `answer_inside`."""
        if not self._is_unpatched():
            return None
        cors = self._stack.cors
        if cors is not None:
            origin = cors.origin(scope)
            found = self._endpoint(scope) if origin is not PREFLIGHT else None
            if found is not None:
                scope["app"] = self.app
                return self._stack.serve_with_cors(found[0], found[1], origin, scope, receive, send)
        scope["app"] = self.app
        return self._stack.guard(self._stack.first, scope, receive, send)

    def _endpoint(self, scope: Scope) -> tuple[Endpoint, dict[str, Any]] | None:
        """Return what answers a request, and the parameters in its path; or None when the framework does."""
        path = get_route_path(scope) if scope.get("root_path") else scope["path"]
        found = self._find(scope["method"], path)
        if found is None or not self._is_unpatched():
            return None
        endpoint: Endpoint = found[0]
        if not endpoint.is_current() or not (endpoint.is_trivial or self._has_arguments_unpatched()):
            return None
        return found

    def _prepare(self, route: Any, endpoint: Any, marks: dict[str, Any] | None = None) -> Prepare:
        """Return what puts into the scope what routing leaves there.

        route: what is noted as such, or None. marks: what FastAPI notes in a dict of its own; None when there is none.
        """
        layer = self._stack.exceptions
        handlers = (layer._exception_handlers, layer._status_handlers) if layer is not None else ({}, {})
        router = self.app.router

        def prepare(scope: Scope, params: dict[str, Any]) -> None:
            scope["starlette.exception_handlers"] = handlers
            if "router" not in scope:
                scope["router"] = router
            if marks is not None:
                scope.setdefault("fastapi", {}).update(marks)
            known = scope.get("path_params")
            scope["endpoint"] = endpoint
            scope["path_params"] = {**known, **params} if known else params
            if route is not None:
                scope["route"] = route

        return prepare


def _off(adapter: Adapter, stack: Stack) -> str | None:
    """Return why nothing of an application can be accelerated, or None."""
    replaced = patched(parts(adapter.framework))
    if replaced is not None:
        return f"{replaced} has been replaced"
    reason = adapter.off()
    if reason is not None:
        return reason
    if adapter.app.debug:
        return "debug is on, and tracebacks are shown to clients"
    if stack.exceptions is None:
        return "its middleware hides the framework's own"
    if not adapter.leads_to_router(stack.exceptions):
        return "its middleware is not the framework's own"
    return None


def _reports(listed: list[Listed], off: str | None) -> Iterator[RouteReport]:
    is_known = True
    for route, candidate, reason in listed:
        unknown = None if is_known or candidate is None else _AFTER_UNKNOWN
        yield RouteReport.of(route, off or reason or unknown)
        if candidate is not None and not candidate.is_known():
            is_known = False


class Adapter:
    """What is particular to an application of Starlette itself."""

    sets_root_path = False
    notes_routes = True  # those of Starlette, in the scope
    framework = "starlette"
    base: type[Starlette] = Starlette

    def __init__(self, app: Any) -> None:
        self.app = app

    def watched(self) -> list[Part]:
        """Return what must stay as it is, besides the functions of the framework."""
        return []

    def off(self) -> str | None:
        """Return why nothing of the application can be accelerated, or None."""
        if type(self.app).__call__ is not self.base.__call__:
            return f"{type(self.app).__name__} has a __call__ of its own"
        return router_off(self.app.router, Router)

    def layers(self) -> tuple[type, ...]:
        """Return the framework's layers between ServerErrorMiddleware and the user's middleware."""
        return ()

    def leads_to_router(self, exceptions: Any) -> bool:
        """Tell whether ExceptionMiddleware is around what the framework puts there."""
        return exceptions.app is self.app.router

    def routers(self) -> list[Router]:
        """Return all routers whose routes are in the plan."""
        return [self.app.router]

    def routes(self, prepare: Callable[..., Prepare]) -> Iterator[Listed]:
        """Yield the routes in the order in which the framework tries them."""
        for route in self.app.router.routes:
            yield self.list_route(route, prepare, None)

    def list_route(self, route: BaseRoute, prepare: Callable[..., Prepare], marks: dict[str, Any] | None) -> Listed:
        """Return what there is to know about a route of Starlette (marks: see Plan)."""
        if isinstance(route, WebSocketRoute) and type(route).matches is WebSocketRoute.matches:
            return Listed(route, None, "it is a WebSocket route")
        if isinstance(route, Mount) and is_own(route, Mount):
            candidate = Candidate(route.path_regex, None, route.param_convertors, None)
            return Listed(route, candidate, "what is mounted is an application of its own")
        if not isinstance(route, Route) or not is_own(route, Route):
            return Listed(route, Candidate(None, None, {}, None), "it is not one of the framework's own kinds of route")
        noted = route if self.notes_routes else None
        return listed(route, route, lambda: self.endpoint(route, prepare(noted, route.endpoint, marks)))

    def endpoint(self, route: Route, prepare: Prepare) -> Endpoint:
        """Return what answers requests for a route.

        Raises:
            Unfit: nothing of ours does.
        """
        return FunctionEndpoint(route, prepare)


def listed(route: Any, holder: Any, make: Callable[[], Endpoint]) -> Listed:
    """Return what there is to know about a route that matches by path and method.

    holder: has the attributes that the framework goes by. make: returns what answers for it.
    """
    target, reason = None, None
    try:
        target = make()
    except Unfit as unfit:
        reason = str(unfit)
    except Exception as error:
        reason = f"it is not understood: {error!r}"
    methods = frozenset(holder.methods) if holder.methods else None
    return Listed(holder, Candidate(holder.path_regex, methods, holder.param_convertors, target), reason)


def is_own(route: Any, kind: type[Any]) -> bool:
    """Tell whether a route does what its class of the framework does."""
    same = all(getattr(type(route), name) is getattr(kind, name) for name in ("matches", "handle"))
    return same and not {"matches", "handle"} & vars(route).keys()


def router_off(router: Any, kind: type[Any]) -> str | None:
    """Return why a router is not understood, or None."""
    names = ("__call__", "app", "handle", "matches")
    if any(getattr(type(router), name, None) is not getattr(kind, name, None) for name in names):
        return f"{type(router).__name__} is not the framework's own router"
    if set(names) & vars(router).keys() or router.middleware_stack != router.app:
        return "its router has middleware"
    return None
