"""Where the server waits on behalf of the application.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fastserve.asgi.types import Message

if TYPE_CHECKING:
    from fastserve.asgi.arrival import Receiver


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


async def receive_message(source: Receiver) -> Message:
    """Return the next message of a source as soon as there is one. Cancelling this loses nothing."""
    while (message := source.take_message()) is None:
        await source
    return message
