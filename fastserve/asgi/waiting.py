"""Where the server waits on behalf of the application.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

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
