"""Which interface an application has, and what makes an ASGI 3 application of the others."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.errors import AppLoadError


def adapt(app: Any, name: str, interface: str) -> ASGIApp:
    """Return an ASGI 3 application for one of this interface. name: to say what is wrong with.

    Raises:
        AppLoadError: it is a WSGI application, and what it needs is not installed.
    """
    if interface == "auto":
        interface = detect(app)
    if interface == "wsgi":
        return _adapt_wsgi(app, name)
    if interface == "asgi2":
        return Asgi2(app)
    return cast(ASGIApp, app)


def detect(app: Any) -> str:
    """Return the interface of an application: asgi3, asgi2 or wsgi. What is not plainly another is taken for asgi3."""
    if _is_coroutine_function(app):
        return "asgi3"
    match _parameters(app):
        case [[_], _]:
            return "asgi2"
        case [[_, _], 2]:
            return "wsgi"  # The others call with one argument, or with three.
        # Their names are open (PEP 3333), but all have these, or shorter forms of them.
        case [[first, second], _] if first.startswith("env") and second.startswith("start"):
            return "wsgi"
    return "asgi3"


def _is_coroutine_function(app: Any) -> bool:
    if inspect.isclass(app):
        return False
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def _parameters(app: Any) -> tuple[list[str], int]:
    """Return the names of the arguments that have to be given, and how many there may be by position.

    There are none when there is no telling.
    """
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return [], 0
    required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    if any(each.kind in (each.VAR_POSITIONAL, each.KEYWORD_ONLY) for each in required):
        return [], 0
    by_position = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [each.name for each in required], len(by_position)


class Asgi2:
    """An ASGI 2 application, called as ASGI 3: it takes the scope, and returns what takes the rest."""

    def __init__(self, app: Callable[[Scope], Callable[[Receive, Send], Awaitable[object]]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        """Serve one connection (ASGI)."""
        scope["asgi"]["version"] = "2.0"
        return await self._app(scope)(receive, send)


def _adapt_wsgi(app: Any, name: str) -> ASGIApp:
    if importlib.util.find_spec("a2wsgi") is None:
        raise AppLoadError(
            f'"{name}" is a WSGI application, and serving those takes a2wsgi; install it with:'
            " pip install 'fastserve[wsgi]'"
        )
    from a2wsgi import WSGIMiddleware

    return cast(ASGIApp, WSGIMiddleware(app))
