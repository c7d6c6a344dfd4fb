"""Waiting until something is writable."""

from __future__ import annotations

import asyncio

import pytest

from fastserve.errors import ClientDisconnected
from fastserve.net.waiting import wait_writable
from tests.doubles import turns


class Target:
    """Something that is full until the test says otherwise."""

    def __init__(self, *, is_writable: bool = False, is_closed: bool = False) -> None:
        self.is_writable = is_writable
        self.is_closed = is_closed
        self._changed = asyncio.Event()

    def change(self) -> asyncio.Event:
        self._changed.clear()
        return self._changed

    async def wake(self) -> None:
        self._changed.set()
        await turns()


async def test_what_is_writable_is_not_waited_for() -> None:
    waiting = wait_writable(Target(is_writable=True), True)
    with pytest.raises(StopIteration):
        waiting.send(None)


@pytest.mark.parametrize("is_writable", [False, True], ids=["full", "writable"])
async def test_what_is_closed_raises(is_writable: bool) -> None:
    with pytest.raises(ClientDisconnected):
        await wait_writable(Target(is_writable=is_writable, is_closed=True), True)


async def test_what_is_full_is_waited_for_until_it_is_writable() -> None:
    target = Target()
    waiting = asyncio.ensure_future(wait_writable(target, True))
    await turns()
    assert not waiting.done()
    target.is_writable = True
    await target.wake()
    assert waiting.done()
    assert waiting.exception() is None


async def test_what_is_full_again_when_it_wakes_is_waited_for_again() -> None:
    target = Target()
    waiting = asyncio.ensure_future(wait_writable(target, True))
    await turns()
    await target.wake()
    assert not waiting.done()
    target.is_writable = True
    await target.wake()
    assert waiting.done()


async def test_what_is_closed_while_it_is_waited_for_raises() -> None:
    target = Target()
    waiting = asyncio.ensure_future(wait_writable(target, True))
    await turns()
    target.is_closed = True
    await target.wake()
    assert isinstance(waiting.exception(), ClientDisconnected)


async def test_the_wait_can_be_cancelled() -> None:
    target = Target()
    waiting = asyncio.ensure_future(wait_writable(target, True))
    await turns()
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    await target.wake()
