"""An application of FastAPI or Starlette, accelerated."""

from __future__ import annotations

import logging
from typing import Any

from fastserve.accel.dispatching import Entrance
from fastserve.accel.layers import FusedExceptions, fuse
from fastserve.accel.plan import Adapter, Plan
from fastserve.accel.reports import RouteReport
from fastserve.accel.versions import describe, framework
from fastserve.asgi.types import ASGIApp, Message, Receive, Scope, Send
from fastserve.errors import AccelerationError

_log = logging.getLogger("fastserve")

# An application that goes on changing its routes is left to the framework.
_MOST_PLANS = 50
_OWN = frozenset(("_adapter", "_app", "_entrance", "_exceptions", "_fused", "_is_strict", "_plan", "_plans_left"))


class Accelerated:
    """Stands in for an application: it is called in its place, and has its attributes.

    The plan is made when the lifespan has started, or for the first request, and again when routes have been added.
    """

    def __init__(self, app: Any, *, is_strict: bool = False) -> None:
        self._app = app
        self._is_strict = is_strict
        self._adapter = _adapter(app)
        self._fused: Any = None  # the middleware that _exceptions is the innermost layer of
        self._exceptions: FusedExceptions | None = None
        self._entrance = Entrance(self._answer_otherwise)
        self._plan: Plan | None = None
        self._plans_left = _MOST_PLANS

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_app"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._app, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or whatever else the scope is for (ASGI application)."""
        await self._entrance.answer(scope, receive, send)

    async def _answer_otherwise(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what the present plan does not."""
        if scope["type"] == "http":
            plan = self._plan
            if plan is None or plan.dispatcher.is_stale():
                plan = self._renew()
                answer = plan.dispatcher.answer(scope, receive, send) if plan is not None else None
                if answer is not None:
                    await answer
                    return
        elif scope["type"] == "lifespan":
            send = self._planning(send)
        if self._app.middleware_stack is None:
            self._fuse()
        await self._app(scope, receive, send)

    def entrance(self) -> ASGIApp:
        """Return what a server may call instead of this, which does not look into its scopes afterwards.

        It is no coroutine function.
        """
        return self._entrance.answer_unseen

    def read_routes(self) -> None:
        """Make the plan, which happens otherwise when the application has started.

        Raises:
            AccelerationError: a route cannot be accelerated, and all have to be.
        """
        self._renew()

    def explain(self) -> list[RouteReport]:
        """Return for each route whether it is accelerated, and if not, why."""
        plan = self._plan
        if plan is None or plan.dispatcher.is_stale():
            plan = self._make()
        return plan.reports

    def _planning(self, send: Send) -> Send:
        """Return a `send` for the lifespan, which makes the plan before it tells that the application has started."""
        refusal = ""

        async def planning(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "lifespan.startup.complete":
                try:
                    self._renew()
                except AccelerationError as error:
                    refusal = str(error)
                    raise
            elif refusal:
                message = {**message, "message": refusal}  # The framework gives a traceback as the reason.
            await send(message)

        return planning

    def _renew(self) -> Plan | None:
        """Return a plan for the application as it is now; None when it has changed too often."""
        if self._plan is not None:
            if not self._plans_left:
                return None
            self._plans_left -= 1
        self._plan = renewed = self._make()
        self._entrance.dispatcher = renewed.dispatcher
        accelerated = sum(report.accelerated for report in renewed.reports)
        _log.info("accelerated %d of %d routes (%s)", accelerated, len(renewed.reports), describe(self._app))
        if self._is_strict and accelerated < len(renewed.reports):
            raise AccelerationError(_complaint(renewed.reports))
        return renewed

    def _make(self) -> Plan:
        self._fuse()
        return Plan(self._app, self._adapter, self._exceptions)

    def _fuse(self) -> None:
        if self._exceptions is not None and self._fused is self._app.middleware_stack is not None:
            return
        try:
            self._exceptions = fuse(self._app)
        except Exception:
            self._app.middleware_stack = None  # The application itself is going to fail in the same way.
        self._fused = self._app.middleware_stack


def _adapter(app: Any) -> Adapter:
    if framework(app) == "starlette":
        return Adapter(app)
    from fastserve.accel.fastapi_routes import FastAPIAdapter

    return FastAPIAdapter(app)


def _complaint(reports: list[RouteReport]) -> str:
    lines = [f"  {' '.join((*report.methods, report.path))}: {report.reason}" for report in reports if report.reason]
    return "\n".join(["routes that cannot be accelerated:", *lines])
