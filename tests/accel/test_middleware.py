"""Accelerated endpoints within middleware, and exceptions: which handler sees which, and what is sent."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.routing import Mount, Route, Router, WebSocketRoute

from fastserve.accel import accelerate
from tests.accel.comparing import Sent, both, by_accelerator, exchange


class Odd(Exception):
    """An exception of the application."""


def _raising(seen: list[Any], app: FastAPI) -> FastAPI:
    @app.get("/http")
    async def http() -> None:
        raise HTTPException(418, "teapot", headers={"x-a": "b"})

    @app.get("/not-modified")
    async def not_modified() -> None:
        raise HTTPException(304)

    @app.get("/odd")
    async def odd() -> None:
        raise Odd("odd")

    @app.get("/odd-sync")
    def odd_sync() -> None:
        raise Odd("odd")

    @app.get("/group")
    async def group() -> None:
        raise ExceptionGroup("two", [Odd("a"), ValueError("b")])

    @app.get("/late")
    async def late() -> Response:
        async def chunks() -> Any:
            yield b"a"
            raise Odd("late")

        return StreamingResponse(chunks())

    @app.get("/stop")
    def stop() -> None:
        raise StopIteration

    @app.get("/by-dependency")
    async def by_dependency(a: Annotated[None, Depends(odd)]) -> None:
        seen.append("never")

    return app


async def note_odd(request: Request, error: Exception) -> Response:
    note(request, error, "odd")
    return PlainTextResponse("odd", 409)


def note(request: Request, error: Exception, name: str) -> None:
    request.scope["seen"].append((name, repr(error), request.url.path, request.scope.get("path_params")))


def note_in_thread(request: Request, error: Exception) -> Response:
    note(request, error, "thread")
    return PlainTextResponse("thread", 410)


async def fail(request: Request, error: Exception) -> Response:
    note(request, error, "fail")
    raise ValueError("in the handler")


async def none(request: Request, error: Exception) -> None:
    note(request, error, "none")


HANDLERS: dict[str, dict[Any, Callable[..., Any]]] = {
    "none": {},
    "odd": {Odd: note_odd},
    "base": {Exception: note_odd},
    "status": {418: note_odd, 500: note_in_thread},
    "thread": {Odd: note_in_thread},
    "failing": {Odd: fail},
    "failing-and-handled": {Odd: fail, ValueError: note_odd},
    "failing-at-last": {500: fail},
    "no-response": {Odd: none},
}


@pytest.mark.parametrize("handlers", HANDLERS)
@pytest.mark.parametrize(
    "path", ["/http", "/not-modified", "/odd", "/odd-sync", "/group", "/late", "/stop", "/by-dependency"]
)
@pytest.mark.parametrize("middleware", [False, True], ids=["bare", "within-middleware"])
def test_an_exception_is_handled_alike(handlers: str, path: str, middleware: bool) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(exception_handlers=HANDLERS[handlers])
        if middleware:
            app.add_middleware(Noting, seen=seen)
        return _raising(seen, app)

    both(make, Sent(path=path, body=(b"", b""), scope={"seen": _Notes()}))


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("handlers", ["odd", "failing-and-handled", "none"])
@pytest.mark.parametrize(
    "middleware", [[], [CORSMiddleware], [GZipMiddleware]], ids=["bare", "cors", "within-middleware"]
)
@pytest.mark.parametrize("kind", [FastAPI, Starlette])
@pytest.mark.usefixtures("no_collections")
def test_what_an_endpoint_holds_is_let_go_with_its_exception(kind: Any, middleware: list[Any], handlers: str) -> None:
    def make(seen: list[Any]) -> Starlette:
        async def hold(request: Any = None) -> Any:
            held = Odd("held")
            weakref.finalize(held, seen.append, "let go")
            raise Odd("odd")

        app: Starlette = kind(middleware=list(map(Middleware, middleware)), exception_handlers=HANDLERS[handlers])
        if isinstance(app, FastAPI):
            app.get("/")(hold)
        else:
            app.router.add_route("/", hold)
        return app

    [done] = both(make, Sent(scope={"seen": _Notes()}))
    assert done.seen == ["let go"]


def test_an_exception_that_is_raised_again_and_again_has_the_traceback_that_it_has_without() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(exception_handlers={Odd: note_odd})
        error = Odd("always the same")

        @app.get("/")
        async def fail() -> None:
            seen.append(error.__traceback__ is None)
            raise error

        return app

    first, second = both(make, *[Sent(scope={"seen": _Notes()})] * 2)
    assert first.seen == [True]
    assert len(second.seen) == 1


class _Notes(list[Any]):
    """Notes that are the same for comparisons, whatever they say: both applications write into one list."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Notes)

    __hash__ = None


class Noting:
    """A middleware that notes what passes."""

    def __init__(self, app: Any, seen: list[Any]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            self.seen.append((message["type"], message.get("status"), sorted(message.get("headers", ()))))
            await send(message)

        self.seen.append(scope["path"])
        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            self.seen.append(repr(error))
            raise
        self.seen.append(sorted(scope))


class Hiding:
    """A middleware that does not say where the next one is."""

    def __init__(self, app: Any) -> None:
        self._next = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._next(scope, receive, send)


def _small(seen: list[Any], *middleware: Middleware) -> FastAPI:
    app = FastAPI(middleware=list(middleware))

    @app.get("/items/{key}")
    async def read(key: int, request: Request) -> Any:
        return {"key": key, "route": request.scope["route"].path, "who": str(request.app is app)}

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"message": "Hello"}

    @app.get("/large")
    async def large() -> list[str]:
        return ["x" * 100] * 100

    return app


async def dispatch(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers["x-path"] = request.url.path
    return response


ORIGIN = (b"origin", b"https://example.com")
MIDDLEWARE: dict[str, Callable[[list[Any]], list[Middleware]]] = {
    "none": lambda seen: [],
    "noting": lambda seen: [Middleware(Noting, seen=seen)],
    "hiding": lambda seen: [Middleware(Hiding)],
    "base": lambda seen: [Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
    "cors-all": lambda seen: [Middleware(CORSMiddleware, allow_origins=["*"])],
    "cors-credentials": lambda seen: [Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)],
    "cors-one": lambda seen: [
        Middleware(
            CORSMiddleware, allow_origins=["https://example.com"], expose_headers=["X-A"], allow_credentials=True
        )
    ],
    "cors-regex": lambda seen: [Middleware(CORSMiddleware, allow_origin_regex="https://.*")],
    "cors-twice": lambda seen: [
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(CORSMiddleware, allow_origins=["https://example.com"]),
    ],
    "cors-noting": lambda seen: [Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(Noting, seen=seen)],
    "gzip": lambda seen: [Middleware(GZipMiddleware), Middleware(Noting, seen=seen)],
    "host": lambda seen: [Middleware(TrustedHostMiddleware, allowed_hosts=["other"])],
}
REQUESTS = {
    "root": Sent(),
    "origin": Sent(headers=(ORIGIN,)),
    "origin-other": Sent(headers=((b"origin", b"http://other"),)),
    "origin-twice": Sent(headers=(ORIGIN, (b"origin", b"http://other"))),
    "preflight": Sent("OPTIONS", headers=(ORIGIN, (b"access-control-request-method", b"GET"))),
    "parameter": Sent(path="/items/5", headers=(ORIGIN,)),
    "invalid": Sent(path="/items/x", headers=(ORIGIN,)),
    "not-found": Sent(path="/nowhere", headers=(ORIGIN,)),
    "large": Sent(path="/large", headers=(ORIGIN, (b"accept-encoding", b"gzip"))),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_middleware_sees_and_does_the_same(middleware: str, name: str) -> None:
    request = REQUESTS[name]

    def make(seen: list[Any]) -> FastAPI:
        return _small(seen, *MIDDLEWARE[middleware](seen))

    both(make, Sent(request.method, request.path, headers=request.headers, body=(b"", b"")))


def test_endpoints_within_middleware_are_accelerated_even_if_it_hides_what_is_next() -> None:
    app = FastAPI(middleware=[Middleware(Hiding)])

    @app.get("/")
    async def read() -> Any:
        return by_accelerator()

    assert asyncio.run(exchange(accelerate(app), Sent())).body == b"true"


def test_middleware_is_made_once_and_stays_the_applications_own() -> None:
    made: list[Any] = []

    class Counting(Hiding):
        def __init__(self, app: Any) -> None:
            super().__init__(app)
            made.append(self)

    app = FastAPI(middleware=[Middleware(Counting)])
    users = app.user_middleware
    asyncio.run(exchange(accelerate(app), Sent(path="/docs")))
    asyncio.run(exchange(app, Sent(path="/docs")))
    assert len(made) == 1
    assert app.user_middleware is users


def test_an_application_that_has_its_middleware_already_is_accelerated() -> None:
    app = FastAPI()

    @app.get("/")
    async def read() -> Any:
        return by_accelerator()

    assert asyncio.run(exchange(app, Sent())).body == b"false"
    assert asyncio.run(exchange(accelerate(app), Sent())).body == b"true"


@pytest.mark.parametrize("debug", [False, True])
def test_debug_pages_are_the_frameworks(debug: bool) -> None:
    def make(seen: list[Any]) -> FastAPI:
        return _raising(seen, FastAPI(debug=debug))

    found = both(make, Sent(path="/http"), Sent(path="/odd"))
    assert (b"Traceback" in found[1].body) == debug


# Starlette.


async def read_path(request: Any) -> Response:
    return JSONResponse(
        {
            "path": request.url.path,
            "params": request.path_params,
            "query": dict(request.query_params),
            "ours": by_accelerator(),
        }
    )


def read_in_a_thread(request: Any) -> Response:
    return PlainTextResponse(request.path_params.get("key", "none"))


async def refuse(request: Any) -> Response:
    raise HTTPException(403, "no")


async def odd_page(request: Any) -> Response:
    raise Odd("odd")


async def socket(websocket: Any) -> None:
    await websocket.close()


def _starlette(seen: list[Any]) -> Starlette:
    inner = Router([Route("/inner/{key}", read_in_a_thread)])
    return Starlette(
        routes=[
            Route("/", read_in_a_thread),
            Route("/items/{key:int}", read_in_a_thread),
            Route("/text/{key}", read_in_a_thread, methods=["GET", "POST"]),
            Route("/refused", refuse),
            Route("/odd", odd_page),
            WebSocketRoute("/socket", socket),
            Mount("/mounted", inner),
            Mount("/api", FastAPI()),
            Route("/last", read_in_a_thread),
        ],
        exception_handlers={Odd: note_odd},
    )


@pytest.mark.parametrize(
    "request_",
    [
        Sent(),
        Sent("HEAD"),
        Sent("POST"),
        Sent(path="/items/5"),
        Sent(path="/text/abc"),
        Sent("POST", "/text/abc"),
        Sent(path="/text/abc/"),
        Sent(path="/refused"),
        Sent(path="/odd", scope={"seen": _Notes()}),
        Sent(path="/mounted/inner/x"),
        Sent(path="/mounted"),
        Sent(path="/api/docs"),
        Sent(path="/last"),
        Sent(path="/socket"),
        Sent(path="/nowhere"),
    ],
    ids=lambda sent: f"{sent.method} {sent.path}",
)
def test_starlette_answers_alike(request_: Sent) -> None:
    both(_starlette, request_)


def test_functions_of_starlette_are_accelerated() -> None:
    app = Starlette(routes=[Route("/{key}", read_path)])
    done = asyncio.run(exchange(accelerate(app), Sent(path="/a", query=b"b=c")))
    assert done.body == b'{"path":"/a","params":{"key":"a"},"query":{"b":"c"},"ours":true}'
