"""Ready-made awaitables: what `receive()` and `send()` return when there is nothing to wait for.

They are no coroutines, so that none has to be made, run and thrown away for each message. They have the interface of
one, so that `asyncio.create_task(receive())` and `asyncio.wait_for(receive(), 1)` work.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol

from fastserve.asgi.types import Message

# An iterator at its end stays there.
_NOTHING: Generator[Any, Any, None] = iter(())  # type: ignore[assignment]


class Sent:
    """A message that has been sent. One instance serves all."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING

    def send(self, value: Any) -> Any:
        """Be done (coroutine interface)."""
        raise StopIteration

    def throw(self, typ: Any, val: BaseException | None = None, tb: TracebackType | None = None) -> Any:
        """Raise what was thrown in (coroutine interface)."""
        raise _thrown(typ, val, tb)

    def close(self) -> None:
        """Do nothing (coroutine interface)."""


SENT = Sent()


class MessageSource(Protocol):
    """Where messages for an application come from."""

    def take_message(self) -> Message | None:
        """Return the next message, or None when there is none yet."""

    def wait_message(self) -> Coroutine[Any, Any, Message]:
        """Return a coroutine that waits for the next message."""


class Received:
    """The next message of a source. It is taken when this is awaited, not before: nothing is lost if it never is."""

    __slots__ = ("_source", "_waiting")

    def __init__(self, source: MessageSource) -> None:
        self._source = source
        self._waiting: Coroutine[Any, Any, Message] | None = None

    def __await__(self) -> Generator[Any, Any, Message]:
        return self  # type: ignore[return-value]

    def __iter__(self) -> Received:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Go on (coroutine interface)."""
        if self._waiting is None:
            message = self._source.take_message()
            if message is not None:
                raise StopIteration(message)
            self._waiting = self._source.wait_message()
        return self._waiting.send(value)

    def throw(self, typ: Any, val: BaseException | None = None, tb: TracebackType | None = None) -> Any:
        """Raise where it waits (coroutine interface)."""
        error = _thrown(typ, val, tb)
        if self._waiting is None:
            raise error
        return self._waiting.throw(error)

    def close(self) -> None:
        """Stop waiting (coroutine interface)."""
        if self._waiting is not None:
            self._waiting.close()


# Registered, not derived: a compiled class cannot have a base that is not.
Coroutine.register(Sent)
Coroutine.register(Received)


def _thrown(typ: Any, val: BaseException | None, tb: TracebackType | None) -> BaseException:
    """Return the exception that a `throw` with these arguments stands for (PEP 342)."""
    error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
    return error.with_traceback(tb) if tb is not None else error
