"""Applications of Starlette alone."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from tests.equality.driving import TINT, Trace
from tests.equality.driving import Request as Asked


class Vowels(StringConvertor):
    regex = "[aeiou]+"


def build(trace: Trace) -> Starlette:
    """Build one with routes of all kinds."""
    register_url_convertor("vowels", Vowels())

    async def home(request: Request) -> Response:
        trace.note("home", request.query_params, sorted(request.scope), request.app is app)
        return JSONResponse({"hello": "world"})

    def sync(request: Request) -> Response:
        trace.note("sync", request.path_params)
        TINT.set("sync")
        return PlainTextResponse("sync")

    async def echo(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect as gone:
            trace.note("gone", gone)
            raise
        return Response(body, media_type="application/octet-stream", background=BackgroundTask(trace.note, "later"))

    async def fail(request: Request) -> Response:
        how = request.path_params["how"]
        if how == "http":
            raise HTTPException(406, headers={"x-why": "not"})
        if how == "absent":
            return None  # type: ignore[return-value]
        raise ValueError(how)

    async def stream(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number

        return StreamingResponse(parts())

    class Both(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            trace.note("get", type(self).__name__)
            return PlainTextResponse("get")

        def post(self, request: Request) -> Response:
            return RedirectResponse(request.url_for("home"))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        trace.note("up")
        yield {"word": "state"}
        trace.note("down")

    async def not_found(request: Request, raised: Exception) -> Response:
        trace.note("not found")
        return PlainTextResponse("own 404", status_code=404)

    app = Starlette(
        routes=[
            Route("/", home),
            Route("/sync", sync),
            Route("/sync/{number:int}", sync, methods=["GET", "DELETE"]),
            Route("/echo", echo, methods=["POST", "PUT"]),
            Route("/fail/{how}", fail),
            Route("/stream", stream),
            Route("/both", Both),
            Route("/vowels/{word:vowels}", sync),
            Route("/float/{number:float}/uuid/{who:uuid}", sync),
            Route("/slash/", sync),
            Route("/path/{rest:path}", sync),
            Route("/double", sync, methods=["GET"]),
            Route("/double", echo, methods=["POST"]),
            Mount("/static", StaticFiles(directory=Path(__file__).parent)),
            Mount("/mount", routes=[Route("/", home), Route("/{word}", sync)], middleware=[Middleware(CORSMiddleware)]),
            Mount("/{group}/many", Router([Route("/{word}", sync)])),
            Host("{sub}.example.net", Router([Route("/", sync)])),
        ],
        exception_handlers={404: not_found},
        lifespan=lifespan,
    )
    return app


def bare(trace: Trace) -> Starlette:
    """Build one with nothing else but a route, which fails without a query."""

    async def home(request: Request) -> Response:
        return PlainTextResponse(str(1 / len(request.query_params)))

    return Starlette(routes=[Route("/", home)])


_PATHS = (
    "/",
    "/sync",
    "/sync/",
    "/sync/7",
    "/sync/x",
    "/sync/-7",
    "/echo",
    "/fail/http",
    "/fail/absent",
    "/fail/value",
    "/stream",
    "/both",
    "/vowels/aei",
    "/vowels/xyz",
    "/float/1.5/uuid/7f6c1e2e-6c54-4b9e-9b9e-6a3d5f2b1c00",
    "/float/1/uuid/7",
    "/slash",
    "/slash/",
    "/path/",
    "/path/a/b",
    "/double",
    "/static/__init__.py",
    "/static/nothing",
    "/static/../secret",
    "/mount",
    "/mount/",
    "/mount/word",
    "/group/many/word",
    "/nowhere",
    "",
    "//",
    "/sync\n",
    "/ä",
)

REQUESTS = tuple(
    Asked(label=f"{method} {path} {body} {fields}", method=method, path=path, body=body, headers=fields)
    for path in _PATHS
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW")
    for body in ((b"",), (b"a", b"bc"))
    for fields in ((), ((b"origin", b"https://a.test"), (b"host", b"x.example.net")))
) + tuple(Asked(label=f"cut POST {path}", method="POST", path=path, body=(b"a",), is_whole=False) for path in _PATHS)
"""There is no OpenAPI document to lead to anything."""
