"""The demonstration application."""

from __future__ import annotations

import os
from types import SimpleNamespace

import httpx
import pytest

from fastserve import demo
from fastserve.version import VERSION


async def get(target: str) -> httpx.Response:
    """Return the response to a GET request."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(demo.app), base_url="http://demo") as client:
        return await client.get(target)


async def post(target: str, content: dict[str, object]) -> httpx.Response:
    """Return the response to a POST request with this JSON."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(demo.app), base_url="http://demo") as client:
        return await client.post(target, json=content)


async def test_the_constant_is_returned() -> None:
    assert (await get("/json")).json() == {"message": "Hello, World!"}


async def test_the_start_page_shows_the_documentation() -> None:
    answer = await get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert (await get("/docs")).status_code == 200
    assert (await get("/openapi.json")).json()["info"] == {
        "title": "fastserve demo",
        "version": VERSION,
        "description": "Served by fastserve.",
    }


async def test_the_worker_names_itself() -> None:
    assert (await get("/worker")).json() == {"pid": os.getpid()}


@pytest.mark.parametrize(
    ("target", "status", "content"),
    [
        ("/items/5", 200, {"item_id": 5, "q": None}),
        ("/items/5?q=x", 200, {"item_id": 5, "q": "x"}),
        ("/items/x", 422, None),
    ],
)
async def test_parameters_are_returned_and_validated(target: str, status: int, content: object) -> None:
    answer = await get(target)
    assert answer.status_code == status
    assert content in (None, answer.json())


async def test_an_order_gets_a_receipt() -> None:
    answer = await post("/orders", {"item": "tea", "price": 2.5, "quantity": 4})
    assert (answer.status_code, answer.json()) == (201, {"item": "tea", "total": 10.0})
    assert (await post("/orders", {"item": "tea", "price": 2.5})).json()["total"] == 2.5


@pytest.mark.parametrize(
    "order",
    [
        {"item": "", "price": 1},
        {"item": "x" * 81, "price": 1},
        {"item": "tea", "price": 0},
        {"item": "tea", "price": 1, "quantity": 0},
        {"item": "tea", "price": 1, "quantity": 1001},
        {"item": "tea"},
    ],
    ids=["no item", "long item", "free", "none", "too many", "no price"],
)
async def test_an_order_that_makes_no_sense_is_refused(order: dict[str, object]) -> None:
    assert (await post("/orders", order)).status_code == 422


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_countdown_of_nothing_ends_at_once(seconds: int) -> None:
    assert (await get(f"/countdown?seconds={seconds}")).text == "0\n"


async def test_a_countdown_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(demo, "asyncio", SimpleNamespace(sleep=sleep))
    assert (await get("/countdown?seconds=3")).text == "3\n2\n1\n0\n"
    assert (await get("/countdown?seconds=1000")).text.startswith("60\n59\n")
    assert waits == [1] * 63


@pytest.mark.parametrize("count", [0, 1, 65536, 200_000])
async def test_so_many_bytes_are_streamed(count: int) -> None:
    answer = await get(f"/bytes/{count}")
    assert (len(answer.content), answer.headers["content-length"]) == (count, str(count))
