"""Parameters from the path, the query, header fields and cookies: of all types, one by one and in models."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal

from fastapi import Cookie, FastAPI, Header, Path, Query, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json

from tests.equality.driving import Trace


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 7
    HIGH = 8


class Page(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(10, gt=0, le=100)
    offset: int = 0
    order: Literal["up", "down"] = "up"
    tags: list[str] = []


class Fields(BaseModel):
    x_token: str
    x_trace: list[int] = []
    if_none_match: str | None = None


class Cookies(BaseModel):
    model_config = ConfigDict(extra="allow")

    session: str
    hits: int | None = None


def shout(value: str) -> str:
    if value == "7":
        raise ValueError("seven is not shouted")
    return value.upper()


def halved(value: Any) -> Any:
    return value[: len(value) // 2] if isinstance(value, str) else value


def build(trace: Trace) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, str]:
        trace.note("root")
        return {"hello": "world"}

    @app.get("/plain/{number}")
    async def plain(number: int, q: str | None = None) -> dict[str, object]:
        trace.note("plain", number, q)
        return {"number": number, "q": q}

    @app.get("/plain/literal")
    async def shadowed() -> str:
        return "never, the number comes first"

    @app.get("/before/literal")
    async def literal() -> str:
        return "literal"

    @app.get("/before/{word}")
    def word(word: str) -> dict[str, str]:
        trace.note("word", word)
        return {"word": word}

    @app.get("/types/{kind}")
    async def types(
        kind: Colour,
        number: float,
        flag: bool,
        when: dt.datetime,
        day: dt.date,
        at: dt.time,
        lasting: dt.timedelta,
        who: uuid.UUID,
        price: decimal.Decimal,
        data: bytes,
        level: Level,
        choice: Literal["a", "b", 3],
    ) -> dict[str, object]:
        values = [kind, number, flag, when, day, at, lasting, who, price, data, level, choice]
        trace.note("types", *map(repr, values))
        return {"all": [str(value) for value in values]}

    @app.get("/limits/{number}")
    async def limits(
        number: Annotated[int, Path(ge=1, lt=1000, multiple_of=1)],
        short: Annotated[str, Query(min_length=2, max_length=5, pattern="^t")] = "text",
        share: Annotated[float, Query(gt=0, le=1, allow_inf_nan=False)] = 0.5,
        exact: Annotated[int, Query(strict=True)] = 0,
        small: Annotated[decimal.Decimal, Query(max_digits=4, decimal_places=2)] = decimal.Decimal("1.5"),
    ) -> dict[str, object]:
        trace.note("limits", number, short, share, exact, str(small))
        return {"number": number, "short": short, "share": share, "small": small}

    @app.get("/lists")
    async def lists(
        words: Annotated[list[str], Query()],
        numbers: Annotated[list[int] | None, Query(alias="n")] = None,
        unique: Annotated[set[int], Query()] = {1, 2},  # noqa: B006 - as users write it
        pair: Annotated[tuple[int, str], Query()] = (1, "b"),
        frozen: Annotated[frozenset[str], Query()] = frozenset(),
    ) -> dict[str, object]:
        trace.note("lists", words, numbers, sorted(unique), pair, sorted(frozen))
        return {"words": words, "numbers": numbers, "unique": unique, "pair": pair, "frozen": sorted(frozen)}

    @app.get("/aliases")
    async def aliases(  # type: ignore[no-untyped-def]
        first: Annotated[str, Query(alias="first-word")],
        second: Annotated[str | None, Query(validation_alias="SecondWord")] = None,
        third: Annotated[str, Query(deprecated=True, include_in_schema=True)] = "third",
        hidden: Annotated[str, Query(include_in_schema=False)] = "hidden",
        untyped=None,
    ) -> list[object]:
        trace.note("aliases", first, second, third, hidden, untyped)
        return [first, second, third, hidden, untyped]

    @app.get("/validators")
    async def validators(
        loud: Annotated[str, AfterValidator(shout)],
        factory: Annotated[list[int], Query(default_factory=list)],
        half: Annotated[str, BeforeValidator(halved)] = "whole",
        parsed: Annotated[Json[list[int]], Query()] = "[1]",  # type: ignore[assignment]
        either: int | str = 0,
        union: Annotated[int | float | bool | None, Query()] = None,
    ) -> dict[str, object]:
        trace.note("validators", loud, half, parsed, either, union, factory)
        return {"loud": loud, "half": half, "parsed": parsed, "either": either, "union": union, "factory": factory}

    @app.get("/page")
    def page(page: Annotated[Page, Query()]) -> Page:
        trace.note("page", page.model_dump(), sorted(page.model_fields_set))
        return page

    @app.get("/fields")
    async def fields(fields: Annotated[Fields, Header()]) -> Fields:
        trace.note("fields", fields.model_dump(), sorted(fields.model_fields_set))
        return fields

    @app.get("/cookies")
    async def cookies(cookies: Annotated[Cookies, Cookie()]) -> Cookies:
        trace.note("cookies", cookies.model_dump())
        return cookies

    @app.get("/headers")
    async def headers(
        user_agent: Annotated[str | None, Header()] = None,
        x_token: Annotated[list[str] | None, Header()] = None,
        strange_name: Annotated[str | None, Header(convert_underscores=False)] = None,
        x_number: Annotated[int, Header()] = 0,
        accept: Annotated[str, Header(min_length=1)] = "*/*",
    ) -> dict[str, object]:
        trace.note("headers", user_agent, x_token, strange_name, x_number, accept)
        return {"agent": user_agent, "token": x_token, "strange": strange_name, "number": x_number, "accept": accept}

    @app.get("/cookie")
    async def cookie(
        session: Annotated[str | None, Cookie()] = None, count: Annotated[int, Cookie(alias="visit-count")] = 0
    ) -> dict[str, object]:
        trace.note("cookie", session, count)
        return {"session": session, "count": count}

    @app.get("/everything/{here}")
    async def everything(
        request: Request,
        here: int,
        q: int,
        x_token: Annotated[str, Header()],
        session: Annotated[int, Cookie()],
    ) -> dict[str, object]:
        seen = {key: request.scope[key] for key in sorted(request.scope) if not key.endswith("astack")}
        trace.note(
            "everything", here, q, x_token, session, seen, str(request.url), request.url_for("word", word="w").path
        )
        return {"here": here, "q": q, "x": x_token, "s": session}

    @app.get("/files/{place:path}")
    async def files(place: str) -> dict[str, str]:
        trace.note("files", place)
        return {"place": place}

    @app.get("/convertors/{a:int}/{b:float}/{c:uuid}/{d:str}")
    async def convertors(a: int, b: float, c: uuid.UUID, d: str) -> dict[str, object]:
        trace.note("convertors", a, b, c, d)
        return {"a": a, "b": b, "c": c, "d": d}

    @app.get("/two/{a}-{b}.{c}")
    async def parts(a: str, b: int, c: str) -> list[object]:
        return [a, b, c]

    @app.get("/slash/")
    async def slash() -> str:
        return "with a slash at the end"

    @app.get("/special/(group)+$.*")
    async def special() -> str:
        return "a path with what regular expressions mean"

    @app.api_route("/several", methods=["GET", "POST", "DELETE"])
    async def several(request: Request) -> str:
        return request.method

    @app.head("/several")
    async def several_head() -> None:
        trace.note("head")

    @app.options("/several")
    async def several_options() -> dict[str, str]:
        return {"own": "options"}

    @app.get("/int-or-word/{value}")
    async def int_first(value: int) -> int:
        return value

    @app.post("/int-or-word/{value}")
    async def then_word(value: str) -> str:
        return value

    return app
