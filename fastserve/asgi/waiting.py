"""Where the server waits on behalf of the application.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastserve.asgi.arrival import Arrival
from fastserve.asgi.types import Message


class WaitedFor(Protocol):
    """A source of messages that can tell when there may be one."""

    def take_message(self) -> Message | None:
        """Return the next message, or None when there is none yet."""

    def change(self) -> asyncio.Event:
        """Return an event that is set when there may be a message, from now on."""


async def wait_message(source: WaitedFor) -> Message:
    """Return the next message of a source as soon as there is one. Cancelling this loses nothing."""
    while (message := source.take_message()) is None:
        await source.change().wait()
    return message


class Arriving(Protocol):
    """A source of messages whose arrival can be awaited."""

    def take_message(self) -> Message | None:
        """Return the next message, or None when there is none yet."""

    def arrival(self) -> Arrival:
        """Return what is awaited until there may be a message."""

    def forget(self, arrival: Arrival) -> None:
        """Take note that nobody waits for it any more."""


async def receive_message(source: Arriving) -> Message:
    """Return the next message of a source as soon as there is one. Cancelling this loses nothing."""
    while (message := source.take_message()) is None:
        arrival = source.arrival()
        try:
            await arrival
        except BaseException:
            source.forget(arrival)
            raise
    return message
