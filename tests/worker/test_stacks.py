"""Where tasks wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastserve.worker.lifespan import Lifespan
from fastserve.worker.stacks import waiting_stack
from tests.doubles import turns

pytestmark = pytest.mark.usefixtures("loop_factory")


async def wait() -> None:
    await asyncio.Event().wait()


async def numbers() -> AsyncIterator[int]:
    await wait()
    yield 1


@asynccontextmanager
async def manager() -> AsyncIterator[None]:
    await wait()
    yield


class Waiting:
    """Awaits something by a generator, as a class of a library does."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from wait().__await__()


async def in_coroutine() -> None:
    await wait()


async def in_generator() -> None:
    async for _ in numbers():
        pass


async def with_default() -> None:
    await anext(numbers(), None)


async def in_manager() -> None:
    async with manager():
        pass


async def in_object() -> None:
    await Waiting()


async def in_task() -> None:
    await asyncio.create_task(wait())


async def in_time() -> None:
    async with asyncio.timeout(60):
        await wait()


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (in_coroutine, ["in_coroutine"]),
        (in_generator, ["in_generator", "numbers"]),
        (with_default, ["with_default", "numbers"]),
        (in_manager, ["in_manager", "__aenter__", "manager"]),
        (in_object, ["in_object", "__await__"]),
        (in_task, ["in_task"]),
        (in_time, ["in_time"]),
    ],
)
async def test_the_stack_leads_from_the_outermost_call_to_what_is_waited_for(
    function: Callable[[], Awaitable[None]], calls: list[str]
) -> None:
    task: asyncio.Task[None] = asyncio.ensure_future(function())
    await turns()
    stack = waiting_stack(task)
    assert re.findall(", in (.*)\n", stack) == [*calls, "wait", "wait"]
    assert "    await asyncio.Event().wait()\n" in stack
    task.cancel()


async def test_calls_of_the_server_are_left_out_and_a_task_that_is_done_waits_nowhere() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await wait()

    lifespan = Lifespan(app, "on")
    starting = asyncio.create_task(lifespan.start())
    await turns()
    assert lifespan._task is not None
    assert re.findall(", in (.*)\n", waiting_stack(lifespan._task)) == ["app", "wait", "wait"]
    lifespan.cancel()
    await turns()
    starting.cancel()
    assert waiting_stack(lifespan._task) == ""
