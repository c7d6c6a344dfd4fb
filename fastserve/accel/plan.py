"""The plan of an application: which of its routes are accelerated, and how a request gets to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from fastserve.accel.dispatching import Dispatcher, Marks
from fastserve.accel.endpoints import Endpoint, FunctionEndpoint, Unfit
from fastserve.accel.layers import FusedExceptions, Stack
from fastserve.accel.matching import Candidate, Matcher
from fastserve.accel.patches import Part, always, parts, patched, unchanged, with_arguments
from fastserve.accel.reports import RouteReport

_AFTER_UNKNOWN = "an earlier route may match as well, and only the framework can tell"


class Listed(NamedTuple):
    """A route of an application: what it matches and who answers, and why that is the framework if it is.

    candidate: None when it never matches a request of HTTP.
    """

    route: Any
    candidate: Candidate | None
    reason: str | None


class Plan:
    """What is to be done with the requests for an application, until it is stale.

    dispatcher: does it. reports: on all routes. off: why nothing is accelerated at all, or None.
    """

    def __init__(self, app: Starlette, adapter: Adapter, exceptions: FusedExceptions | None) -> None:
        self._app = app
        self.dispatcher = found = Dispatcher()
        stack = Stack(app.middleware_stack, exceptions, adapter.layers())
        self._layer = stack.exceptions
        self.off = _off(adapter, stack)
        found.app, found.outermost = app, app.middleware_stack
        found.guard, found.serve_with_cors = stack.guard, stack.serve_with_cors
        found.failed, found.failed_inside = stack.failed, stack.failed_inside
        found.first, found.cors = stack.first, stack.cors
        watched = [*always(adapter.framework), *adapter.watched()]
        found.is_unpatched = unchanged(watched)
        found.is_all_unpatched = unchanged([*watched, *with_arguments(adapter.framework)])
        listed = list(adapter.routes(self._marks))
        found.routers = [(router, list(router.routes)) for router in adapter.routers()]
        self.reports = list(_reports(listed, self.off))
        found.lookup = Matcher([each.candidate for each in listed if each.candidate is not None]).lookup
        found.is_bare = self.off is None and stack.is_bare()
        found.guards_outside = self.off is None and stack.server_errors is not None
        found.sets_root_path = adapter.sets_root_path
        if exceptions is not None:
            FusedExceptions.take_over(exceptions, found.answer_inside if self.off is None else None)

    def _marks(self, route: Any, endpoint: Any, marks: dict[str, Any] | None = None) -> Marks:
        """Return what routing leaves in the scope (see Marks)."""
        layer = self._layer
        handlers = (layer._exception_handlers, layer._status_handlers) if layer is not None else ({}, {})
        return Marks(self._app, handlers, endpoint, route, marks)


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

    def routes(self, marked: Callable[..., Marks]) -> Iterator[Listed]:
        """Yield the routes in the order in which the framework tries them."""
        for route in self.app.router.routes:
            yield self.list_route(route, marked, None)

    def list_route(self, route: BaseRoute, marked: Callable[..., Marks], marks: dict[str, Any] | None) -> Listed:
        """Return what there is to know about a route of Starlette (marks: see Plan)."""
        if isinstance(route, WebSocketRoute) and type(route).matches is WebSocketRoute.matches:
            return Listed(route, None, "it is a WebSocket route")
        if isinstance(route, Mount) and is_own(route, Mount):
            candidate = Candidate(route.path_regex, None, route.param_convertors, None)
            return Listed(route, candidate, "what is mounted is an application of its own")
        if not isinstance(route, Route) or not is_own(route, Route):
            return Listed(route, Candidate(None, None, {}, None), "it is not one of the framework's own kinds of route")
        noted = route if self.notes_routes else None
        return listed(route, route, lambda: self.endpoint(route, marked(noted, route.endpoint, marks)))

    def endpoint(self, route: Route, marks: Marks) -> Endpoint:
        """Return what answers requests for a route.

        Raises:
            Unfit: nothing of ours does.
        """
        return FunctionEndpoint(route, marks)


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
