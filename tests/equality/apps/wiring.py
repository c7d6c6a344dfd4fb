"""What surrounds endpoints: middleware, exception handlers, mounts, sub-applications, lifespan, WebSockets."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.httpsredirect import HTTPSRedirectMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Host, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.equality.driving import TINT, Trace
from tests.equality.driving import Request as Asked

Next = Callable[[Request], Awaitable[Response]]


class Item(BaseModel):
    name: str
    price: float = 1.0


class Refused(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Watching:
    """A middleware of the pure kind: it notes what the scope and the messages are like."""

    def __init__(self, app: ASGIApp, trace: Trace) -> None:
        self.app = app
        self.trace = trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.trace.note("before", scope["type"], sorted(scope))

        async def watched(message: Message) -> None:
            self.trace.note("sends", sorted(message), message.get("headers"))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as raised:
            self.trace.note("raised", raised)
            raise
        finally:
            endpoint = scope.get("endpoint")
            self.trace.note("after", sorted(scope), scope.get("path_params"), getattr(endpoint, "__name__", None))


def add_endpoints(app: FastAPI | APIRouter, trace: Trace) -> None:
    @app.get("/plain")
    async def plain() -> dict[str, str]:
        trace.note("plain")
        return {"hello": "wörld"}

    @app.get("/sync/{number}")
    def sync(number: int) -> dict[str, int]:
        trace.note("sync", number)
        return {"number": number}

    @app.post("/item")
    async def item(item: Item) -> Item:
        return item

    @app.get("/long")
    async def long(request: Request) -> list[str]:
        trace.note("long", getattr(request.state, "marked", None))
        return ["x" * 100] * 20

    @app.get("/fail/{how}")
    async def fail(how: str) -> str:
        trace.note("fails", how)
        if how == "http":
            raise HTTPException(409, detail=["conflict"], headers={"x-why": "conflict"})
        if how == "starlette":
            raise StarletteHTTPException(404)
        if how == "refused":
            raise Refused(how)
        if how == "204":
            raise HTTPException(204)
        if how == "group":
            raise ExceptionGroup("two", [ValueError("a"), Refused("b")])
        if how == "validation":
            raise RequestValidationError([{"loc": ("own",), "msg": "own", "type": "own"}], body={"a": 1})
        if how == "base":
            raise asyncio_cancelled()
        raise ValueError(how)

    @app.get("/wrong", response_model=Item)
    async def wrong() -> dict[str, str]:
        return {"nome": "x"}


def asyncio_cancelled() -> BaseException:
    import asyncio

    return asyncio.CancelledError("by the endpoint")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    app.state.started = True
    yield {"shared": {"count": 0}, "word": "lifespan"}
    app.state.started = False


def build(trace: Trace) -> FastAPI:
    """Build one without any middleware of the user's, with a lifespan."""
    app = FastAPI(lifespan=lifespan, title="wiring", version="2")
    add_endpoints(app, trace)

    @app.get("/state")
    async def state(request: Request) -> list[object]:
        request.state.shared["count"] += 1
        request.state.own = 1
        return [request.state.shared["count"], request.state.word, request.app.state.started]

    @app.websocket("/ws/{number}")
    async def ws(websocket: WebSocket, number: int, q: Annotated[str, Depends(lambda q="none": q)]) -> None:
        await websocket.accept()
        trace.note("accepted", number, q)
        await websocket.send_json({"number": number, "q": q})
        await websocket.close()

    return app


def handled(trace: Trace) -> FastAPI:
    """Build one with exception handlers of its own."""
    app = FastAPI()
    add_endpoints(app, trace)

    @app.exception_handler(Refused)
    async def refused(request: Request, raised: Exception) -> JSONResponse:
        trace.note("handler", raised, request.url.path, TINT.get())
        return JSONResponse({"refused": str(raised)}, status_code=418)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, raised: RequestValidationError) -> Response:
        trace.note("invalid", raised.body, list(raised.errors()))
        response = await request_validation_exception_handler(request, raised)
        response.headers["x-handled"] = "yes"
        return response

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, raised: StarletteHTTPException) -> Response:
        trace.note("http", raised.status_code)
        return await http_exception_handler(request, raised)

    @app.exception_handler(405)
    def not_allowed(request: Request, raised: Exception) -> Response:
        trace.note("405")
        return PlainTextResponse("no", status_code=405)

    @app.exception_handler(500)
    async def crashed(request: Request, raised: Exception) -> Response:
        trace.note("500", raised)
        return PlainTextResponse("sorry", status_code=500)

    @app.exception_handler(ResponseValidationError)
    def wrong_response(request: Request, raised: Exception) -> Response:
        trace.note("wrong response", str(raised)[:60])
        return PlainTextResponse("wrong", status_code=502)

    return app


def failing_handlers(trace: Trace) -> FastAPI:
    """Build one whose exception handlers fail, and that runs in debug mode."""
    app = FastAPI(debug=False)
    add_endpoints(app, trace)

    @app.exception_handler(Refused)
    async def refused(request: Request, raised: Exception) -> Response:
        raise KeyError("in the handler")

    @app.exception_handler(404)
    async def absent(request: Request, raised: Exception) -> Response:
        return JSONResponse(None, status_code=200)

    return app


def _with(*middleware: Middleware) -> Callable[[Trace], FastAPI]:
    def build(trace: Trace) -> FastAPI:
        app = FastAPI(middleware=list(middleware))
        add_endpoints(app, trace)
        return app

    return build


cors = _with(
    Middleware(
        CORSMiddleware,
        allow_origins=["https://friend.test"],
        allow_methods=["GET", "PUT"],
        allow_headers=["X-One"],
        expose_headers=["X-Two"],
        allow_credentials=True,
        max_age=5,
    )
)
cors_of_all = _with(Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]))
cors_by_pattern = _with(
    Middleware(CORSMiddleware, allow_origin_regex="https://.*[.]test", allow_credentials=True, allow_methods=["*"])
)
gzip = _with(Middleware(GZipMiddleware, minimum_size=100, compresslevel=5))
hosts = _with(Middleware(TrustedHostMiddleware, allowed_hosts=["example.org", "*.example.net"]))
https = _with(Middleware(HTTPSRedirectMiddleware))


def watched(trace: Trace) -> FastAPI:
    """Build one with a pure middleware."""
    app = handled(trace)
    app.add_middleware(Watching, trace=trace)
    return app


def stacked(trace: Trace) -> FastAPI:
    """Build one with several kinds of middleware."""
    app = FastAPI(lifespan=lifespan)
    add_endpoints(app, trace)

    @app.middleware("http")
    async def mark(request: Request, call_next: Next) -> Response:
        trace.note("in", request.url.path)
        request.state.marked = "yes"
        TINT.set("middleware")
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        trace.note("out", response.status_code, TINT.get())
        return response

    @app.middleware("http")
    async def maybe(request: Request, call_next: Next) -> Response:
        if request.headers.get("x-stop"):
            return PlainTextResponse("stopped", status_code=403)
        try:
            return await call_next(request)
        except ValueError as raised:
            trace.note("caught", raised)
            return PlainTextResponse("caught", status_code=599)

    app.add_middleware(Watching, trace=trace)
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(CORSMiddleware, allow_origins=["https://friend.test"])
    return app


class Timed(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Next) -> Response:
        body = await request.body()
        response = await call_next(request)
        response.headers["x-body"] = str(len(body))
        return response


base = _with(Middleware(Timed))


def mounted(trace: Trace) -> FastAPI:
    """Build one with sub-applications, mounts, hosts, plain routes, and routers under a prefix."""
    app = FastAPI()
    add_endpoints(app, trace)
    sub = FastAPI()
    add_endpoints(sub, trace)

    @sub.get("/where")
    async def where(request: Request) -> list[object]:
        return [request.scope["root_path"], request.url.path, str(request.base_url), request.app is sub]

    deeper = FastAPI()
    add_endpoints(deeper, trace)
    sub.mount("/deeper", deeper)

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        trace.note("asgi", scope["path"], scope["root_path"], sorted(scope))
        await PlainTextResponse("pure")(scope, receive, send)

    async def own_route(request: Request) -> Response:
        trace.note("own route", request.path_params)
        return PlainTextResponse("route")

    def own_sync_route(request: Request) -> Response:
        trace.note("own sync route")
        return PlainTextResponse("sync route")

    router = APIRouter(prefix="/prefixed", default_response_class=PlainTextResponse)
    add_endpoints(router, trace)
    app.include_router(router)
    app.mount("/sub", sub)
    app.mount("/asgi", asgi)
    app.router.routes.append(Route("/route/{word}", own_route, methods=["GET", "PUT"]))
    app.add_route("/sync-route", own_sync_route)
    app.router.routes.append(Host("other.example.org", Router([Route("/", own_route)])))
    app.router.routes.append(Mount("/{tenant}/inside", Router([Route("/{word}", own_route)])))
    app.mount("/sub/later", asgi)

    @app.get("/sub/hidden")
    async def hidden() -> str:
        return "hidden by the mount"

    @app.get("/{rest:path}")
    async def rest(rest: str) -> str:
        return rest

    return app


class Timing(APIRoute):
    """A route class of the user's."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response: Response = await original(request)
            response.headers["x-route"] = "own"
            return response

        return handler


def own_classes(trace: Trace) -> FastAPI:
    """Build one with a route class of its own, a custom request, and strange settings."""
    app = FastAPI(redirect_slashes=False, openapi_url="/own.json", docs_url=None)
    router = APIRouter(route_class=Timing)
    add_endpoints(router, trace)
    app.include_router(router, prefix="/own")
    add_endpoints(app, trace)
    return app


def late(trace: Trace) -> FastAPI:
    """Build one that changes while it runs: routes, handlers and overrides come and go."""
    app = FastAPI()
    add_endpoints(app, trace)

    @app.post("/add")
    async def add() -> None:
        @app.get("/added")
        async def added() -> str:
            return "added"

    @app.post("/shadow")
    async def shadow() -> None:
        async def before() -> str:
            return "before all others"

        app.router.routes.insert(0, APIRoute("/plain", before))

    @app.post("/remove")
    async def remove() -> None:
        app.router.routes[:] = [each for each in app.router.routes if getattr(each, "path", "") != "/sync/{number}"]

    @app.post("/handler")
    async def handler() -> None:
        app.add_exception_handler(Refused, lambda request, raised: PlainTextResponse("late", status_code=417))

    return app


def _late() -> list[Asked]:
    asked = [
        Asked(label="/plain", path="/plain"),
        Asked(label="/added", path="/added"),
        Asked(label="/sync/1", path="/sync/1"),
        Asked(label="/fail/refused", path="/fail/refused"),
    ]
    made = [*asked, *asked]
    for step in ("/add", "/shadow", "/remove", "/handler"):
        made += [Asked(label=step, method="POST", path=step), *asked]
    return made


def _everywhere() -> list[Asked]:
    fields = {
        "origin": ((b"origin", b"https://friend.test"),),
        "strange origin": ((b"origin", b"https://foe.test"), (b"cookie", b"a=1")),
        "stop": ((b"x-stop", b"1"),),
        "gzip": ((b"accept-encoding", b"gzip, br"), (b"origin", b"https://a.test")),
        "other host": (),
    }
    made = []
    for prefix in ("", "/sub", "/sub/deeper", "/prefixed", "/own", "/api", "/api/sub"):
        paths = [
            f"/fail/{how}" for how in ("http", "starlette", "refused", "204", "group", "validation", "value", "base")
        ]
        for path in (
            *paths,
            "/plain",
            "/long",
            "/wrong",
            "/sync/1",
            "/sync/x",
            "/nowhere",
            "/where",
            "/asgi/x",
            "/x/inside/y",
        ):
            made += [
                Asked(label=f"{prefix}{path} with {name}", path=prefix + path, headers=added)
                for name, added in fields.items()
            ]
    for path in (
        "/asgi",
        "/asgi/",
        "/asgi/a/b",
        "/route/x",
        "/sync-route",
        "/sub",
        "/sub/",
        "/sub/hidden",
        "/sub/later/x",
    ):
        made += [
            Asked(label=f"{method} {path}", path=path, method=method) for method in ("GET", "PUT", "HEAD", "OPTIONS")
        ]
    host = {"headers": [(b"host", b"other.example.org")]}
    made += [Asked(label="by host", scope=host), Asked(label="by host, elsewhere", path="/plain", scope=host)]
    socket: dict[str, Any] = {"type": "websocket", "method": None, "subprotocols": []}
    made += [
        Asked(label=f"WebSocket {path}", path=path, scope=socket) for path in ("/ws/1", "/ws/x", "/plain", "/nowhere")
    ]
    return made


REQUESTS = tuple(_everywhere())
"""What the OpenAPI document does not lead to."""
LATE = tuple(_late())
"""What is asked of an application while it changes, in this order."""
