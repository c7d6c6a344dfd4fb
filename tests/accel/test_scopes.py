"""What an application leaves in the scope: whoever may look finds it there, though our server does not ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from fastserve.accel import accelerate, entrance
from tests.accel.comparing import by_accelerator
from tests.doubles import Rig, post, request, until

JSON = "content-type: application/json"
ORIGIN = "origin: https://example.com"
Make = Callable[[list[Any]], Any]


def described(scope: Any) -> list[Any]:
    """Return what is in a scope, by its keys."""
    return [(key, _describe(scope[key])) for key in sorted(scope)]


def _describe(value: Any) -> Any:
    if isinstance(value, AsyncExitStack):
        return "stack", len(vars(value)["_exit_callbacks"])
    if isinstance(value, dict):
        return [(str(key), _describe(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_describe(each) for each in value]
    if isinstance(value, str | bytes | int | None):
        return repr(value)
    return type(value).__name__, getattr(value, "path", None), getattr(value, "__name__", None)


class Item(BaseModel):
    name: str
    price: float = 1.5


class LookingResponse(PlainTextResponse):
    """A response that notes the scope that it is called with."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__("looked")
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(described(scope))
        await super().__call__(scope, receive, send)


def _app(seen: list[Any]) -> FastAPI:  # noqa: C901 - one route of each kind
    app = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/included")

    @app.get("/")
    async def read() -> Any:
        seen.append(by_accelerator())
        return {"message": "Hello"}

    @app.get("/response")
    async def response() -> Any:
        return LookingResponse(seen)

    @router.get("/{number}/response")
    async def included(number: int) -> Any:
        return LookingResponse(seen)

    @app.get("/raising/{number}")
    async def raising(number: int) -> Any:
        raise HTTPException(418)

    @app.get("/failing/{number}")
    async def failing(number: int) -> Any:
        raise RuntimeError("failed")

    @app.get("/failing")
    async def failing_without_parameters() -> Any:
        raise RuntimeError("failed")

    @app.post("/items/{number}")
    async def store(number: int, item: Item) -> Item:
        return item

    @app.get("/wrong", response_model=Item)
    async def wrong() -> Any:
        return {"price": "much"}

    def dependency(response: Response, tasks: BackgroundTasks) -> str:
        response.headers["x-set"] = "yes"
        tasks.add_task(seen.append, "background")
        return "solved"

    @app.get("/dependent/{number}")
    async def dependent(number: int, value: Annotated[str, Depends(dependency)]) -> Any:
        seen.append(by_accelerator())
        return [number, value]

    @app.get("/background/{number}")
    async def background(number: int, tasks: BackgroundTasks) -> Any:
        def task() -> None:
            raise HTTPException(418)

        tasks.add_task(task)
        return number

    @app.get("/cookies/{number}")
    async def cookies(number: int, cookie: Annotated[str, Cookie()] = "") -> Any:
        seen.append(by_accelerator())
        return [number, cookie]

    def asked(request: Request) -> Any:
        return described(request.scope)

    @app.get("/request/{number}")
    async def endpoint_with_request(request: Request, number: int) -> Any:
        return described(request.scope)

    @app.get("/asking/{number}")
    async def asking(number: int, value: Annotated[Any, Depends(asked)]) -> Any:
        return value

    async def yielding(request: Request) -> AsyncIterator[Any]:
        seen.append(described(request.scope))
        yield 1
        seen.append(described(request.scope))

    @app.get("/yielding/{number}")
    async def with_yield(number: int, value: Annotated[Any, Depends(yielding)]) -> Any:
        return value

    async def other(request: Request) -> Any:
        return described(request.scope)

    async def replacing(again: bool = False) -> None:
        app.dependency_overrides = {} if again else {replaced: other}

    async def replaced() -> Any:
        return "the original"

    @app.get("/replacing/{number}")
    async def late(
        number: int, first: Annotated[None, Depends(replacing)], second: Annotated[Any, Depends(replaced)]
    ) -> Any:
        app.dependency_overrides = {}
        return second

    def look(request: Request, error: Exception) -> Response:
        seen.append(described(request.scope))
        return JSONResponse({"error": type(error).__name__}, 418)

    for kind in (418, RequestValidationError, Exception):
        app.exception_handler(kind)(look)
    app.include_router(router)
    return app


def _with_cors(seen: list[Any]) -> FastAPI:
    app = _app(seen)
    app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"])
    return app


def _within_root_path(seen: list[Any]) -> FastAPI:
    app = _app(seen)
    app.root_path = "/root"
    return app


class Looking:
    """A middleware that notes the scope when the response starts, and at the end."""

    def __init__(self, app: Any, seen: list[Any]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def looking(message: Any) -> None:
            self.seen.append((message["type"], described(scope)))
            await send(message)

        try:
            await self.app(scope, receive, looking if scope["type"] == "http" else send)
        finally:
            self.seen.append(described(scope))


def _with_middleware(seen: list[Any]) -> FastAPI:
    app = _app(seen)
    app.add_middleware(Looking, seen=seen)
    return app


def _starlette(seen: list[Any]) -> Starlette:
    async def read(request: Any) -> Any:
        return JSONResponse(described(request.scope))

    async def failing(request: Any) -> Any:
        raise HTTPException(418)

    def look(request: Any, error: Exception) -> Any:
        return JSONResponse(described(request.scope), 418)

    routes = [Route("/", read), Route("/items/{number:int}", read), Route("/raising/{number}", failing)]
    return Starlette(routes=routes, exception_handlers={HTTPException: look})


MAKERS = [_app, _with_cors, _within_root_path, _with_middleware, _starlette]
REQUESTS = {
    "plain": request("/"),
    "origin": request("/", ORIGIN),
    "response": request("/response", ORIGIN),
    "included": request("/included/5/response"),
    "exception": request("/raising/5", ORIGIN),
    "failure": request("/failing/5"),
    "failure without parameters": request("/failing"),
    "body": post(b'{"name": "a"}', JSON, target="/items/5"),
    "wrong body": post(b"{}", JSON, target="/items/5"),
    "broken body": post(b"{", JSON, target="/items/5"),
    "wrong path": request("/raising/x"),
    "wrong result": request("/wrong"),
    "dependency": request("/dependent/5"),
    "failing background task": request("/background/5"),
    "cookies": request("/cookies/5", "cookie: cookie=1"),
    "request": request("/request/5"),
    "dependency with request": request("/asking/5"),
    "yielding": request("/yielding/5"),
    "late override": request("/replacing/5"),
    "late override back": request("/replacing/5?again=1"),
    "items": request("/items/5"),
    "missing": request("/nothing"),
    "options": request("/", ORIGIN, method="OPTIONS"),
}


async def _served(app: Any, seen: list[Any], data: bytes) -> tuple[bytes, list[Any]]:
    """Return what a client gets that sends a request twice, and what the code noted."""
    rig = Rig(app, access_log=True)
    peer = rig.connect()
    for number in range(2):
        peer.send(data)
        await until(lambda number=number: len(rig.logged) > number or peer.phase != "SERVING")  # type: ignore[misc]
    await rig.application.wait_idle()
    return peer.received, [False if each is True else each for each in seen]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_whoever_is_given_the_scope_finds_everything_in_it(make: Make, name: str) -> None:
    seen: list[Any] = []
    plain = await _served(make(seen), seen, REQUESTS[name])
    seen = []
    assert await _served(entrance(accelerate(make(seen))), seen, REQUESTS[name]) == plain


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_who_calls_the_application_finds_everything_in_the_scope(make: Make, name: str) -> None:
    seen: list[Any] = []
    plain = await _served(Looking(make(seen), seen), seen, REQUESTS[name])
    seen = []
    assert await _served(Looking(accelerate(make(seen)), seen), seen, REQUESTS[name]) == plain


async def test_a_server_is_left_a_scope_without_what_nobody_looks_for() -> None:
    seen: list[Any] = []
    app = entrance(accelerate(_app(seen)))
    scopes: list[Any] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await app(scope, receive, send)

    for data in (request("/"), request("/cookies/5"), post(b'{"name": "a"}', JSON, target="/items/5")):
        await _served(noting, seen, data)
    assert "fastapi_inner_astack" in scopes[0]  # There was no plan yet.
    assert ["fastapi_inner_astack" in scope for scope in scopes[1::2]] == [False, True, False]
