"""A small FastAPI application to try fastserve with: `fastserve demo`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

from fastserve.version import VERSION

app = FastAPI(title="fastserve demo", version=VERSION, description="Served by fastserve.")


class Order(BaseModel):
    """What a client orders."""

    item: str = Field(min_length=1, max_length=80)
    price: float = Field(gt=0)
    quantity: int = Field(default=1, ge=1, le=1000)


class Receipt(BaseModel):
    """What the client owes."""

    item: str
    total: float


@app.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    """Show the documentation of the endpoints."""
    return RedirectResponse("/docs")


@app.get("/json")
async def json() -> dict[str, str]:
    """Return a constant."""
    return {"message": "Hello, World!"}


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Return the process id of the worker that answers; with several, it depends on the connection."""
    return {"pid": os.getpid()}


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, int | str | None]:
    """Return a path parameter and a query parameter."""
    return {"item_id": item_id, "q": q}


@app.post("/orders", status_code=201)
async def order(order: Order) -> Receipt:
    """Take a validated body."""
    return Receipt(item=order.item, total=order.price * order.quantity)


@app.get("/countdown")
async def countdown(seconds: int = 5) -> StreamingResponse:
    """Stream a line a second."""

    async def lines() -> AsyncIterator[str]:
        for left in range(min(seconds, 60), 0, -1):
            yield f"{left}\n"
            await asyncio.sleep(1)
        yield "0\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/bytes/{count}")
async def some_bytes(count: int) -> StreamingResponse:
    """Stream so many bytes, without having them in memory at any time."""
    part = bytes(64 * 1024)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(count // len(part)):
            yield part
        yield part[: count % len(part)]

    return StreamingResponse(parts(), media_type="application/octet-stream", headers={"content-length": str(count)})
