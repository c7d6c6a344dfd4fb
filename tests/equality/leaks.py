"""Drive an accelerated application with very many requests, and see that it keeps nothing of them.

python -m tests.equality.leaks [--requests 1000000]

Counted before and after, once everything has been warm: memory blocks of the interpreter, objects that the garbage
collector knows, references to objects that every request touches, and the resident memory of the process. The numbers
of blocks, objects and references must not grow with the number of requests. Exits with 1 when one of them does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import psutil
from fastapi import BackgroundTasks, Cookie, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from starlette.routing import Route

import fastserve
from tests.equality.driving import Request

WARM = 2_000
"""Requests before the first count: caches fill, and pools of threads grow."""

ALLOWED_OBJECTS = 300
ALLOWED_BLOCKS = 3_000
ALLOWED_REFERENCES = 50
ALLOWED_BYTES = 16 * 1024 * 1024
"""How much may be there after the requests that was not there before, however many they were."""


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


NOT_FOUND = HTTPException(404, detail="not there")


def common(q: str | None = None, x_token: str = Header("none"), session: str = Cookie("none")) -> str:
    """Return something made of parameters of three kinds."""
    return f"{q}{x_token}{session}"


async def opened() -> Any:
    """Open and close."""
    yield "opened"


def build() -> FastAPI:
    """Build the application: a route of each kind that is accelerated, and such that fail."""
    app = FastAPI()

    @app.get("/")
    async def plain() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/items/{number}")
    async def item(number: int, q: str | None = None) -> dict[str, object]:
        if number == 404:
            raise NOT_FOUND.with_traceback(None)  # Starlette takes tracebacks away from 1.10 on only.
        return {"number": number, "q": q}

    @app.post("/items", response_model=Item)
    async def create(item: Item, tasks: BackgroundTasks) -> Item:
        tasks.add_task(len, item.tags)
        return item

    @app.get("/depends")
    async def depends(common: str = Depends(common), opened: str = Depends(opened)) -> list[str]:
        return [common, opened]

    @app.get("/sync")
    def sync(q: int = 0) -> list[Item]:
        return [Item(name="n", price=q)] * 3

    @app.get("/crash")
    async def crash() -> None:
        raise ValueError("crash")

    return app


JSON = ((b"content-type", b"application/json"),)
ASKED = (
    Request(label="plain"),
    Request(label="item", path="/items/7", query=b"q=a"),
    Request(label="not found", path="/items/404"),
    Request(label="invalid", path="/items/x"),
    Request(label="nowhere", path="/nowhere"),
    Request(label="not allowed", path="/items", method="DELETE"),
    Request(
        label="create",
        path="/items",
        method="POST",
        headers=JSON,
        body=(b'{"name": "n", ', b'"price": 1, "tags": ["a"]}'),
    ),
    Request(label="invalid body", path="/items", method="POST", headers=JSON, body=(b'{"name": 1}',)),
    Request(label="broken body", path="/items", method="POST", headers=JSON, body=(b'{"name": ',)),
    Request(label="cut body", path="/items", method="POST", headers=JSON, body=(b'{"name": ',), is_whole=False),
    Request(label="depends", path="/depends", query=b"q=b", headers=((b"x-token", b"t"), (b"cookie", b"session=s"))),
    Request(label="crash", path="/crash"),
    Request(label="gone", breaks_after=0),
    Request(label="sync", path="/sync", query=b"q=3"),
)


@dataclass(frozen=True, slots=True)
class Count:
    """What is there at one time. references: to each of the watched objects, in their order."""

    blocks: int
    objects: int
    references: tuple[int, ...]
    resident: int


def count(watched: Sequence[object]) -> Count:
    """Count what is there, without what is only waiting for the garbage collector."""
    for _ in range(3):
        gc.collect()
    references = tuple(sys.getrefcount(each) for each in watched)
    return Count(sys.getallocatedblocks(), len(gc.get_objects()), references, psutil.Process().memory_info().rss)


def grown(before: Count, after: Count, names: Sequence[str]) -> list[str]:
    """Return a line for everything that grew by more than it may."""
    grew = [
        ("memory blocks", after.blocks - before.blocks, ALLOWED_BLOCKS),
        ("objects", after.objects - before.objects, ALLOWED_OBJECTS),
        ("bytes of resident memory", after.resident - before.resident, ALLOWED_BYTES),
    ]
    for name, one, other in zip(names, before.references, after.references, strict=True):
        grew.append((f"references to {name}", other - one, ALLOWED_REFERENCES))
    return [f"{by:+} {what}, {allowed} allowed" for what, by, allowed in grew if by > allowed]


async def ask(app: Callable[[Any, Any, Any], Any], requests: Iterable[Request]) -> Counter[int]:
    """Send requests, and return how many were answered with which status; 0 for those without an answer."""
    statuses: Counter[int] = Counter()
    for request in requests:
        status = 0
        messages = iter(_messages(request))

        async def receive(messages: Iterator[dict[str, Any]] = messages) -> dict[str, Any]:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: dict[str, Any], breaks: bool = request.breaks_after == 0) -> None:
            nonlocal status
            if breaks:
                raise OSError("gone")
            status = message.get("status", status)

        try:
            await app(request.scope_for({}), receive, send)
        except Exception as raised:
            if not isinstance(raised, (ValueError, OSError)):
                raise
        statuses[status] += 1
    return statuses


def _messages(request: Request) -> Iterator[dict[str, Any]]:
    for at, body in enumerate(request.body, 1):
        yield {"type": "http.request", "body": body, "more_body": at < len(request.body) or not request.is_whole}


def watched_objects(app: FastAPI) -> dict[str, object]:
    """Return the objects whose references are counted: shared by all requests, and not immortal."""
    routes = {f"the endpoint of {each.path}": each.endpoint for each in app.routes if isinstance(each, Route)}
    return {"the app": app, "Item": Item, "an exception": NOT_FOUND, "a dependency": common, "dict": dict, **routes}


def check(build: Callable[[], FastAPI], accelerator: Callable[[Any], Any], requests: int) -> list[str]:
    """Drive an application with so many requests and return what grew."""

    async def run() -> list[str]:
        app = build()
        accelerated = accelerator(app)
        watched = watched_objects(app)
        await ask(accelerated, islice(cycle(ASKED), WARM))
        before = count(list(watched.values()))
        await ask(accelerated, islice(cycle(ASKED), requests))
        return grown(before, count(list(watched.values())), list(watched))

    return asyncio.run(run())


def main(argv: Sequence[str] | None = None) -> int:
    """Check so many requests. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.equality.leaks", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many (%(default)s)")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    found = check(build, fastserve.accelerate, arguments.requests)
    print(f"{arguments.requests} requests in {time.monotonic() - started:.0f} s: {'; '.join(found) or 'nothing grew'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
