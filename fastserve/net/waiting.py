"""Where the layer of connections waits.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import Protocol

from fastserve.errors import ClientDisconnected


class Writable(Protocol):
    """Something that can be full for a while."""

    is_writable: bool

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def change(self) -> asyncio.Event:
        """Return an event that is set when it becomes writable or closed, from now on."""


async def wait_writable(target: Writable, raises: bool) -> None:
    """Wait until `target` is writable or closed.

    Raises:
        ClientDisconnected: it was closed meanwhile, and `raises` is set.
    """
    while not target.is_writable and not target.is_closed:
        await target.change().wait()
    if raises and target.is_closed:
        raise ClientDisconnected("the client disconnected")


class Space(Protocol):
    """Something that keeps connections, and tells when one has closed."""

    @property
    def connections(self) -> Sized:
        """Those that there are."""

    def when_space(self, callback: Callable[[], None]) -> None:
        """Call back as soon as a connection has closed."""


async def wait_no_connections(space: Space) -> None:
    """Wait until every connection has closed."""
    while space.connections:
        closed = asyncio.Event()
        space.when_space(closed.set)
        await closed.wait()
