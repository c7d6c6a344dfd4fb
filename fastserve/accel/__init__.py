"""The accelerator: FastAPI and Starlette applications, answered by specialised handlers with the same behaviour.

Works under any ASGI server, and needs no change to the application. What it does not understand completely, the
framework's own code does, request by request.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from fastserve.accel.reports import RouteReport
from fastserve.accel.versions import is_of_a_framework, why_not
from fastserve.errors import AccelerationError

if TYPE_CHECKING:
    from fastserve.asgi.types import ASGIApp

_log = logging.getLogger("fastserve")

MODES = ("auto", "off", "strict")

__all__ = ["MODES", "RouteReport", "accelerate", "entrance", "explain", "read_routes"]


def accelerate(app: ASGIApp, *, mode: str = "auto") -> ASGIApp:
    """Return an application that behaves as this one does, and is faster if it is one of FastAPI or Starlette.

    mode: "auto"; "off" returns the application itself; "strict" is for tests and deployments that count on the speed.
    The routes are read when the lifespan of the application has started, or at the first request without one.

    Raises:
        AccelerationError: the mode is "strict", and the application cannot be accelerated. When single routes cannot,
            it is raised as soon as the routes are read.
    """
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    if mode == "off" or _is_accelerated(app):
        return app
    reason = why_not(app)
    if reason is not None:
        if mode == "strict":
            raise AccelerationError(f"the application cannot be accelerated: {reason}")
        if is_of_a_framework(app):
            _log.info("accelerated 0 of %d routes: %s", len(getattr(app, "routes", ())), reason)
        return app
    from fastserve.accel.application import Accelerated

    return Accelerated(app, is_strict=mode == "strict")


def entrance(app: ASGIApp) -> ASGIApp:
    """Return what a server calls in place of an application, which spares a coroutine if it is an accelerated one.

    It is for those who make a scope for each request and do not look for what the application leaves in it: that is put
    there only if somebody else may look.
    """
    if not _is_accelerated(app):
        return app
    found: ASGIApp = type(app).entrance(app)  # type: ignore[attr-defined]
    return found


def read_routes(app: ASGIApp) -> None:
    """Read the routes of an application now, for a server that does not run its lifespan.

    Raises:
        AccelerationError: see accelerate.
    """
    if _is_accelerated(app):
        type(app).read_routes(app)  # type: ignore[attr-defined]


def explain(app: Any) -> list[RouteReport]:
    """Return for each route of an application whether it is accelerated, and if not, why."""
    if _is_accelerated(app):
        found: list[RouteReport] = type(app).explain(app)
        return found
    reason = why_not(app)
    if reason is not None:
        return [RouteReport.of(route, reason) for route in getattr(app, "routes", [])]
    from fastserve.accel.application import Accelerated

    return Accelerated(app).explain()


def _is_accelerated(app: Any) -> bool:
    module = sys.modules.get("fastserve.accel.application")
    return module is not None and isinstance(app, module.Accelerated)
