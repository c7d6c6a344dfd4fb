"""What accelerated endpoints answer: the same bytes, in the same messages."""

import dataclasses
import datetime
import enum
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field, field_validator

from fastserve.accel import explain
from tests.accel.comparing import Sent, both


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Model(BaseModel):
    a: int = 1
    b: str | None = Field(default=None, alias="B")


@dataclasses.dataclass
class Data:
    x: int = 1


def _deep(depth: int) -> Any:
    return [_deep(depth - 1)] if depth else 1


RESULTS = {
    "dict": {"message": "Hello, World!"},
    "nested": {"a": [1, 2.5, None, True, {"b": ()}], "c": (1, "two")},
    "none": None,
    "true": True,
    "string": "text",
    "list": [1, 2, 3],
    "empty": {},
    "unicode": {"é\u2028\x00\x1f\x7f": '\U0001f600 "quoted" back\\slash /'},
    "surrogate": {"a": "\ud800"},
    "big-int": {"a": 2**63 - 1, "b": -(2**63), "c": 2**63, "d": 10**40},
    "floats": [0.0, -0.0, 1e16, 1e15, 1.5e300, 1e-4, 1e-5, 1.234e-5, 123456789.123, -1e22, 5e-324],
    "nan": {"a": float("nan")},
    "infinity": [float("inf")],
    "int-keys": {1: "a", 2.5: "b", None: "c", False: "d"},
    "sqlalchemy": {"_sa_instance_state": 1, "_s": 2, "_sa": 3},
    "deep": _deep(40),
    "enum": {"a": Color.RED, Color.RED: 1},
    "str-subclass": {"a": Text("x"), Text("k"): 1},
    "int-subclass": {"a": Number.ONE},
    "ordered": OrderedDict(a=1),
    "set": {3},
    "datetime": datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    "uuid": uuid.UUID(int=5),
    "decimal": [Decimal("1.5"), Decimal("3")],
    "bytes": b"abc",
    "path": PurePosixPath("/a"),
    "model": Model(a=2),
    "model-in-dict": {"m": Model(B="x")},
    "dataclass": Data(),
    "object": object(),
    "generator-free": iter(()),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_result_is_answered_as_json(name: str, kind: str) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        async def in_loop() -> Any:
            return RESULTS[name]

        def in_thread() -> Any:
            return RESULTS[name]

        app.get("/")(in_loop if kind == "async" else in_thread)
        return app

    both(make, Sent())


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("annotation", [Any, dict[str, Any], list[Any], Model, Data, str, int, float, Model | None])
def test_a_result_goes_through_the_response_model(name: str, annotation: Any) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/", response_model=annotation)
        async def read() -> Any:
            return RESULTS[name]

        @app.get("/sync", response_model=annotation)
        def read_in_a_thread() -> Any:
            return RESULTS[name]

        return app

    both(make, Sent(), Sent(path="/sync"))


@pytest.mark.parametrize(
    "options",
    [
        {"response_model_exclude_unset": True},
        {"response_model_exclude_defaults": True},
        {"response_model_exclude_none": True},
        {"response_model_by_alias": False},
        {"response_model_include": {"a"}},
        {"response_model_exclude": {"a"}},
        {"status_code": 201},
        {"response_class": JSONResponse},
        {"response_class": PlainTextResponse, "response_model": None},
    ],
    ids=str,
)
def test_options_of_the_response_are_kept(options: dict[str, Any]) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/", **{"response_model": Model, **options})
        async def read() -> Any:
            return "text" if options.get("response_class") is PlainTextResponse else Model(B="x")

        @app.get("/sync", **{"response_model": Model, **options})
        def read_in_a_thread() -> Any:
            return "text" if options.get("response_class") is PlainTextResponse else {"a": 5}

        return app

    both(make, Sent(), Sent(path="/sync"))


@pytest.mark.parametrize("status", [100, 200, 201, 202, 204, 205, 304, 400, 500])
def test_every_status_has_the_body_it_may_have(status: int) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/", status_code=status)
        async def read():  # type: ignore[no-untyped-def]
            return {"a": 1}

        return app

    both(make, Sent())


async def _chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


RESPONSES: dict[str, Any] = {
    "plain": lambda: Response(b"abc", media_type="text/css", headers={"x-a": "b"}),
    "html": lambda: HTMLResponse("<p>", 203),
    "json": lambda: JSONResponse({"a": 1.5}),
    "redirect": lambda: RedirectResponse("/elsewhere?a=b c"),
    "stream": lambda: StreamingResponse(_chunks()),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_of_the_endpoint_is_sent(name: str) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/", response_model=None)
        async def read() -> Any:
            return RESPONSES[name]()

        return app

    [done] = both(make, Sent(body=(b"", b"")))
    assert done.raised == ""


def test_fields_and_status_of_the_response_parameter_are_kept() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def read(response: Response) -> Model:
            response.headers["x-a"] = "b"
            response.set_cookie("c", "d")
            response.status_code = 206
            return Model()

        return app

    [done] = both(make, Sent())
    assert done.status == 206


@pytest.mark.parametrize("returns", ["result", "response"])
def test_background_tasks_run_after_the_response(returns: str) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def read(tasks: BackgroundTasks) -> Any:
            tasks.add_task(seen.append, "task")
            seen.append("endpoint")
            return {"a": 1} if returns == "result" else Response(b"x")

        return app

    [done] = both(make, Sent())
    assert done.seen == ["endpoint", "task"]


def test_an_exception_of_a_background_task_comes_after_the_response() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def read(tasks: BackgroundTasks) -> dict[str, int]:
            tasks.add_task(lambda: 1 // 0)
            return {"a": 1}

        return app

    [done] = both(make, Sent())
    assert done.status == 200
    assert done.raised.startswith("ZeroDivisionError")


def test_validators_of_the_response_model_do_not_see_what_an_endpoint_in_a_thread_sets() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="outside")

    class Checked(BaseModel):
        a: str

        @field_validator("a", mode="before")
        @classmethod
        def note(cls, value: str) -> str:
            return value + variable.get()

    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/", response_model=Checked)
        def read() -> Any:
            variable.set("inside")
            return {"a": "x "}

        return app

    [done] = both(make, Sent())
    assert done.body == b'{"a":"x outside"}'


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_result_that_breaks_the_response_model_is_an_error(kind: str) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI()

        async def in_loop() -> Any:
            return {"a": "no number"}

        def in_thread() -> Any:
            return {"a": "no number"}

        app.get("/", response_model=Model)(in_loop if kind == "async" else in_thread)
        return app

    [done] = both(make, Sent())
    assert done.status == 500
    assert done.raised.startswith("ResponseValidationError")


def test_routes_that_stream_are_left_to_the_framework() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.get("/")
        async def read() -> AsyncIterator[Annotated[dict[str, int], "item"]]:
            yield {"a": 1}
            yield {"a": 2}

        return app

    both(make, Sent(body=(b"", b"")))
    [report] = explain(make([]))
    assert report.reason == "it streams"
