"""Waiting for a message without a turn of the event loop between its arrival and the application.

To the task of the application an Arrival is a future. Unlike asyncio's own it can have the task go on at once, within
the call that received the message, when no other task is running: nothing is queued, and the answer leaves in the same
turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Arrival:
    """Awaited until `wake` is called, once."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_is_cancelled", "_is_yielded", "_loop", "_why")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._is_yielded = False
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._is_cancelled = False
        self._why: Any = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self  # type: ignore[return-value]

    def __iter__(self) -> Arrival:
        return self

    def __next__(self) -> Arrival:
        if self._is_yielded:
            raise StopIteration
        self._is_yielded = True
        self._asyncio_future_blocking = True
        return self

    def wake(self, now: bool) -> None:
        """Have the task go on: now, or in a turn of its own."""
        callback, self._callback = self._callback, None
        if callback is None:
            return
        if now and self._context is not None:
            self._context.run(callback, self)
        else:
            self._loop.call_soon(callback, self, context=self._context)

    # What the task calls (asyncio.Future).

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the task that may wait."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Have the task called when it can go on."""
        self._callback = callback
        self._context = context

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Do not call the task."""
        removed = int(self._callback is not None)
        self._callback = None
        return removed

    def done(self) -> bool:
        """Tell whether the task has been called, or is about to be."""
        return self._is_yielded and self._callback is None

    def cancelled(self) -> bool:
        """Tell whether the wait was cancelled."""
        return self._is_cancelled

    def result(self) -> None:
        """Return nothing, or raise that the wait was cancelled."""
        if self._is_cancelled:
            raise asyncio.CancelledError(*(() if self._why is None else (self._why,)))

    def cancel(self, msg: Any = None) -> bool:
        """Have the task go on with a CancelledError, if it is not about to go on anyway."""
        if self._callback is None:
            return False
        self._is_cancelled = True
        self._why = msg
        self.wake(False)
        return True
