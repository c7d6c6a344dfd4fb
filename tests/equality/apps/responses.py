"""Responses: models and what is left out of them, status codes, classes, plain results, background tasks."""

import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections import OrderedDict, deque, namedtuple
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Response, status
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer
from starlette.background import BackgroundTask

from tests.equality.driving import TINT, Trace


class Inner(BaseModel):
    a: int = 1
    b: str | None = None


class Model(BaseModel):
    name: str
    price: float = 1.5
    secret: str = "secret"
    inner: Inner = Inner()
    many: list[Inner] = []
    label: str = Field(default="label", validation_alias="Label", serialization_alias="LABEL")
    nothing: None = None


class Public(BaseModel):
    name: str


class Computed(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants", ser_json_bytes="base64", ser_json_timedelta="float")

    number: float = float("nan")
    data: bytes = b"\xff"
    lasting: dt.timedelta = dt.timedelta(seconds=1.5)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> float:
        return 2 * self.number

    @field_serializer("data")
    def as_text(self, value: bytes) -> str:
        return value.hex()


class Text(str):
    pass


class Number(int):
    pass


class Key(enum.Enum):
    ONE = "one"


class Code(enum.IntEnum):
    TWO = 2


Pair = namedtuple("Pair", "left right")


@dataclass
class Point:
    x: int
    y: "float | None" = None


class Slotted:
    def __init__(self) -> None:
        self.visible = 1
        self._hidden = 2


class Shouted(JSONResponse):
    media_type = "application/shouted+json"

    def render(self, content: Any) -> bytes:
        return super().render(content).upper()


NOW = dt.datetime(2026, 11, 24, 3, 0, 0, 123456, tzinfo=dt.UTC)

RESULTS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "float": lambda: 1.0,
    "floats": lambda: [0.1, 1e22, 1e16, 1e-7, -0.0, 123456789.123456789, 5e-324, 1.7976931348623157e308],
    "nan": lambda: float("nan"),
    "nan-inside": lambda: {"a": [float("inf")]},
    "big": lambda: [2**53, 2**63, 2**64, 10**30, -(2**63) - 1],
    "text": lambda: "text",
    "unicode": lambda: 'ä€😀\u2028\u007f\u0000\u001f"\\/<>&',
    "surrogate": lambda: "\ud800",
    "empty-text": lambda: "",
    "bytes": lambda: b"bytes",
    "bad-bytes": lambda: b"\xff",
    "list": lambda: [1, "a", None, [True, {}]],
    "tuple": lambda: (1, 2),
    "set": lambda: {1},
    "frozenset": lambda: frozenset({"a"}),
    "deque": lambda: deque([1, 2]),
    "generator": lambda: (each for each in range(3)),
    "range": lambda: range(3),
    "map": lambda: map(str, range(2)),
    "dict": lambda: {"z": 1, "a": {"b": None}},
    "ordered": lambda: OrderedDict(b=1, a=2),
    "keys": lambda: {2: "int", 1.5: "float", True: "bool", None: "none", "s": "str"},
    "same-keys": lambda: {1: "int", "1": "str"},
    "enum-keys": lambda: {Key.ONE: 1},
    "uuid-keys": lambda: {uuid.UUID(int=1): 1},
    "tuple-keys": lambda: {(1, 2): 1},
    "sa-keys": lambda: {"_sa_state": 1, "kept": 2},
    "enum": lambda: Key.ONE,
    "int-enum": lambda: [Code.TWO],
    "str-subclass": lambda: {"a": Text("text"), Text("key"): 1},
    "int-subclass": lambda: [Number(3)],
    "namedtuple": lambda: Pair(1, "b"),
    "dataclass": lambda: Point(1),
    "dataclasses": lambda: [Point(1, float("nan")), Point(2)],
    "slotted": Slotted,
    "object": object,
    "class": lambda: Slotted,
    "function": lambda: build,
    "decimal": lambda: [decimal.Decimal("1.10"), decimal.Decimal(10), decimal.Decimal("NaN")],
    "datetime": lambda: [NOW, NOW.date(), NOW.time(), NOW.replace(tzinfo=None), dt.timedelta(days=1, seconds=1.5)],
    "uuid": lambda: uuid.UUID(int=7),
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "exception": lambda: ValueError("a"),
    "complex": lambda: 1j,
    "model": lambda: Model(name="n"),
    "models": lambda: [Model(name="n"), {"plain": Inner(b="b")}],
    "computed": lambda: Computed(number=2.0),
    "computed-nan": Computed,
    "model-class": lambda: Model,
    "deep": lambda: nested(200),
    "too-deep": lambda: nested(5000),
    "cycle": lambda: cycle(),
    "long": lambda: list(range(5000)),
    "html": lambda: HTMLResponse("<p>ä</p>"),
    "plain": lambda: PlainTextResponse("plain", status_code=418, headers={"X-One": "1"}),
    "empty": Response,
    "own-json": lambda: JSONResponse({"a": 1}, media_type="application/problem+json"),
    "redirect": lambda: RedirectResponse("/ä b?c=d", status_code=303),
    "background": lambda: PlainTextResponse("later", background=BackgroundTask(TINT.get)),
}
"""What endpoints return, by name."""


def nested(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


def cycle() -> Any:
    made: list[Any] = []
    made.append(made)
    return made


def giving(value: Any) -> Callable[[], Awaitable[Any]]:
    async def give() -> Any:
        return value

    return give


def giving_sync(value: Any) -> Callable[[], Any]:
    def give() -> Any:
        return value

    return give


def build(trace: Trace) -> FastAPI:
    app = FastAPI()

    def returning(name: str, *, is_async: bool, **options: Any) -> None:
        def result() -> Any:
            trace.note("result", name)
            return RESULTS[name]()

        async def aresult() -> Any:
            return result()

        app.get(f"/{'async' if is_async else 'sync'}/{name}", **options)(aresult if is_async else result)

    for name in RESULTS:
        returning(name, is_async=True)
    for name in ("none", "floats", "nan", "dict", "keys", "models", "html", "surrogate"):
        returning(name, is_async=False)
    add_models(app, trace)
    add_statuses(app, trace)
    add_streams(app, trace)
    return app


def add_models(app: FastAPI, trace: Trace) -> None:
    def make(**values: Any) -> Model:
        trace.note("made")
        return Model(name="n", **values)

    shaped: dict[str, dict[str, Any]] = {
        "whole": {},
        "include": {"response_model_include": {"name", "inner"}},
        "include-deep": {"response_model_include": {"inner": {"a"}, "many": {"__all__": {"b"}}}},
        "exclude": {"response_model_exclude": {"secret", "many"}},
        "exclude-list": {"response_model_exclude": ["secret"]},
        "by-name": {"response_model_by_alias": False},
        "unset": {"response_model_exclude_unset": True},
        "defaults": {"response_model_exclude_defaults": True},
        "no-none": {"response_model_exclude_none": True},
        "json-class": {"response_class": JSONResponse},
        "shouted": {"response_class": Shouted},
        "html-class": {"response_class": HTMLResponse},
        "201": {"status_code": 201},
        "204": {"status_code": 204, "response_model": None},
        "304": {"status_code": 304, "response_model": None},
        "299": {"status_code": 299},
    }
    for name, options in shaped.items():
        app.get(f"/model/{name}", **{"response_model": Model, **options})(lambda: make(price=2, many=[Inner(b="x")]))
    for name, model, value in (
        ("public", Public, Model(name="n")),
        ("public-dict", Public, {"name": "n", "more": 1}),
        ("list", list[Public], [Model(name="n"), {"name": "m"}]),
        ("dict", dict[str, Public], {"k": {"name": "n"}}),
        ("union", Public | Inner, Inner()),
        ("optional", Public | None, None),
        ("int", int, "7"),
        ("float", float, 1),
        ("nan", float, float("nan")),
        ("str", str, b"bytes"),
        ("any", Any, {"a": {1, 2}}),
        ("bytes", bytes, b"\xff"),
        ("decimal", decimal.Decimal, decimal.Decimal("1.10")),
        ("datetime", dt.datetime, NOW),
        ("wrong", Public, {"nome": "n"}),
        ("wrong-list", list[int], ["a", 1, None]),
        ("none-model", None, Model(name="n")),
        ("dataclass", Point, Point(1)),
        ("object", Public, Slotted()),
        ("computed", Computed, Computed(number=2.0)),
        ("computed-nan", Computed, {}),
        ("response", Public, PlainTextResponse("as it is")),
        ("enum", Key, Key.ONE),
        ("surrogate", str, "\ud800"),
    ):
        app.get(f"/shaped/{name}", response_model=model)(giving(value))
        app.get(f"/shaped-sync/{name}", response_model=model)(giving_sync(value))

    @app.get("/annotated")
    async def annotated() -> list[Public]:
        return [Model(name="n"), Model(name="m")]  # type: ignore[list-item]

    @app.get("/annotated-response")
    async def annotated_response() -> HTMLResponse:
        return HTMLResponse("<p>")


def add_statuses(app: FastAPI, trace: Trace) -> None:
    @app.get("/changed", status_code=201)
    async def changed(response: Response) -> dict[str, int]:
        response.status_code = 202
        response.headers["X-Two"] = "2"
        response.headers.append("x-two", "zwei")
        response.headers["content-type"] = "text/wrong"
        response.set_cookie("session", "äb c", max_age=5, httponly=True, samesite="strict")
        response.set_cookie("other", "1")
        return {"a": 1}

    @app.get("/changed-sync")
    def changed_sync(response: Response) -> None:
        response.status_code = 204
        response.set_cookie("session", max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT")

    def mark(response: Response) -> None:
        response.headers["x-dependency"] = "first"
        response.status_code = 203

    @app.get("/changed-by-dependency", dependencies=[Depends(mark)])
    async def changed_by_dependency(response: Response) -> str:
        response.headers.append("x-endpoint", "second")
        return "changed"

    @app.get("/changed-and-returned", dependencies=[Depends(mark)])
    async def changed_and_returned() -> Response:
        return PlainTextResponse("only this one's fields")

    @app.get("/gone", status_code=410, response_class=PlainTextResponse)
    async def gone() -> str:
        return "gone"

    @app.get("/redirect", response_class=RedirectResponse)
    async def redirect() -> str:
        return "/elsewhere"

    @app.get("/redirect-302", response_class=RedirectResponse, status_code=302)
    async def redirect_302() -> str:
        return "https://example.org/"

    @app.get("/file", response_class=FileResponse)
    async def file() -> str:
        return __file__.replace("responses", "__init__")

    @app.get("/html", response_class=HTMLResponse)
    async def html() -> str:
        return "<p>ä</p>"

    @app.get("/no-class-fits", response_class=PlainTextResponse)
    async def no_class_fits() -> dict[str, int]:
        return {"a": 1}

    @app.get("/error/{code}")
    async def error(code: int, detail: str | None = None) -> None:
        raise HTTPException(code, detail=detail or {"code": code}, headers={"X-Error": "yes"})

    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError("crash")

    @app.get("/crash-sync")
    def crash_sync() -> None:
        raise KeyError("crash")

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> dict[str, str]:
        tasks.add_task(trace.note, "in a thread", 1)

        async def later() -> None:
            trace.note("later")

        tasks.add_task(later)
        trace.note("endpoint")
        return {"tasks": "two"}

    @app.get("/background-crash")
    async def background_crash(tasks: BackgroundTasks) -> str:
        def crash() -> None:
            trace.note("crashes")
            raise ValueError("in the background")

        tasks.add_task(crash)
        tasks.add_task(trace.note, "never")
        return "well"

    def adds(tasks: BackgroundTasks) -> None:
        tasks.add_task(trace.note, "of the dependency")

    @app.get("/background-of-dependency", dependencies=[Depends(adds)])
    def background_of_dependency() -> str:
        trace.note("endpoint")
        return "well"

    @app.get("/background-of-both", dependencies=[Depends(adds)])
    async def background_of_both(tasks: BackgroundTasks) -> str:
        tasks.add_task(trace.note, "of the endpoint")
        return "well"

    @app.get("/background-own")
    async def background_own(tasks: BackgroundTasks) -> Response:
        tasks.add_task(trace.note, "lost")
        return PlainTextResponse("own", background=BackgroundTask(trace.note, "own"))

    @app.get("/teapot", status_code=status.HTTP_418_IM_A_TEAPOT, responses={418: {"model": Public}})
    async def teapot() -> Public:
        return Public(name="tea")


def add_streams(app: FastAPI, trace: Trace) -> None:
    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            try:
                for number in range(4):
                    trace.note("part", number)
                    yield f"{number}\n"
            finally:
                trace.note("closed")

        return StreamingResponse(parts(), media_type="text/plain")

    @app.get("/stream-sync")
    def stream_sync() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            for number in range(3):
                trace.note("part", number)
                yield b"%d" % number

        return StreamingResponse(parts())

    @app.get("/stream-crash")
    async def stream_crash() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise ValueError("in the middle")

        return StreamingResponse(parts())

    @app.get("/large")
    async def large() -> dict[str, str]:
        return {"large": "x" * 100_000}


def spelled(trace: Trace) -> FastAPI:
    """Build one with another class for all of its responses."""
    app = FastAPI(default_response_class=Shouted)

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"a": "b"}

    @app.get("/model", response_model=Public)
    async def model() -> Model:
        return Model(name="n")

    @app.get("/own", response_class=PlainTextResponse)
    async def own() -> str:
        return "own"

    return app
