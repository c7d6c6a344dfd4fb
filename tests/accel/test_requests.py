"""What accelerated endpoints get: the same arguments, and the same errors when there is something wrong with them."""

import asyncio
import importlib.util
import inspect
import uuid
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import Body, Cookie, Depends, FastAPI, Form, Header, HTTPException, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer, OAuth2PasswordBearer, SecurityScopes
from pydantic import BaseModel

from fastserve.accel import accelerate
from tests.accel.comparing import Sent, both, by_accelerator, exchange

JSON = (b"content-type", b"application/json")


class Item(BaseModel):
    name: str
    price: float = 1.0


class Filter(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = 10
    tags: list[str] = []


HAS_FORMS = importlib.util.find_spec("python_multipart") is not None
HAS_FORM_LIMITS = "form_limits" in inspect.signature(FastAPI).parameters


def _add_forms(app: FastAPI) -> None:
    @app.post("/form")
    async def post_form(name: Annotated[str, Form()], count: Annotated[int, Form()] = 1) -> Any:
        return [name, count]

    @app.post("/form-model")
    async def post_form_model(item: Annotated[Item, Form()]) -> Any:
        return item


def _app(seen: list[Any]) -> FastAPI:  # noqa: C901 - endpoints count
    app = FastAPI()

    @app.get("/items/{item_id}/{rest:path}")
    async def read(
        item_id: int,
        rest: str,
        q: str | None = None,
        limit: Annotated[int, Query(ge=1, alias="max")] = 10,
        tags: Annotated[list[str], Query()] = [],  # noqa: B006
        flag: bool = False,
    ) -> Any:
        return [item_id, rest, q, limit, tags, flag]

    @app.get("/plain/{item_id}")
    async def read_plain(
        item_id: Annotated[int, Path(ge=1)], q: str, flag: bool = False, number: float | None = None
    ) -> Any:
        return [item_id, q, flag, number]

    @app.get("/uuid/{key:uuid}/{number:int}/{ratio:float}")
    async def read_converted(key: uuid.UUID, number: int, ratio: float) -> Any:
        return [key, number, ratio]

    @app.get("/header")
    async def read_header(
        x_token: Annotated[str, Header()],
        accept: Annotated[list[str] | None, Header()] = None,
        raw_name: Annotated[str | None, Header(convert_underscores=False)] = None,
    ) -> Any:
        return [x_token, accept, raw_name]

    @app.get("/one-header")
    async def read_one_header(
        x_token: Annotated[str, Header(min_length=3)], user_agent: Annotated[str | None, Header()] = None
    ) -> Any:
        return [x_token, user_agent]

    @app.get("/cookie")
    async def read_cookie(session: Annotated[str, Cookie()], other: Annotated[int, Cookie()] = 3) -> Any:
        return [session, other]

    @app.get("/model")
    async def read_model(found: Annotated[Filter, Query()]) -> Any:
        return found

    @app.post("/body")
    async def post_body(item: Item) -> Any:
        return item

    @app.post("/optional")
    async def post_optional(item: Item | None = None) -> Any:
        return item

    @app.post("/two")
    async def post_two(item: Item, count: Annotated[int, Body()], q: int = 0) -> Any:
        return [item, count, q]

    @app.post("/embedded")
    async def post_embedded(item: Annotated[Item, Body(embed=True)]) -> Any:
        return item

    @app.post("/any")
    async def post_any(value: Annotated[Any, Body()]) -> Any:
        return {"value": repr(value)}

    @app.post("/bytes")
    async def post_bytes(value: Annotated[bytes, Body()]) -> Any:
        return {"value": repr(value)}

    if HAS_FORMS:
        _add_forms(app)

    @app.get("/default-factory")
    async def read_factory(q: Annotated[list[int], Query(default_factory=lambda: [1])]) -> Any:
        return q

    @app.post("/request")
    async def post_request(request: Request, item: Item) -> Any:
        return [(await request.body()).decode(), await request.json(), request.url.path, str(request.query_params)]

    return app


REQUESTS = {
    "path": Sent(path="/items/5/a/b"),
    "path-not-a-number": Sent(path="/items/x/a"),
    "path-huge-number": Sent(path="/plain/" + "9" * 5000, query=b"q=a"),
    "path-line-feed": Sent(path="/plain/5\n", query=b"q=a"),
    "path-encoded": Sent(path="/plain/5 ", query=b"q=a"),
    "path-below-bound": Sent(path="/plain/0", query=b"q=a"),
    "convertors": Sent(path=f"/uuid/{uuid.UUID(int=7)}/12/1.5"),
    "convertor-huge": Sent(path=f"/uuid/{uuid.UUID(int=7)}/{'1' * 5000}/1.5"),
    "convertors-no-match": Sent(path="/uuid/x/12/1.5"),
    "query": Sent(path="/items/5/a", query=b"q=x&max=3&tags=a&tags=b&flag=on"),
    "query-wrong": Sent(path="/items/5/a", query=b"max=0&flag=maybe"),
    "query-escaped": Sent(path="/plain/5", query=b"q=a%20b+c%C3%A9&flag=1"),
    "query-not-utf-8": Sent(path="/plain/5", query=b"q=%ff%fe&flag=1"),
    "query-raw-latin": Sent(path="/plain/5", query=b"q=\xff"),
    "query-twice": Sent(path="/plain/5", query=b"q=a&q=b"),
    "query-odd": Sent(path="/plain/5", query=b"&&=x&q&flag==&q=a=b&"),
    "query-semicolon": Sent(path="/plain/5", query=b"q=a;number=3"),
    "query-empty": Sent(path="/plain/5", query=b"q=&number="),
    "query-number": Sent(path="/plain/5", query=b"q=a&number=1e400"),
    "query-nan": Sent(path="/plain/5", query=b"q=a&number=nan"),
    "query-missing": Sent(path="/plain/5"),
    "query-model": Sent(path="/model", query=b"limit=3&tags=a&tags=b"),
    "query-model-extra": Sent(path="/model", query=b"limit=3&other=1"),
    "query-factory": Sent(path="/default-factory"),
    "header": Sent(path="/header", headers=((b"x-token", b"abc"), (b"accept", b"a"), (b"accept", b"b"))),
    "header-missing": Sent(path="/header"),
    "header-latin": Sent(path="/one-header", headers=((b"x-token", b"abc\xe9"),)),
    "header-twice": Sent(path="/one-header", headers=((b"x-token", b"first"), (b"x-token", b"second"))),
    "header-short": Sent(path="/one-header", headers=((b"x-token", b"a"),)),
    "header-none": Sent(path="/one-header"),
    "cookie": Sent(path="/cookie", headers=((b"cookie", b'session="a b"; other=4'),)),
    "cookie-wrong": Sent(path="/cookie", headers=((b"cookie", b"other=x"),)),
    "body": Sent("POST", "/body", headers=(JSON,), body=(b'{"name":"a","price":2}',)),
    "body-chunks": Sent("POST", "/body", headers=(JSON,), body=(b'{"na', b"", b'me":"a"}')),
    "body-missing": Sent("POST", "/body", headers=(JSON,)),
    "body-null": Sent("POST", "/body", headers=(JSON,), body=(b"null",)),
    "body-wrong": Sent("POST", "/body", headers=(JSON,), body=(b'{"price":"x"}',)),
    "body-broken": Sent("POST", "/body", headers=(JSON,), body=(b'{"name":',)),
    "body-not-utf-8": Sent("POST", "/body", headers=(JSON,), body=(b'{"name":"\xff"}',)),
    "body-utf-16": Sent("POST", "/body", headers=(JSON,), body=('{"name":"é"}'.encode("utf-16"),)),
    "body-bom": Sent("POST", "/body", headers=(JSON,), body=(b'\xef\xbb\xbf{"name":"a"}',)),
    "body-disconnect": Sent("POST", "/body", headers=(JSON,), body=(b'{"na', None)),
    "body-no-type": Sent("POST", "/body", body=(b'{"name":"a"}',)),
    "body-type-charset": Sent(
        "POST", "/body", headers=((b"content-type", b"application/json; charset=utf-8"),), body=(b'{"name":"a"}',)
    ),
    "body-type-vendor": Sent(
        "POST", "/body", headers=((b"content-type", b"application/vnd.api+json"),), body=(b'{"name":"a"}',)
    ),
    "body-type-text": Sent("POST", "/body", headers=((b"content-type", b"text/plain"),), body=(b'{"name":"a"}',)),
    "body-type-odd": Sent("POST", "/body", headers=((b"content-type", b"application/json, text"),), body=(b"{}",)),
    "body-deep": Sent("POST", "/any", headers=(JSON,), body=(b"[" * 300 + b"]" * 300,)),
    "body-nan": Sent("POST", "/any", headers=(JSON,), body=(b"[NaN, Infinity, -Infinity, -0, -0.0, 1E400, 1e5]",)),
    "body-huge-int": Sent("POST", "/any", headers=(JSON,), body=(b"9" * 100,)),
    "body-too-huge-int": Sent("POST", "/any", headers=(JSON,), body=(b"9" * 5000,)),
    "body-duplicate-keys": Sent("POST", "/any", headers=(JSON,), body=(b'{"a":1,"b":2,"a":3}',)),
    "body-surrogate": Sent("POST", "/any", headers=(JSON,), body=(rb'"\ud800 \ud83d\ude00"',)),
    "body-control": Sent("POST", "/any", headers=(JSON,), body=(b'"a\tb"',)),
    "body-optional": Sent("POST", "/optional"),
    "body-bytes": Sent("POST", "/bytes", body=(b"\xff",)),
    "body-two": Sent("POST", "/two", headers=(JSON,), query=b"q=4", body=(b'{"item":{"name":"a"},"count":2}',)),
    "body-two-wrong": Sent("POST", "/two", headers=(JSON,), query=b"q=x", body=(b'{"item":{},"count":"x"}',)),
    "body-two-list": Sent("POST", "/two", headers=(JSON,), body=(b"[1]",)),
    "body-embedded": Sent("POST", "/embedded", headers=(JSON,), body=(b'{"item":{"name":"a"}}',)),
    "body-request": Sent("POST", "/request", headers=(JSON,), query=b"a=b", body=(b'{"name":"a"}',)),
    "form": Sent(
        "POST", "/form", headers=((b"content-type", b"application/x-www-form-urlencoded"),), body=(b"name=a&count=3",)
    ),
    "form-wrong": Sent(
        "POST", "/form", headers=((b"content-type", b"application/x-www-form-urlencoded"),), body=(b"count=x",)
    ),
    "form-model": Sent(
        "POST", "/form-model", headers=((b"content-type", b"application/x-www-form-urlencoded"),), body=(b"name=a",)
    ),
    "form-multipart": Sent(
        "POST",
        "/form",
        headers=((b"content-type", b"multipart/form-data; boundary=x"),),
        body=(b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n--x--\r\n',),
    ),
    "not-found": Sent(path="/nowhere"),
    "method": Sent("PUT", "/body"),
    "slash": Sent(path="/header/"),
    "head": Sent("HEAD", "/header"),
    "openapi": Sent(path="/openapi.json"),
    "docs": Sent(path="/docs"),
    "root-path": Sent(path="/prefix/plain/5", query=b"q=a", scope={"root_path": "/prefix"}),
    "query-as-text": Sent(path="/plain/5", scope={"query_string": "q=a%20b&flag=1"}),
    "query-as-text-wrong": Sent(path="/plain/5", scope={"query_string": "flag=1"}),
    "path-params": Sent(path="/plain/5", query=b"q=a", scope={"path_params": {"other": 1}}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_endpoint_gets_the_same_arguments(name: str) -> None:
    [done] = both(_app, REQUESTS[name])
    assert done.messages or done.raised


def test_one_application_answers_all_of_them_in_turn() -> None:
    assert len(both(_app, *REQUESTS.values())) == len(REQUESTS)


def test_plain_parameters_are_not_left_to_the_framework() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/{number}")
        async def read(number: int, q: str, x: Annotated[str, Header()]) -> Any:
            seen.append("called")
            return by_accelerator()

        return app

    done = asyncio.run(exchange(accelerate(make([])), Sent(path="/5", query=b"q=a", headers=((b"x", b"y"),))))
    assert done.body == b"true"
    done = asyncio.run(exchange(make([]), Sent(path="/5", query=b"q=a", headers=((b"x", b"y"),))))
    assert done.body == b"false"


# Dependencies.

variable: ContextVar[str] = ContextVar("variable", default="unset")


def _with_dependencies(seen: list[Any]) -> FastAPI:  # noqa: C901 - endpoints count
    app = FastAPI(dependencies=[Depends(lambda: seen.append("of the app"))])

    async def shared(q: str = "none") -> str:
        seen.append(("shared", q))
        return q

    def in_thread(found: Annotated[str, Depends(shared)]) -> str:
        seen.append("in thread")
        return found.upper()

    async def sets() -> AsyncIterator[str]:
        variable.set("set")
        seen.append("enter async")
        try:
            yield "value"
        except Exception as error:
            seen.append(f"saw {error!r}")
            raise
        finally:
            seen.append(f"leave async {variable.get()}")

    def generator() -> Iterator[int]:
        seen.append("enter")
        yield 1
        seen.append("leave")

    class Pagination:
        def __init__(self, limit: int = 10) -> None:
            self.limit = limit

    class Caller:
        def __call__(self, x_key: Annotated[str | None, Header()] = None) -> str:
            return f"key {x_key}"

    @app.get("/cached")
    async def cached(
        a: Annotated[str, Depends(shared)],
        b: Annotated[str, Depends(in_thread)],
        c: Annotated[str, Depends(shared, use_cache=False)],
    ) -> Any:
        return [a, b, c]

    @app.get("/class")
    async def with_class(page: Annotated[Pagination, Depends()], key: Annotated[str, Depends(Caller())]) -> Any:
        return [page.limit, key]

    @app.get("/generators")
    async def generators(a: Annotated[str, Depends(sets)], b: Annotated[int, Depends(generator)]) -> Any:
        seen.append("endpoint")
        return [a, b, variable.get()]

    @app.get("/function-scope")
    async def function_scope(a: Annotated[str, Depends(sets, scope="function")]) -> Any:
        return a

    @app.get("/generators-fail")
    async def generators_fail(a: Annotated[str, Depends(sets)], b: Annotated[int, Depends(generator)]) -> Any:
        raise HTTPException(418, "teapot")

    def refuse(limit: int = 1) -> None:
        raise HTTPException(403, "no", headers={"x-why": "because"})

    @app.get("/refused")
    async def refused(a: Annotated[None, Depends(refuse)], q: int) -> Any:
        seen.append("never")

    @app.get("/errors")
    async def errors(a: Annotated[Pagination, Depends()], b: Annotated[str, Depends(in_thread)], n: int) -> Any:
        seen.append("never")

    bearer = OAuth2PasswordBearer("token", scopes={"read": "", "write": ""})

    async def user(scopes: SecurityScopes, token: Annotated[str, Depends(bearer)]) -> Any:
        return [scopes.scopes, token]

    @app.get("/secure")
    async def secure(
        found: Annotated[Any, Security(user, scopes=["read"])], other: Annotated[Any, Security(user, scopes=["write"])]
    ) -> Any:
        return [found, other]

    @app.get("/bearer")
    async def with_bearer(found: Annotated[Any, Depends(HTTPBearer(auto_error=False))]) -> Any:
        return found

    return app


DEPENDENCIES = {
    "cached": Sent(path="/cached", query=b"q=x"),
    "class": Sent(path="/class", query=b"limit=3", headers=((b"x-key", b"k"),)),
    "generators": Sent(path="/generators"),
    "function-scope": Sent(path="/function-scope"),
    "generators-fail": Sent(path="/generators-fail"),
    "refused": Sent(path="/refused", query=b"q=x"),
    "errors": Sent(path="/errors", query=b"limit=x"),
    "secure": Sent(path="/secure", headers=((b"authorization", b"Bearer abc"),)),
    "insecure": Sent(path="/secure"),
    "bearer": Sent(path="/bearer", headers=((b"authorization", b"Bearer abc"),)),
    "no-bearer": Sent(path="/bearer"),
}


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_dependencies_are_called_in_the_same_order(name: str) -> None:
    [done] = both(_with_dependencies, DEPENDENCIES[name])
    assert "of the app" in done.seen


def test_overrides_are_respected_from_the_request_after_which_they_are_set() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        async def original() -> str:
            return "original"

        async def other(q: str = "other") -> str:
            return q

        @app.get("/")
        async def read(value: Annotated[str, Depends(original)]) -> str:
            return value

        @app.get("/set")
        async def set_override() -> None:
            app.dependency_overrides[original] = other

        @app.get("/unset")
        async def unset() -> None:
            app.dependency_overrides.clear()

        return app

    read = Sent(query=b"q=x")
    found = both(make, read, Sent(path="/set"), read, Sent(path="/unset"), read)
    assert [done.body for done in found if done.body != b"null"] == [b'"original"', b'"x"', b'"original"']


def test_handlers_of_validation_errors_get_the_same_request_and_errors() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.exception_handler(RequestValidationError)
        async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
            seen.append(
                (error.errors(), error.body, (await request.body()), request.path_params, request.scope["route"].path)
            )
            return JSONResponse(error.errors(), 400)

        @app.post("/{key}")
        async def post(key: int, item: Item, q: int) -> Any:
            return item

        return app

    [done] = both(make, Sent("POST", "/x", query=b"q=y", headers=(JSON,), body=(b'{"price":"z"}',)))
    assert len(done.seen) == 1


@pytest.mark.skipif(not HAS_FORM_LIMITS, reason="this FastAPI has no limits on forms")
def test_limits_on_forms_are_noted_for_what_the_application_serves_by_itself_too() -> None:
    done = both(lambda seen: FastAPI(form_limits={"max_fields": 5}), Sent(path="/openapi.json"), Sent(path="/docs"))
    assert [(each.status, "fastapi" in each.keys) for each in done] == [(200, True)] * 2
