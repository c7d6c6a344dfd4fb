"""What is particular to applications of FastAPI: their middleware, and routers within routers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import opentelemetry._logs._internal as _logs
import opentelemetry.metrics._internal as _metrics
import opentelemetry.trace
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute, _EffectiveRouteContext, _IncludedRouter
from fastapi.telemetry._asgi import ExceptionTelemetryMiddleware
from starlette.routing import BaseRoute, Route, Router

from fastserve.accel.api_endpoints import ApiEndpoint
from fastserve.accel.body_limits import LAYERS
from fastserve.accel.dispatching import Marks
from fastserve.accel.endpoints import Endpoint, FileStackEndpoint, Unfit
from fastserve.accel.matching import Candidate
from fastserve.accel.patches import Part
from fastserve.accel.plan import Adapter, Listed, is_own, listed, router_off

_UNKNOWN = Candidate(None, None, {}, None)


class FastAPIAdapter(Adapter):
    """What is particular to an application of FastAPI."""

    sets_root_path = True
    notes_routes = False
    framework = "fastapi"
    base = FastAPI

    def watched(self) -> list[Part]:
        """See Adapter: the providers of telemetry, with which FastAPI does more."""
        return [
            Part("telemetry", opentelemetry.trace, "_TRACER_PROVIDER", opentelemetry.trace._TRACER_PROVIDER),
            Part("telemetry", _metrics, "_METER_PROVIDER", _metrics._METER_PROVIDER),
            Part("telemetry", _logs, "_LOGGER_PROVIDER", _logs._LOGGER_PROVIDER),
        ]

    def off(self) -> str | None:
        """See Adapter."""
        if type(self.app).__call__ is not FastAPI.__call__:
            return f"{type(self.app).__name__} has a __call__ of its own"
        if self.app._native_telemetry.enabled():
            return "telemetry is on"
        return router_off(self.app.router, APIRouter)

    def layers(self) -> tuple[type, ...]:
        """See Adapter."""
        return ExceptionTelemetryMiddleware, *LAYERS

    def leads_to_router(self, exceptions: Any) -> bool:
        """See Adapter."""
        files = exceptions.app
        if type(files) is not AsyncExitStackMiddleware or files.context_name != "fastapi_middleware_astack":
            return False
        return files.app is self.app.router

    def routers(self) -> list[Router]:
        """See Adapter: also the routers that are included."""
        found: list[Router] = []
        left: list[Any] = [self.app.router]
        while left:
            router = left.pop()
            if not any(router is each for each in found):
                found.append(router)
                left += [route.original_router for route in router.routes if isinstance(route, _IncludedRouter)]
        return found

    def routes(self, marked: Callable[..., Marks]) -> Iterator[Listed]:
        """See Adapter."""
        marks: dict[str, Any] | None = None
        for route in self.app.router.routes:
            if isinstance(route, _IncludedRouter):
                marks = {}  # Looking into it makes the dict, also when a later route matches.
                yield from self._included(route, marked)
            elif isinstance(route, APIRoute):
                yield self._api_route(route, route, marked, marks)
            else:
                yield self.list_route(route, marked, marks)

    def list_route(self, route: BaseRoute, marked: Callable[..., Marks], marks: dict[str, Any] | None) -> Listed:
        """See Adapter."""
        if isinstance(route, APIWebSocketRoute) and type(route).matches is APIWebSocketRoute.matches:
            return Listed(route, None, "it is a WebSocket route")
        return super().list_route(route, marked, marks)

    def endpoint(self, route: Route, marks: Marks) -> Endpoint:
        """See Adapter."""
        if _limits_forms(self.app.router):
            raise Unfit("there are limits on forms")
        return FileStackEndpoint(route, marks)

    def _included(self, included: _IncludedRouter, marked: Callable[..., Marks]) -> Iterator[Listed]:
        if type(included) is not _IncludedRouter or router_off(included.original_router, APIRouter):
            yield Listed(included, _UNKNOWN, "it is in a router that is not the framework's own")
            return
        for candidate in included.effective_candidates():
            if isinstance(candidate, _IncludedRouter):
                yield from self._included(candidate, marked)
                continue
            marks = {"included_router": included, "effective_route_context": candidate}
            if isinstance(candidate.original_route, APIRoute):
                yield self._api_route(candidate.original_route, candidate, marked, marks)
            else:
                yield self._included_route(candidate, marked)

    def _included_route(self, context: _EffectiveRouteContext, marked: Callable[..., Marks]) -> Listed:
        """Return what there is to know about another route than one of FastAPI, in an included router."""
        route = context.starlette_route
        if route is None:
            return Listed(context.original_route, _UNKNOWN, "it is not one of the framework's own kinds of route")
        found = self.list_route(route, marked, None)
        reason = found.reason or "it is a route of Starlette in an included router"
        return Listed(route, found.candidate and found.candidate._replace(target=None), reason)

    def _api_route(
        self, route: APIRoute, holder: Any, marked: Callable[..., Marks], marks: dict[str, Any] | None
    ) -> Listed:
        """Return what there is to know about a route of FastAPI.

        holder: the route itself, or its context in an included router.
        """
        if not is_own(route, APIRoute):
            return Listed(holder, _UNKNOWN, f"{type(route).__name__} has rules of its own")

        def make() -> Endpoint:
            if _limits_forms(self.app.router) or (marks and _limits_forms(marks["included_router"].include_context)):
                raise Unfit("there are limits on forms")
            return ApiEndpoint(holder, marked(route, holder.endpoint, marks))

        return listed(route, holder, make)


def _limits_forms(router: Any) -> bool:
    """Tell whether a router, or what includes it, has limits on forms. FastAPI has them from 0.165 on."""
    return bool(getattr(router, "form_limits", None))
