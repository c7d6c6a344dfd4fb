"""What stands between routes and the server, and whether it sends paths on. From outside: process/test_offers.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from fastserve import accelerate
from fastserve.worker.offers import http_spec_version, passes_paths

FILES = StaticFiles(directory="/")


class Unknown:
    """Middleware of which nothing is known."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Call what is within."""
        await self.app(scope, receive, send)


class Page(HTTPEndpoint):
    """An endpoint that is a class."""


async def endpoint(request: Any) -> Any:
    """Answer."""


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Be an application."""


def with_router(router: APIRouter) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


def with_route(route: Any) -> Starlette:
    return Starlette(routes=[route])


def with_old_router() -> Starlette:
    """Return an application as before version 0.35 of Starlette."""
    app = with_route(Route("/", endpoint))
    del app.router.middleware_stack
    return app


def with_stack(app: Starlette) -> Starlette:
    """Return an application that has built its middleware, as the lifespan has it do."""
    app.middleware_stack = app.build_middleware_stack()
    return app


def with_routes(app: FastAPI) -> FastAPI:
    app.get("/a")(endpoint)
    app.websocket("/b")(bare)
    return app


class OwnRoute(APIRoute):
    """A route as applications derive them."""


PASSING: dict[str, Callable[[], Any]] = {
    "routes": lambda: with_routes(FastAPI()),
    "routes, built": lambda: with_stack(with_routes(FastAPI())),
    "a body limit, built": lambda: with_stack(FastAPI(max_body_size=1000)),
    "CORS": lambda: FastAPI(middleware=[Middleware(CORSMiddleware)]),
    "CORS, built": lambda: with_stack(FastAPI(middleware=[Middleware(CORSMiddleware)])),
    "a router": lambda: with_router(APIRouter(prefix="/a", route_class=OwnRoute)),
    "an endpoint that is a class": lambda: with_route(Route("/", Page)),
    "a WebSocket": lambda: with_route(WebSocketRoute("/", bare)),
    "files": lambda: with_route(Mount("/", FILES)),
    "an application in another": lambda: with_route(Mount("/", with_stack(FastAPI()))),
    "hosts": lambda: with_route(Host("a.test", Router([Mount("/", FILES)]))),
    "a router without middleware": with_old_router,
}
OTHERS: dict[str, Callable[[], Any]] = {
    "GZip": lambda: FastAPI(middleware=[Middleware(GZipMiddleware)]),
    "GZip, built": lambda: with_stack(FastAPI(middleware=[Middleware(GZipMiddleware)])),
    "GZip within CORS": lambda: with_stack(
        FastAPI(middleware=[Middleware(CORSMiddleware), Middleware(GZipMiddleware)])
    ),
    "a function": lambda: FastAPI(middleware=[Middleware(BaseHTTPMiddleware)]),
    "unknown": lambda: FastAPI(middleware=[Middleware(Unknown)]),
    "around it all": lambda: Unknown(FastAPI()),
    "around a route": lambda: with_route(Route("/", endpoint, middleware=[Middleware(Unknown)])),
    "around a router": lambda: with_route(Mount("/", Router([Mount("/", FILES)], middleware=[Middleware(Unknown)]))),
    "around files": lambda: with_route(Mount("/", GZipMiddleware(FILES))),
    "in a mounted one": lambda: with_route(Mount("/", FastAPI(middleware=[Middleware(Unknown)]))),
    "an application that is none of theirs": lambda: with_route(Mount("/", bare)),
    "not Starlette's": lambda: bare,
}


@pytest.mark.parametrize("name", PASSING)
def test_paths_are_offered_where_all_is_known_to_send_them_on(name: str) -> None:
    assert passes_paths(PASSING[name]())


@pytest.mark.parametrize("name", OTHERS)
def test_paths_are_not_offered_where_something_may_miss_them(name: str) -> None:
    assert not passes_paths(OTHERS[name]())


def test_an_accelerated_application_is_as_itself() -> None:
    app = FastAPI(middleware=[Middleware(CORSMiddleware)])
    app.get("/a")(endpoint)
    accelerated: Any = accelerate(app, mode="strict")
    accelerated.read_routes()
    assert type(app.middleware_stack).__module__ == "starlette.middleware.errors"
    assert passes_paths(app)


def test_a_framework_that_is_loaded_is_told_what_it_was_made_on() -> None:
    assert [http_spec_version(wanted) for wanted in ("auto", "2.3", "2.4")] == ["2.3", "2.3", "2.4"]
