"""Dependencies of all kinds, their order and their clean-up, security schemes, context variables, request.state."""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
)
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    HTTPDigest,
    OAuth2PasswordBearer,
    OpenIdConnect,
    SecurityScopes,
)
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from tests.equality.driving import TINT, Trace
from tests.equality.driving import Request as Request_


class Named(BaseModel):
    name: str


class Pagination:
    def __init__(self, limit: int = 10, offset: Annotated[int, Query(ge=0)] = 0) -> None:
        self.limit = limit
        self.offset = offset


class Checker:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, q: str = "") -> bool:
        return self.word in q


class AsyncChecker(Checker):
    async def __call__(self, q: str = "") -> bool:  # type: ignore[override]
        return self.word in q

    def method(self, q: str = "") -> str:
        return f"{self.word}{q}"


def build(trace: Trace) -> FastAPI:
    async def of_the_app(request: Request) -> None:
        trace.note("of the app", request.url.path)
        request.state.marks = ["app"]

    app = FastAPI(dependencies=[Depends(of_the_app)])
    add_kinds(app, trace)
    add_generators(app, trace)
    add_contexts(app, trace)
    add_overridden(app, trace)
    add_security(app, trace)
    add_routers(app, trace)
    return app


def add_kinds(app: FastAPI, trace: Trace) -> None:
    def common(q: str | None = None, skip: int = 0) -> dict[str, object]:
        trace.note("common")
        return {"q": q, "skip": skip}

    async def acommon(x_token: Annotated[str, Header()] = "none") -> str:
        trace.note("acommon", x_token)
        return x_token

    def nested(
        common: Annotated[dict[str, Any], Depends(common)], other: Annotated[str, Depends(acommon)]
    ) -> list[Any]:
        trace.note("nested")
        return [common, other]

    @app.get("/sync-dependency")
    async def sync_dependency(common: Annotated[dict[str, Any], Depends(common)]) -> dict[str, Any]:
        return common

    @app.get("/sync-both")
    def sync_both(common: Annotated[dict[str, Any], Depends(common)]) -> dict[str, Any]:
        trace.note("endpoint")
        return common

    @app.get("/async-dependency")
    async def async_dependency(token: Annotated[str, Depends(acommon)]) -> str:
        return token

    @app.get("/nested")
    async def nesting(
        nested: Annotated[list[Any], Depends(nested)],
        common: Annotated[dict[str, Any], Depends(common)],
        again: Annotated[dict[str, Any], Depends(common)],
    ) -> list[Any]:
        trace.note("endpoint", common is again)
        return [nested, common, again]

    @app.get("/uncached")
    async def uncached(
        one: Annotated[dict[str, Any], Depends(common, use_cache=False)],
        two: Annotated[dict[str, Any], Depends(common, use_cache=False)],
        three: Annotated[dict[str, Any], Depends(common)],
    ) -> list[bool]:
        return [one is two, two is three]

    @app.get("/class")
    async def pagination(page: Annotated[Pagination, Depends()]) -> dict[str, int]:
        return vars(page)

    checker, achecker = Checker("a"), AsyncChecker("b")

    @app.get("/callable")
    async def called(
        one: Annotated[bool, Depends(checker)],
        two: Annotated[bool, Depends(achecker)],
        three: Annotated[str, Depends(achecker.method)],
        four: Annotated[str, Depends(functools.partial(achecker.method, "partial"))],
        five: Annotated[int, Depends(lambda: 5)],
    ) -> list[Any]:
        return [one, two, three, four, five]

    def refuse(q: str = "") -> None:
        if q:
            raise HTTPException(403, detail=q)

    async def crash(crash: bool = False) -> None:
        if crash:
            raise RuntimeError("in a dependency")

    @app.get("/refuse", dependencies=[Depends(refuse), Depends(crash), Depends(acommon)])
    async def refused(page: Annotated[Pagination, Depends()]) -> str:
        trace.note("endpoint")
        return "let through"

    async def with_body(named: Named, extra: Annotated[int, Body()] = 3) -> str:
        trace.note("with body", named.name, extra)
        return named.name

    @app.post("/body-of-dependency")
    async def body_of_dependency(name: Annotated[str, Depends(with_body)]) -> str:
        return name

    @app.post("/body-of-both")
    async def body_of_both(name: Annotated[str, Depends(with_body)], other: Named) -> list[str]:
        return [name, other.name]

    @app.get("/special/{number}")
    async def special(
        number: int,
        request: Request,
        response: Response,
        connection: HTTPConnection,
        tasks: BackgroundTasks,
        scopes: SecurityScopes,
    ) -> dict[str, object]:
        response.headers["x-seen"] = "yes"
        tasks.add_task(trace.note, "task")
        trace.note("special", request.path_params, request.query_params, dict(request.headers), request.cookies)
        trace.note("same", connection is request, scopes.scopes, request.app is app, request.scope["app"] is app)
        return {"number": number, "endpoint": request.scope["endpoint"].__name__}


def add_generators(app: FastAPI, trace: Trace) -> None:
    def opened(fail: str = "") -> Iterator[str]:
        trace.note("open")
        if fail == "open":
            raise ValueError("while opening")
        try:
            yield "opened"
            trace.note("left well")
        except HTTPException as raised:
            trace.note("left by", raised.status_code)
            raise
        except ZeroDivisionError as raised:
            trace.note("translated")
            raise HTTPException(418, detail="translated") from raised
        finally:
            trace.note("close")
            if fail == "close":
                raise ValueError("while closing")

    async def aopened(request: Request, opened: Annotated[str, Depends(opened)]) -> AsyncIterator[str]:
        trace.note("aopen")
        TINT.set("aopened")
        try:
            yield f"a{opened}"
        finally:
            trace.note("aclose", request.state.marks)

    def swallowing() -> Iterator[None]:
        with contextlib.suppress(Exception):
            yield
        trace.note("swallowed or not")

    async def answer(fail: str) -> str:
        trace.note("endpoint")
        if fail == "http":
            raise HTTPException(404, detail="not there")
        if fail == "zero":
            raise ZeroDivisionError("zero")
        if fail == "value":
            raise ValueError("value")
        return "well"

    @app.get("/yield")
    async def yielding(opened: Annotated[str, Depends(opened)], fail: str = "") -> str:
        return opened + await answer(fail)

    @app.get("/yield-async")
    async def yielding_async(
        aopened: Annotated[str, Depends(aopened)], opened: Annotated[str, Depends(opened)], fail: str = ""
    ) -> str:
        return aopened + opened + await answer(fail)

    @app.get("/yield-sync-endpoint")
    def yielding_sync(aopened: Annotated[str, Depends(aopened)], fail: str = "") -> str:
        trace.note("endpoint")
        if fail == "zero":
            raise ZeroDivisionError("zero")
        return aopened

    @app.get("/yield-and-background")
    async def with_background(tasks: BackgroundTasks, opened: Annotated[str, Depends(opened)]) -> str:
        tasks.add_task(trace.note, "background")
        return opened

    @app.get("/yield-and-stream")
    async def with_stream(opened: Annotated[str, Depends(opened)]) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(2):
                trace.note("part")
                yield opened

        return StreamingResponse(parts())

    @app.get("/swallow", dependencies=[Depends(swallowing)])
    async def swallow(fail: str = "") -> str:
        return await answer(fail)

    @app.get("/yield-function")
    async def of_function(
        early: Annotated[str, Depends(opened, scope="function")],
        late: Annotated[str, Depends(aopened, scope="request")],
    ) -> str:
        trace.note("endpoint")
        return early + late

    @app.get("/yield-validated")
    async def validated(opened: Annotated[str, Depends(opened)], number: int) -> int:
        return number

    @app.get("/yield-wrong-response", response_model=Named)
    async def wrong_response(opened: Annotated[str, Depends(opened)]) -> dict[str, str]:
        return {"nome": opened}


def add_contexts(app: FastAPI, trace: Trace) -> None:
    async def tinted(request: Request) -> None:
        TINT.set("by async")
        request.state.marks.append("async")

    def sync_tinted(request: Request) -> None:
        trace.note("sync tinted")
        TINT.set("by sync")
        request.state.marks.append("sync")

    def generator() -> Iterator[None]:
        token = TINT.set("by generator")
        trace.note("generator")
        yield
        trace.note("generator ends")
        with contextlib.suppress(ValueError):
            TINT.reset(token)

    async def agenerator() -> AsyncIterator[None]:
        token = TINT.set("by agenerator")
        yield
        trace.note("agenerator ends")
        TINT.reset(token)

    chains: dict[str, list[Callable[..., Any]]] = {
        "async": [tinted],
        "sync": [sync_tinted],
        "both": [tinted, sync_tinted],
        "other-way": [sync_tinted, tinted],
        "generator": [generator],
        "agenerator": [agenerator],
        "all": [agenerator, generator, sync_tinted, tinted],
    }
    for name, dependencies in chains.items():

        @app.get(f"/context/{name}", dependencies=[Depends(each) for each in dependencies])
        async def context(request: Request, tasks: BackgroundTasks) -> list[str]:
            trace.note("endpoint", request.state.marks)
            tasks.add_task(trace.note, "task")
            return [TINT.get(), *request.state.marks]

        @app.get(f"/context-sync/{name}", dependencies=[Depends(each) for each in dependencies])
        def context_sync(request: Request) -> list[str]:
            trace.note("endpoint", request.state.marks)
            TINT.set("by endpoint")
            return [TINT.get(), *request.state.marks]


def add_overridden(app: FastAPI, trace: Trace) -> None:
    def original(q: str = "") -> str:
        trace.note("original")
        return f"original {q}"

    async def stand_in(number: int = 1) -> str:
        trace.note("stand-in", number)
        return f"stand-in {number}"

    @app.get("/overridden")
    async def overridden(value: Annotated[str, Depends(original)]) -> str:
        return value

    @app.get("/overridden-nested")
    def overridden_nested(value: Annotated[str, Depends(lambda value=Depends(original): value)]) -> str:
        return value

    @app.post("/override")
    async def override() -> None:
        app.dependency_overrides[original] = stand_in

    @app.post("/override-no-more")
    async def no_more() -> None:
        app.dependency_overrides.clear()

    @app.post("/override-all")
    async def all_of_them() -> None:
        app.dependency_overrides = {original: lambda: "a new dict"}


def add_security(app: FastAPI, trace: Trace) -> None:
    schemes: dict[str, Any] = {
        "key-header": APIKeyHeader(name="x-key"),
        "key-query": APIKeyQuery(name="key"),
        "key-cookie": APIKeyCookie(name="key"),
        "basic": HTTPBasic(realm="here"),
        "bearer": HTTPBearer(),
        "digest": HTTPDigest(),
        "oauth2": OAuth2PasswordBearer("token", scopes={"read": "Read", "write": "Write"}),
        "openid": OpenIdConnect(openIdConnectUrl="/openid"),
        "basic-maybe": HTTPBasic(auto_error=False),
        "bearer-maybe": HTTPBearer(auto_error=False),
        "oauth2-maybe": OAuth2PasswordBearer("token", auto_error=False),
        "key-maybe": APIKeyHeader(name="x-key", auto_error=False),
    }
    for name, scheme in schemes.items():

        @app.get(f"/security/{name}")
        async def secured(given: Annotated[Any, Security(scheme)]) -> Any:
            trace.note("given", repr(given))
            if isinstance(given, (HTTPBasicCredentials, HTTPAuthorizationCredentials)):
                return given.model_dump()
            return given

    async def user(scopes: SecurityScopes, token: Annotated[str, Depends(schemes["oauth2"])]) -> str:
        trace.note("user", scopes.scopes, scopes.scope_str)
        if "write" in scopes.scopes and token != "writer":
            raise HTTPException(401, headers={"WWW-Authenticate": f'Bearer scope="{scopes.scope_str}"'})
        return token

    async def active(user: Annotated[str, Security(user, scopes=["read"])]) -> str:
        return user

    @app.get("/scoped")
    async def scoped(
        user: Annotated[str, Security(active, scopes=["write"])], again: Annotated[str, Depends(active)]
    ) -> list[str]:
        return [user, again]


def add_routers(app: FastAPI, trace: Trace) -> None:
    def noting(what: str) -> Callable[[], Awaitable[None]]:
        async def dependency() -> None:
            trace.note(what)

        return dependency

    inner = APIRouter(prefix="/inner", dependencies=[Depends(noting("inner router"))], tags=["inner"])

    @inner.get("/{number}", dependencies=[Depends(noting("route"))])
    async def of_inner(number: int, q: str = "") -> dict[str, object]:
        trace.note("endpoint")
        return {"number": number, "q": q}

    @inner.get("/text/{word}", response_class=PlainTextResponse)
    def text(word: str) -> str:
        return word

    outer = APIRouter(prefix="/outer/{group}", dependencies=[Depends(noting("outer router"))])

    @outer.get("")
    async def of_outer(group: str) -> str:
        return group

    outer.include_router(inner, prefix="/then", dependencies=[Depends(noting("included in outer"))])
    app.include_router(outer, prefix="/v1", dependencies=[Depends(noting("included in app"))])
    app.include_router(inner, prefix="/v2")
    app.include_router(inner)

    @inner.get("/late/added")
    async def late() -> str:
        return "added after it was included"


def _security() -> Iterator[Request_]:
    for name in (
        "key-header",
        "basic",
        "bearer",
        "digest",
        "oauth2",
        "openid",
        "basic-maybe",
        "bearer-maybe",
        "oauth2-maybe",
    ):
        for value in (
            b"Basic dXNlcjpwYXNz",
            b"basic dXNlcjpwYXNz",
            b"Basic dXNlcg==",
            b"Basic !!!",
            b"Basic /////w==",
            b"Bearer token",
            b"bearer  token",
            b"Bearer",
            b"Bearer ",
            b"Digest username=a",
            b"token",
            b"",
            b"\xff",
        ):
            yield Request_(
                label=f"{name} with {value!r}",
                path=f"/security/{name}",
                headers=((b"authorization", value), (b"x-key", value)),
            )
    for name in ("key-query", "key-cookie", "key-maybe"):
        for value in (b"", b"abc", b"%ff"):
            yield Request_(
                label=f"{name} with {value!r}",
                path=f"/security/{name}",
                query=b"key=" + value,
                headers=((b"cookie", b"key=" + value), (b"x-key", value)),
            )
    for token in (b"Bearer writer", b"Bearer reader", b"Basic eA=="):
        yield Request_(label=f"scoped with {token!r}", path="/scoped", headers=((b"authorization", token),))


def _failures() -> Iterator[Request_]:
    for path in ("/yield", "/yield-async", "/yield-sync-endpoint", "/yield-validated", "/yield-function", "/swallow"):
        for fail in ("", "open", "close", "http", "zero", "value"):
            for breaks_after in (None, 0, 1):
                yield Request_(
                    label=f"{path} fails by {fail!r}, breaks after {breaks_after}",
                    path=path,
                    query=f"fail={fail}&number=1".encode(),
                    breaks_after=breaks_after,
                )
    for query in (b"crash=true", b"q=no", b"q=no&crash=true", b"offset=-1&crash=1"):
        yield Request_(label=f"refuse {query!r}", path="/refuse", query=query)


def _overrides() -> Iterator[Request_]:
    asked = ("/overridden", "/overridden-nested")
    for step in ("/override", "/override-no-more", "/override-all", "/override-no-more"):
        yield Request_(label=step, method="POST", path=step)
        for path in asked:
            for query in (b"", b"q=a&number=2", b"number=x"):
                yield Request_(label=f"{path} with {query!r} after {step}", path=path, query=query)


REQUESTS = (*_security(), *_failures(), *_overrides())
"""What the OpenAPI document does not lead to."""
