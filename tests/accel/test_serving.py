"""Accelerated applications under our own server, which they give complete responses to: the same bytes as without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel
from starlette.responses import JSONResponse, StreamingResponse

from fastserve.accel import accelerate, entrance
from tests.accel.comparing import by_accelerator
from tests.doubles import Rig, post, request, until

JSON = "content-type: application/json"
ORIGIN = "origin: https://example.com"


class Item(BaseModel):
    name: str
    price: float = 1.5


def _app(seen: list[Any]) -> FastAPI:  # noqa: C901 - one route of each kind
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def read() -> Any:
        seen.append(by_accelerator())
        return {"message": "Hello"}

    @app.get("/items/{item_id}")
    async def read_item(item_id: int, q: str = "", exact: bool = False) -> Any:
        return [item_id, q, exact]

    @app.post("/items")
    async def store(item: Item) -> Item:
        return item

    @app.post("/raw")
    async def raw(item: dict[str, Any]) -> Any:
        return item

    @app.get("/sync")
    def in_a_thread() -> Item:
        return Item(name="sync")

    @app.get("/wrong", response_model=Item)
    async def wrong() -> Any:
        return {"price": "much"}

    @app.get("/refused")
    async def refused() -> Any:
        raise HTTPException(418, headers={"x-why": "tea"})

    @app.get("/failing")
    async def failing() -> Any:
        raise RuntimeError("failed")

    @app.get("/streaming")
    async def streaming() -> Any:
        return StreamingResponse(iter(["a", "b"]), headers={"vary": "accept"})

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> Any:
        tasks.add_task(seen.append, "background")
        return 1

    async def dependency(request: Request) -> str:
        return request.headers["host"]

    @app.get("/dependent")
    async def dependent(value: Annotated[str, Depends(dependency)]) -> Any:
        return value

    @app.exception_handler(418)
    async def teapot(request: Request, error: Exception) -> JSONResponse:
        seen.append((sorted(request.scope), await request.body()))
        return JSONResponse({"tea": True}, 418)

    return app


def _with_cors(seen: list[Any]) -> FastAPI:
    app = _app(seen)
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://example.com"], allow_credentials=True, expose_headers=["x"]
    )
    return app


REQUESTS = {
    "plain": request("/"),
    "http 1.0": request("/", version="1.0"),
    "head": request("/", method="HEAD"),
    "closing": request("/", "connection: close"),
    "parameters": request("/items/5?q=a+b&exact=yes"),
    "escaped parameters": request("/items/5?q=%C3%A4+b&q=%FF&exact=1"),
    "wrong parameters": request("/items/x?exact=perhaps"),
    "body": post(b'{"name": "a", "price": 2}', JSON, target="/items"),
    "wrong body": post(b'{"price": 2}', JSON, target="/items"),
    "broken body": post(b'{"name": "a', JSON, target="/items"),
    "no body": post(b"", JSON, target="/items"),
    "not JSON": post(b'{"name": "a"}', "content-type: text/plain", target="/items"),
    "special JSON": post(b'{"a": NaN, "b": 1e999, "c": -0, "d": 36893488147419103232}', JSON, target="/raw"),
    "chunks": request(
        "/items", JSON, "transfer-encoding: chunked", method="POST", body=b'e\r\n{"name": "abc"\r\n1\r\n}\r\n0\r\n\r\n'
    ),
    "thread": request("/sync"),
    "wrong result": request("/wrong"),
    "refused": request("/refused"),
    "failing": request("/failing"),
    "streaming": request("/streaming"),
    "background": request("/background"),
    "dependent": request("/dependent"),
    "missing": request("/nothing"),
    "origin": request("/", ORIGIN),
    "other origin": request("/", "origin: https://other.example"),
    "origin and stream": request("/streaming", ORIGIN),
    "origin and body": post(b'{"name": "a"}', JSON, ORIGIN, target="/items"),
    "origin and failing": request("/failing", ORIGIN),
    "preflight": request("/", ORIGIN, "access-control-request-method: GET", method="OPTIONS"),
}


async def _served(make: Callable[[list[Any]], Any], data: bytes, *, accelerated: bool) -> tuple[bytes, str, list[Any]]:
    """Return what a client gets that sends a request twice, the phase of its connection, and what the code noted."""
    seen: list[Any] = []
    app = make(seen)
    rig = Rig(entrance(accelerate(app)) if accelerated else app, access_log=True)
    peer = rig.connect()
    for number in range(2):
        peer.send(data)
        await until(lambda number=number: len(rig.logged) > number or peer.phase != "SERVING")  # type: ignore[misc]
    await rig.application.wait_idle()
    return peer.received, peer.phase, [rig.logged, *seen]


@pytest.mark.parametrize("make", [_app, _with_cors])
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.filterwarnings("ignore:Unclosed")
async def test_a_client_gets_the_same_bytes(make: Callable[[list[Any]], Any], name: str) -> None:
    plain = await _served(make, REQUESTS[name], accelerated=False)
    accelerated = await _served(make, REQUESTS[name], accelerated=True)
    noted = [False if each is True else each for each in accelerated[2]]
    assert (*accelerated[:2], noted) == plain
    assert plain[0]


@pytest.mark.parametrize("make", [_app, _with_cors])
async def test_the_application_under_our_server_is_accelerated(make: Callable[[list[Any]], Any]) -> None:
    assert (await _served(make, request("/", ORIGIN), accelerated=True))[2][1:] == [True, True]


async def test_the_entrance_of_another_application_is_itself() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert entrance(app) is app
