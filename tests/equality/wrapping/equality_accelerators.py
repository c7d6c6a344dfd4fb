"""Other accelerators than `fastserve.accelerate`: as the server itself calls it, and ones that accelerate nothing.

With the latter the harness must find no difference, or must find one.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

import fastserve
from fastserve.accel import entrance


class Forwarding:
    """An application that does nothing but call another one. Attributes are the other's."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the app, as ASGI has it."""
        await self._app(scope, receive, send)


def forwarding(app: Any) -> Any:
    """Return the app behind a wrapper that changes nothing, if it is Starlette's or FastAPI's."""
    return Forwarding(app) if isinstance(app, Starlette) else app


class Served(Forwarding):
    """An accelerated application, called as by fastserve itself: nobody looks into the scope afterwards."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the app, as ASGI has it."""
        await entrance(self._app)(scope, receive, send)


def served(app: Any) -> Any:
    """Return the app accelerated, and as fastserve itself calls it."""
    accelerated = fastserve.accelerate(app)
    return app if accelerated is app else Served(accelerated)


class CreatedIsOk(Forwarding):
    """A wrong one: it answers 200 where the app answers 201."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the app, as ASGI has it."""

        async def lying(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"status": 200 if message["status"] == 201 else message["status"]}
            await send(message)

        await self._app(scope, receive, lying)


def created_is_ok(app: Any) -> Any:
    """Return the app behind a wrapper that answers 200 where it answers 201."""
    return CreatedIsOk(app) if isinstance(app, Starlette) else app
