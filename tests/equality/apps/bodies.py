"""JSON bodies, forms and files."""

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator
from typing_extensions import TypedDict

from tests.equality.driving import Trace


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Part(BaseModel):
    name: str = Field(min_length=1)
    weight: float | None = None


class Item(BaseModel):
    name: str
    price: float
    tax: float | None = None
    tags: list[str] = []
    parts: list[Part] = []
    size: Size = Size.SMALL
    made: dt.datetime | None = None
    by: uuid.UUID | None = None
    exact: decimal.Decimal = decimal.Decimal("1.10")
    extra: dict[str, Any] = {}


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    number: int
    ratio: float
    flag: bool
    text: str


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    other: Cat | Dog | None = None


class Node(BaseModel):
    value: int
    next: "Node | None" = None


class Checked(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    low: int = Field(alias="from")
    high: int = Field(validation_alias="to", serialization_alias="until")

    @field_validator("low")
    @classmethod
    def is_not_seven(cls, value: int) -> int:
        if value == 7:
            raise ValueError("seven is taken")
        return value

    @model_validator(mode="after")
    def is_ordered(self) -> "Checked":
        assert self.low <= self.high, "low is above high"
        return self


class Tags(RootModel[list[str]]):
    pass


@dataclass
class Point:
    x: int
    y: float = 0.5


class Movie(TypedDict):
    title: str
    year: int


def build(trace: Trace) -> FastAPI:
    app = FastAPI()

    @app.post("/item", response_model=Item)
    async def item(item: Item) -> Item:
        trace.note("item", item.model_dump(), sorted(item.model_fields_set))
        return item

    @app.post("/sync", status_code=201)
    def sync(item: Item) -> Item:
        trace.note("sync", item.model_dump())
        return item

    @app.put("/item/{number}")
    async def put(number: int, item: Item, q: str | None = None) -> dict[str, object]:
        trace.note("put", number, item.name, q)
        return {"number": number, **item.model_dump(), "q": q}

    @app.post("/strict")
    async def strict(body: Strict) -> Strict:
        return body

    @app.post("/owner")
    async def owner(owner: Owner) -> Owner:
        return owner

    @app.post("/node")
    async def node(node: Node) -> Node:
        trace.note("node", repr(node)[:300])
        return node

    @app.post("/checked")
    async def checked(body: Checked) -> Checked:
        return body

    @app.post("/tags")
    async def tags(tags: Tags) -> Tags:
        return tags

    @app.post("/point")
    async def point(point: Point) -> Point:
        trace.note("point", repr(point))
        return point

    @app.post("/movie")
    async def movie(movie: Movie) -> Movie:
        trace.note("movie", movie)
        return movie

    @app.post("/list")
    async def items(items: list[Part]) -> int:
        return len(items)

    @app.post("/numbers")
    async def numbers(numbers: dict[int, float]) -> dict[int, float]:
        trace.note("numbers", numbers)
        return numbers

    @app.post("/anything")
    async def anything(body: Annotated[Any, Body()]) -> dict[str, str]:
        trace.note("anything", body if not isinstance(body, (list, dict)) else repr(body)[:300])
        return {"repr": repr(body)[:300]}

    @app.post("/dict")
    async def dictionary(body: dict[str, Any]) -> dict[str, str]:
        return {"repr": repr(body)[:300]}

    @app.post("/optional")
    async def optional(part: Part | None = None) -> dict[str, object]:
        trace.note("optional", repr(part))
        return {"part": part}

    @app.post("/defaulted")
    async def defaulted(part: Annotated[Part, Body()] = Part(name="default")) -> Part:
        return part

    @app.post("/embedded")
    async def embedded(part: Annotated[Part, Body(embed=True)]) -> Part:
        return part

    @app.post("/several/{number}")
    async def several(
        number: int,
        part: Part,
        item: Item | None,
        weight: Annotated[int, Body(gt=0)],
        word: Annotated[str, Body(alias="the-word")] = "word",
        q: Annotated[str | None, Query()] = None,
    ) -> dict[str, object]:
        trace.note("several", number, repr(part), repr(item), weight, word, q)
        return {"number": number, "part": part, "item": item, "weight": weight, "word": word, "q": q}

    @app.post("/scalar")
    async def scalar(number: Annotated[int, Body()]) -> int:
        return number

    @app.post("/bytes")
    async def data(data: Annotated[bytes, Body()]) -> int:
        return len(data)

    @app.post("/text", response_model=None)
    async def text(data: Annotated[str, Body(media_type="text/plain")]) -> str:
        return data

    @app.post("/raw")
    async def raw(request: Request) -> dict[str, object]:
        body = await request.body()
        trace.note("raw", len(body))
        return {"length": len(body)}

    @app.post("/streamed")
    async def streamed(request: Request) -> list[int]:
        return [len(part) async for part in request.stream()]

    @app.post("/both")
    async def both(request: Request, part: Part) -> dict[str, object]:
        return {"part": part, "again": len(await request.body()), "json": await request.json()}

    @app.delete("/body")
    async def delete(part: Part) -> Part:
        return part

    return app


def lenient(trace: Trace) -> FastAPI:
    """Build one that reads JSON without a content type too."""
    app = FastAPI(strict_content_type=False)

    @app.post("/item")
    async def item(item: Part) -> Part:
        trace.note("item", repr(item))
        return item

    return app
