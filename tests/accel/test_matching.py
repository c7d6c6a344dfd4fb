"""Routes are found as the framework finds them, whatever their order."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route

from fastserve.accel import explain
from tests.accel.comparing import Sent, both

PATHS = [
    "/",
    "/items",
    "/items/",
    "/items/me",
    "/items/{key}",
    "/items/{key:int}",
    "/items/{key}/parts/{part}",
    "/{rest:path}",
    "/files/{name:path}",
    "/files/{name}.txt",
    "/a.b",
    "/a+b/{x:float}",
    "/{one}/{two}",
    "/é",
]
TRIED = [
    *(
        "/",
        "/items",
        "/items/",
        "/items/me",
        "/items/5",
        "/items/5/parts/6",
        "/items/5/parts",
        "/items//",
        "/axb",
        "/a.b",
    ),
    *("/files/a/b.txt", "/files/a.txt", "/files/", "/a+b/1.5", "/aab/1.5", "/x/y", "/é", "/items/me\n", "/items\n", ""),
]
METHODS = ["GET", "POST", "PUT"]


def _app(routes: list[tuple[str, str]]) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for number, (method, path) in enumerate(routes):
        app.add_api_route(path, _endpoint(number), methods=[method])
    return app


def _endpoint(number: int) -> Any:
    async def read(request: Request) -> Any:
        return [number, request.path_params, request.scope["route"].path]

    return read


@given(st.lists(st.tuples(st.sampled_from(METHODS), st.sampled_from(PATHS)), min_size=1, max_size=8))
def test_the_same_route_answers_whatever_routes_there_are(routes: list[tuple[str, str]]) -> None:
    requests = [Sent(method, path) for method in (*METHODS, "HEAD", "BREW") for path in TRIED]
    both(lambda seen: _app(routes), *requests)


def _included(seen: list[Any]) -> FastAPI:
    app = FastAPI(openapi_url=None)
    inner = APIRouter(prefix="/inner", tags=["a"])
    outer = APIRouter(prefix="/outer")
    seen_in = []

    def note(name: str) -> Any:
        async def read(request: Request, key: str = "none") -> Any:
            noted = {each: type(value).__name__ for each, value in request.scope.get("fastapi", {}).items()}
            return [name, key, noted, request.scope["route"].path, request.url.path, str(request.url_for("named"))]

        return read

    app.add_api_route("/before", note("before"))
    inner.add_api_route("/{key}", note("inner"), name="named")
    inner.add_route("/plain/route", lambda request: PlainTextResponse("plain"))
    inner.mount("/mounted", FastAPI())
    outer.include_router(inner, prefix="/deep")
    outer.add_api_route("/{key}", note("outer"))
    app.include_router(outer)
    app.include_router(inner, prefix="/again")
    app.add_api_route("/after", note("after"))
    app.add_api_route("/outer/shadowed", note("shadowed"))
    seen_in.append(1)
    return app


@pytest.mark.parametrize(
    "path",
    [
        *("/before", "/after", "/outer/x", "/outer/deep/inner/y", "/again/inner/z", "/inner/z", "/outer/shadowed"),
        *("/again/inner/plain/route", "/again/mounted/docs", "/outer/", "/nowhere"),
    ],
)
def test_routers_within_routers_answer_alike(path: str) -> None:
    both(_included, Sent(path=path), Sent("POST", path))


def test_routes_of_included_routers_are_accelerated() -> None:
    reasons = {report.path: report.reason for report in explain(_included([]))}
    assert reasons["/before"] is reasons["/outer/deep/inner/{key}"] is reasons["/again/inner/{key}"] is None
    assert reasons["/after"] is None
    assert reasons["/again/mounted"] == "what is mounted is an application of its own"


def test_routes_after_one_that_matches_by_rules_of_its_own_are_left_to_the_framework() -> None:
    class Own(Route):
        def matches(self, scope: Any) -> Any:
            return super().matches({**scope, "path": scope["path"].lower()})

    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.add_api_route("/first", _endpoint(1))
        app.router.routes.append(Own("/own", lambda request: PlainTextResponse("own")))
        app.router.routes.append(Host("testserver", Mount("/hosted", FastAPI())))
        app.add_api_route("/Own", _endpoint(2))
        return app

    found = both(make, *[Sent(path=path) for path in ("/first", "/own", "/Own", "/OWN", "/hosted")])
    assert [done.body for done in found[1:4]] == [b"own"] * 3
    assert [report.accelerated for report in explain(make([]))] == [True, False, False, False]
