"""Waiting for a message."""

from __future__ import annotations

import asyncio

import pytest

from fastserve.asgi.types import Message
from fastserve.asgi.waiting import wait_message
from tests.doubles import turns

ONE: Message = {"type": "one"}


class Source:
    """A source that the test fills and wakes."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.changed: asyncio.Event | None = None

    def take_message(self) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def change(self) -> asyncio.Event:
        self.changed = self.changed or asyncio.Event()
        self.changed.clear()
        return self.changed

    async def wake(self) -> None:
        assert self.changed is not None
        self.changed.set()
        await turns()


async def test_a_message_that_is_there_is_not_waited_for() -> None:
    source = Source()
    source.messages = [ONE]
    assert (await wait_message(source), source.changed) == (ONE, None)


async def test_a_message_is_waited_for_until_it_is_there() -> None:
    source = Source()
    waiting = asyncio.ensure_future(wait_message(source))
    await turns()
    await source.wake()  # for nothing
    assert not waiting.done()
    source.messages = [ONE]
    await source.wake()
    assert waiting.result() == ONE


async def test_of_two_that_wait_for_one_message_one_goes_on_waiting() -> None:
    source = Source()
    waiting = [asyncio.ensure_future(wait_message(source)) for _ in range(2)]
    await turns()
    source.messages = [ONE]
    await source.wake()
    assert [each.done() for each in waiting] == [True, False]
    source.messages = [ONE]
    await source.wake()
    assert waiting[1].result() == ONE


async def test_a_wait_that_is_cancelled_takes_nothing() -> None:
    source = Source()
    waiting = asyncio.ensure_future(wait_message(source))
    await turns()
    source.messages = [ONE]
    waiting.cancel()
    await source.wake()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert source.messages == [ONE]
