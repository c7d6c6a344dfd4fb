"""Ready-made awaitables: everything that asyncio does with a coroutine can be done with them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, cast

import pytest

from fastserve.asgi.awaitables import SENT, Received, Sent
from fastserve.asgi.types import Message
from tests.doubles import turns


class Source:
    """A source of messages that the test fills. cleaned: how many waits ended, in whatever way."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self._filled = asyncio.Event()
        self.cleaned = 0

    def take_message(self) -> Message | None:
        return self._messages.pop(0) if self._messages else None

    async def wait_message(self) -> Message:
        try:
            while not self._messages:
                self._filled.clear()
                await self._filled.wait()
            return self._messages.pop(0)
        finally:
            self.cleaned += 1

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._filled.set()

    def receive(self) -> Coroutine[Any, Any, Message]:
        return cast("Coroutine[Any, Any, Message]", Received(self))


ONE: Message = {"type": "one"}
TWO: Message = {"type": "two"}


def sent() -> Coroutine[Any, Any, None]:
    return cast("Coroutine[Any, Any, None]", SENT)


async def awaits(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


WAYS: dict[str, Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]] = {
    "await": awaits,
    "create_task": asyncio.create_task,
    "ensure_future": asyncio.ensure_future,
    "wait_for": lambda coroutine: asyncio.wait_for(coroutine, 10),
    "shield": asyncio.shield,
    "task factory": lambda coroutine: asyncio.get_running_loop().create_task(coroutine, name="receive"),
}
if sys.version_info >= (3, 12):
    WAYS["eager task"] = lambda coroutine: asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
EACH_WAY = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


class Thrown(Exception):
    """What the tests throw in."""


ERROR = Thrown()
THROWN: dict[str, tuple[Any, ...]] = {
    "instance": (ERROR,),
    "type": (Thrown,),
    "type and instance": (Thrown, ERROR),
    "type, instance and traceback": (Thrown, ERROR, None),
}
EACH_THROW = pytest.mark.parametrize("arguments", list(THROWN.values()), ids=list(THROWN))


@pytest.mark.parametrize("made", [SENT, Received(cast(Any, None))], ids=["sent", "received"])
def test_it_is_a_coroutine_for_whoever_asks(made: object) -> None:
    assert isinstance(made, Coroutine)
    assert isinstance(made, Awaitable)
    assert inspect.isawaitable(made)
    assert asyncio.iscoroutine(made)


@EACH_WAY
async def test_what_was_sent_is_done(way: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]) -> None:
    assert await way(sent()) is None


@EACH_WAY
async def test_a_message_that_is_there_is_received(
    way: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
) -> None:
    source = Source(ONE, TWO)
    assert await way(source.receive()) == ONE
    assert await way(source.receive()) == TWO


@EACH_WAY
async def test_a_message_that_comes_later_is_received(
    way: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
) -> None:
    source = Source()
    asyncio.get_running_loop().call_later(0.001, source.put, ONE)
    assert await way(source.receive()) == ONE
    assert source.cleaned == 1


async def test_neither_waits_when_there_is_nothing_to_wait_for() -> None:
    for ready in (sent(), Source(ONE).receive()):
        with pytest.raises(StopIteration):
            ready.send(None)


async def test_both_can_be_gathered() -> None:
    source = Source(ONE)
    asyncio.get_running_loop().call_later(0.001, source.put, TWO)
    results = await asyncio.gather(source.receive(), sent(), source.receive(), sent())
    assert results == [ONE, None, TWO, None]


async def test_both_can_be_waited_for_as_tasks() -> None:
    source = Source()
    receiving = asyncio.create_task(source.receive())
    done, pending = await asyncio.wait({receiving, asyncio.create_task(sent())}, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), pending) == (1, {receiving})
    source.put(ONE)
    assert await receiving == ONE


async def test_a_task_group_takes_both() -> None:
    source = Source(ONE)
    async with asyncio.TaskGroup() as group:
        receiving = group.create_task(source.receive())
        group.create_task(sent())
    assert receiving.result() == ONE


async def test_a_task_that_receives_can_be_shown() -> None:
    receiving = asyncio.create_task(Source().receive())
    await turns()
    assert "Received" in repr(receiving)
    receiving.cancel()


async def test_a_plain_generator_can_delegate_to_it() -> None:
    def delegate(awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
        return (yield from awaitable.__await__())

    for awaitable, result in ((sent(), None), (Source(ONE).receive(), ONE)):
        with pytest.raises(StopIteration) as stopped:
            next(delegate(awaitable))
        assert stopped.value.value == result


async def test_it_can_be_iterated_as_an_old_style_coroutine_is() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(iter(Received(Source(ONE))))
    assert stopped.value.value == ONE


async def test_waiting_with_a_time_limit_loses_nothing() -> None:
    source = Source()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.receive(), 0.001)
    source.put(ONE)
    assert await asyncio.wait_for(source.receive(), 10) == ONE
    assert source.cleaned == 3


async def test_cancelling_a_wait_reaches_it_and_loses_nothing() -> None:
    source = Source()
    receiving = asyncio.create_task(source.receive())
    await turns()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert (receiving.cancelled(), source.cleaned) == (True, 1)
    source.put(ONE)
    assert await source.receive() == ONE


async def test_cancelling_in_the_turn_in_which_the_message_comes_loses_nothing() -> None:
    source = Source()
    receiving = asyncio.create_task(source.receive())
    await turns()
    source.put(ONE)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await source.receive() == ONE


async def test_one_that_is_never_awaited_takes_nothing_and_does_not_warn() -> None:
    source = Source(ONE)
    made: list[object] = [source.receive(), sent()]
    made.clear()
    gc.collect()
    assert await source.receive() == ONE


async def test_one_that_is_closed_without_being_awaited_takes_nothing() -> None:
    source = Source(ONE)
    sent().close()
    source.receive().close()
    assert await source.receive() == ONE


async def test_one_that_is_closed_while_it_waits_ends_the_wait() -> None:
    source = Source()
    receiving = source.receive()
    receiving.send(None)
    assert source.cleaned == 0
    receiving.close()
    assert source.cleaned == 1


@EACH_THROW
async def test_what_is_thrown_in_is_raised(arguments: tuple[Any, ...]) -> None:
    for awaitable in (sent(), Source(ONE).receive()):
        with pytest.raises(Thrown) as raised:
            awaitable.throw(*arguments)
        assert (raised.value is ERROR) == (ERROR in arguments)


@EACH_THROW
async def test_what_is_thrown_in_while_it_waits_is_raised_there(arguments: tuple[Any, ...]) -> None:
    source = Source()
    receiving = source.receive()
    receiving.send(None)
    with pytest.raises(Thrown) as raised:
        receiving.throw(*arguments)
    assert ((raised.value is ERROR), source.cleaned) == (ERROR in arguments, 1)


async def test_a_traceback_that_is_thrown_in_is_kept() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        thrown = error
    traceback, thrown.__traceback__ = thrown.__traceback__, None
    with pytest.raises(ValueError, match="x") as raised:
        sent().throw(ValueError, thrown, traceback)
    frames = [frame.name for frame in raised.traceback]
    assert "test_a_traceback_that_is_thrown_in_is_kept" in frames
    assert raised.value is thrown


async def test_throwing_takes_no_message() -> None:
    source = Source(ONE)
    receiving = source.receive()
    with pytest.raises(ValueError, match="x"):
        receiving.throw(ValueError("x"))
    assert await source.receive() == ONE


def test_all_messages_that_were_sent_share_one_instance() -> None:
    assert isinstance(SENT, Sent)
    assert not hasattr(SENT, "__dict__")
    assert not hasattr(Received(cast(Any, None)), "__dict__")
