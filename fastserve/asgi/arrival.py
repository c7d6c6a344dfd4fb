"""Waiting for a message without a turn of the event loop between its arrival and the application.

To the task of the application an Arrival is a future. Unlike asyncio's own it can have the task go on at once, within
the call that received the message, when no other task is running: nothing is queued, and the answer leaves in the same
turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from fastserve.asgi.answered import Answered
from fastserve.asgi.types import Message
from fastserve.asgi.waiting import receive_message


class Arrival:
    """What the task of one who awaits a Receiver gets, until `wake` is called, once."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_is_cancelled", "_loop", "_why", "_woken")

    def begin(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
        """Initialise it. A method, which costs less than the call of a class with arguments."""
        self._loop = loop
        self._woken = woken
        self._asyncio_future_blocking = True
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._is_cancelled = False
        self._why: Any = None

    def wake(self, now: bool) -> None:
        """Have the task go on: now, or in a turn of its own."""
        callback, self._callback = self._callback, None
        if callback is None:
            return
        # The task asks what it is called with for a result, and real futures it asks faster.
        ended = self if self._is_cancelled else self._woken
        if now and self._context is not None:
            self._context.run(callback, ended)
        else:
            self._loop.call_soon(callback, ended, context=self._context)

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
        return self._callback is None

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


def new_woken(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return a future that is done, with which the tasks of a loop are told to go on. One serves all."""
    woken = loop.create_future()
    woken.set_result(None)
    return woken


class Receiver(Answered):
    """What gives an application messages that it may have to wait for: a Session derives from it.

    woken: see new_woken.
    """

    __slots__ = ("_arrivals", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
        super().__init__()
        self._loop = loop
        self._woken = woken
        self._arrivals: list[Arrival] = []  # of those who wait for a message

    def receive(self) -> Coroutine[Any, Any, Message]:
        """Return a coroutine that returns the next message as soon as there is one. Cancelling it loses nothing."""
        return receive_message(self)

    def take_message(self) -> Message | None:
        """Return the next message, or None when there is none yet."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait until there may be a message."""
        if self._arrivals:
            self._forget_cancelled()
        arrival = Arrival.__new__(Arrival)
        arrival.begin(self._loop, self._woken)
        self._arrivals.append(arrival)
        # An iterator of a tuple ends without an exception that would have to be made.
        return iter((arrival,))  # type: ignore[return-value]

    def _forget_cancelled(self) -> None:
        """Keep only those whose tasks still wait. Without this they would be kept until the next message."""
        self._arrivals = [arrival for arrival in self._arrivals if not arrival.done()]

    def wake(self, now: bool) -> None:
        """Have those go on that wait for a message: now, or in turns of their own."""
        if len(self._arrivals) == 1:
            arrival = self._arrivals.pop()
            arrival.wake(now)
            return
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            arrival.wake(now)
