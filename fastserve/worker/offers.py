"""What an application is offered, by what it is made with.

Frameworks have grown up on servers that speak version 2.3 of the ASGI HTTP specification and have no extensions. Most
of their users' code has never met an error from `send`, and most middleware that works on bodies has never met one that
is a path. So they are offered what is new only where nothing can miss it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any

# The packages of frameworks that look for the client's leaving by `receive`, and clean up after `send`.
_FRAMEWORKS = ("blacksheep", "django", "falcon", "litestar", "quart", "sanic", "starlette")
# Middleware that sends on what it does not know, and does nothing to bodies.
_PASSING = frozenset(
    (
        "fastapi._body_limit.AppBodyLimitMiddleware",
        "fastapi._body_limit._BodyLimitExceptionMiddleware",
        "fastapi.middleware.asyncexitstack.AsyncExitStackMiddleware",
        "fastapi.telemetry._asgi.ExceptionTelemetryMiddleware",
        "fastserve.accel.layers.FusedExceptions",
        "starlette.middleware.authentication.AuthenticationMiddleware",
        "starlette.middleware.body_limit.RequestBodyLimitMiddleware",
        "starlette.middleware.cors.CORSMiddleware",
        "starlette.middleware.errors.ServerErrorMiddleware",
        "starlette.middleware.exceptions.ExceptionMiddleware",
        "starlette.middleware.httpsredirect.HTTPSRedirectMiddleware",
        "starlette.middleware.sessions.SessionMiddleware",
        "starlette.middleware.trustedhost.TrustedHostMiddleware",
    )
)
# Where the functions are made that run the endpoints of routes.
_ROUTING = ("fastapi.routing", "starlette.routing")


def http_spec_version(wanted: str) -> str:
    """Return the version of the ASGI HTTP specification that an application, once imported, is told.

    wanted: that version, or "auto".
    """
    if wanted != "auto":
        return wanted
    return "2.3" if any(name in sys.modules for name in _FRAMEWORKS) else "2.4"


def passes_paths(app: Any) -> bool:
    """Tell whether `http.response.pathsend` may be offered: nothing between its senders and the server can miss it.

    To be called when the lifespan has started, and the application has its routes.
    """
    if "starlette" not in sys.modules:
        return True  # Nobody else sends it without being written for that.
    return _passes(app)


def _passes(layer: Any) -> bool:
    """Tell whether what an ASGI application of Starlette sends, and those within it, comes out of it as it is."""
    from starlette.applications import Starlette
    from starlette.endpoints import HTTPEndpoint
    from starlette.routing import Router
    from starlette.staticfiles import StaticFiles

    if isinstance(layer, Starlette):
        # Without a lifespan the layers are not there yet.
        if layer.middleware_stack is not None:
            return _passes(layer.middleware_stack)
        return all(_name(each.cls) in _PASSING for each in layer.user_middleware) and _passes(layer.router)
    if isinstance(layer, Router):
        # Before version 0.35 routers have no middleware.
        return _passes(layer.middleware_stack) if hasattr(layer, "middleware_stack") else _all_pass(layer.routes)
    if inspect.ismethod(layer) and isinstance(layer.__self__, Router):
        return _all_pass(layer.__self__.routes)  # It is within its middleware.
    if _name(type(layer)) in _PASSING:
        return _passes(layer.app)
    if inspect.isfunction(layer):
        return layer.__module__ in _ROUTING
    return isinstance(layer, StaticFiles) or (inspect.isclass(layer) and issubclass(layer, HTTPEndpoint))


def _all_pass(routes: Iterable[Any]) -> bool:
    from starlette.routing import Host, Mount, Route, WebSocketRoute

    inner: Any
    for route in routes:
        if isinstance(route, Route | Mount | Host):
            inner = route.app
        elif isinstance(route, WebSocketRoute):
            continue
        else:
            inner = getattr(route, "original_router", None)  # of FastAPI's include_router()
        if inner is None or not _passes(inner):
            return False
    return True


def _name(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
