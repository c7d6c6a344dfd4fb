"""One HTTP request and its response, as the application sees them (ASGI HTTP specification 2.4).

What the application may send, by what it has sent:

    state           http.response.start   http.response.body
    AWAITING_START  -> HEAD_HELD          error
    HEAD_HELD       error                 -> BODY, or -> DONE or TRAILERS when no more follows
    BODY            error                 -> BODY, or -> DONE or TRAILERS when no more follows
    TRAILERS        error                 error
    DONE            error                 error

http.response.zerocopysend is like http.response.body, and http.response.pathsend like one after which no more follows;
that cannot be mixed with others. http.response.early_hint may come until there is no more body, and is sent while the
client has got nothing of the response. TRAILERS is for a start that has announced them, and a client that takes them.

The start is held back until the first body message, so that both leave in one write, and a failure between them can
still become a clean 500.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Coroutine, Iterable
from time import perf_counter
from typing import Any

from fastserve.asgi.answered import Answered
from fastserve.asgi.awaitables import SENT, Received
from fastserve.asgi.files import send_open_file, send_path
from fastserve.asgi.types import Message, Receive, Scope, Send
from fastserve.asgi.waiting import wait_message
from fastserve.errors import ClientDisconnected, InvalidMessage
from fastserve.net.stream import Stream
from fastserve.wire.events import Field, RequestHead

# Names of this module are found faster than imported ones, where both are compiled.
_SENT = SENT
_perf_counter = perf_counter
_ERROR_FIELDS = ((b"content-type", b"text/plain; charset=utf-8"),)
_ERROR_BODY = b"Internal Server Error"


class Writing(enum.IntEnum):
    """How far the response is."""

    AWAITING_START = 0
    HEAD_HELD = 1
    BODY = 2
    TRAILERS = 3
    DONE = 4


_AWAITING_START, _HEAD_HELD, _BODY, _TRAILERS, _DONE = Writing


class Caller:
    """Who calls the application and wants to know of its responses.

    raises_disconnect: whether `send` raises when the client is gone, as from version 2.4 of the ASGI HTTP specification
    on. Before, what is sent then goes nowhere.
    """

    __slots__ = ("raises_disconnect",)

    raises_disconnect: bool

    def call(self, exchange: Exchange) -> None:
        """Call the application for this exchange."""
        raise NotImplementedError

    def peer_left(self, exchange: Exchange) -> None:
        """Take note that the client sends nothing more, and is most likely not reading either."""
        raise NotImplementedError

    def response_sent(self, exchange: Exchange) -> None:
        """Take note that the response is complete."""
        raise NotImplementedError


class Exchange(Answered):
    """See Answered and net.stream.Answering; and `receive` and `send` for the application.

    peer_is_gone: the client sends nothing more, and is most likely not reading either.
    """

    __slots__ = (
        "_body",
        "_body_is_taken",
        "_caller",
        "_changed",
        "_connection_is_lost",
        "_has_trailers",
        "_more_body",
        "_stream",
        "_trailers",
        "_writing",
        "peer_is_gone",
    )

    def __init__(self, head: RequestHead, scope: Scope, stream: Stream, caller: Caller) -> None:
        self.begin(head, scope, stream, caller)

    def begin(self, head: RequestHead, scope: Scope, stream: Stream, caller: Caller) -> None:
        """Be made: what `__init__` does, which takes longer to call when it is compiled."""
        self.head = head
        self.scope = scope
        self._stream = stream
        self._caller = caller
        self._body: list[bytes] | None = None  # received, and not taken by the application
        self.unread_bytes = 0
        self._more_body = head.has_body()
        self._body_is_taken = False
        self.peer_is_gone = False
        self._connection_is_lost = False
        self._changed: asyncio.Event | None = None  # set when there may be a message, for those who wait
        self._writing = _AWAITING_START
        self._has_trailers = False  # announced by the application
        self._trailers: list[Field] | None = None  # those that there are yet; None when the client takes none
        self.status = 0
        self.is_cut = self.is_refused = False
        self.fields: Iterable[Field] = ()
        self.sent_bytes = 0
        self.started_at = _perf_counter()

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method} {self.head.raw_path!r} {Writing(self._writing).name}>"

    def is_done(self) -> bool:
        """Tell whether the response is complete."""
        return self._writing == _DONE

    # What the connection calls.

    def start(self) -> None:
        """See Answering."""
        self._caller.call(self)

    def receive_body(self, data: bytes, last: bool) -> None:
        """See Answering."""
        if self._body is None:
            self._body = [data]
        else:
            self._body.append(data)
        self.unread_bytes += len(data)
        self._more_body = not last
        self._wake()

    def peer_closed(self) -> None:
        """See Answering."""
        if not self.peer_is_gone:
            self.peer_is_gone = True
            self._caller.peer_left(self)
        self._wake()

    def connection_lost(self) -> None:
        """See Answering."""
        self._connection_is_lost = True
        self.peer_closed()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    # What the application calls.

    def receive(self) -> Awaitable[Message]:
        """Return the next message, awaitable (ASGI: Request, Disconnect).

        After the request body that is http.disconnect, when the client goes away or the response is complete.
        """
        return Received(self)

    def take_message(self) -> Message | None:
        """Return the next message, or None when there is none yet."""
        if self._writing == _DONE:
            return {"type": "http.disconnect"}
        if self._body is not None or not (self._more_body or self._body_is_taken):
            return self._take_message_of_body()
        if self.peer_is_gone:
            return {"type": "http.disconnect"}
        return None

    def take_content(self) -> bytes | None:
        """Return all of the body that was not taken before; None if some has yet to come, or no message has any."""
        if self._writing == _DONE or self._more_body or self._body_is_taken:
            return None
        return self._take_body()

    def _take_message_of_body(self) -> Message:
        body = self._take_body()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    def _take_body(self) -> bytes:
        """Return what of the body is there and not taken yet."""
        body = b""
        if self._body is not None:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = None
            self.unread_bytes = 0
            self._stream.resume_reading()
        self._body_is_taken = not self._more_body
        return body

    def wait_message(self) -> Coroutine[Any, Any, Message]:
        """Return a coroutine that waits for the next message."""
        if self._more_body:
            self._stream.ask_for_body()
        return wait_message(self)

    def change(self) -> asyncio.Event:
        """Return an event that is set when there may be a message, from now on."""
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        return self._changed

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message, which is done when this returns; await the result to keep to the client's pace.

        Raises:
            ClientDisconnected: the client is gone, and the application is to be told so; see Caller.
            InvalidMessage: the message does not exist, or not in this state.
            InvalidResponse: what it says cannot be sent.
        """
        if type(message) is not dict:
            message = dict(message)  # Of another mapping, each look costs more than the copy.
        if self._connection_is_lost and not self._caller.raises_disconnect:
            # One who goes on and on must not keep others from running.
            return asyncio.sleep(0) if message.get("more_body") else _SENT
        kind = message["type"]
        if self._writing == _AWAITING_START:
            if kind == "http.response.start":
                return self._hold_start(message)
        elif kind == "http.response.body":
            if self._writing == _HEAD_HELD or self._writing == _BODY:
                return self._send_body(message)
        if kind in _EXTENSIONS and self._writing in _EXTENSIONS[kind]:
            return self._send_extension(kind, message)
        raise InvalidMessage(f"{kind!r} cannot be sent {_STATES[self._writing]}")

    def respond(self, status: int, fields: list[Field], body: bytes) -> None:
        """Send a complete response: what `send` does with both of its messages.

        Raises:
            ClientDisconnected, InvalidMessage, InvalidResponse: see `send`.
        """
        if self._connection_is_lost and not self._caller.raises_disconnect:
            return
        if self._writing != _AWAITING_START:
            raise InvalidMessage(f"'http.response.start' cannot be sent {_STATES[self._writing]}")
        if self._connection_is_lost:
            raise ClientDisconnected("the client disconnected")
        self.fields = fields
        self._stream.start_response(status, fields)
        self.status = status
        self._writing = _HEAD_HELD
        self.sent_bytes += self._stream.send_body(body, True)
        self._complete()

    def _hold_start(self, message: Message) -> Awaitable[None]:
        if self._connection_is_lost:
            raise ClientDisconnected("the client disconnected")
        status = message["status"]
        fields = message.get("headers") or ()
        self.fields = fields if type(fields) is list else list(fields)  # It is read again for logs.
        self._stream.start_response(status, self.fields)
        self.status = status
        self._writing = _HEAD_HELD
        if message.get("trailers"):
            self._has_trailers = True
            self._trailers = [] if self._stream.takes_trailers() else None
        return _SENT

    def _send_body(self, message: Message) -> Awaitable[None]:
        if self._connection_is_lost:
            raise ClientDisconnected("the client disconnected")
        body = message.get("body", b"")
        last = not message.get("more_body")
        if type(body) is not bytes:
            body = _copy(body)
        if last and self._trailers is not None:
            return self._sent_part(self._stream.send_body(body, False), True)
        self.sent_bytes += self._stream.send_body(body, last)
        if last:
            return self._complete()
        self._writing = _BODY
        return _SENT if self._stream.is_writable else self._stream.wait_writable(self._caller.raises_disconnect)

    def _complete(self) -> Awaitable[None]:
        self._writing = _DONE
        self._wake()
        self._caller.response_sent(self)
        return _SENT

    def _sent_part(self, size: int, last: bool) -> Awaitable[None]:
        """Take note of a part of the body that is sent, in a response that is not the usual one."""
        self.sent_bytes += size
        if last and self._trailers is None:
            return self._complete()
        self._writing = _TRAILERS if last else _BODY
        return _SENT if self._stream.is_writable else self._stream.wait_writable(self._caller.raises_disconnect)

    # Extensions.

    def _send_extension(self, kind: str, message: Message) -> Awaitable[None]:
        if kind == "http.response.trailers" and self._writing == _DONE:
            if self._has_trailers:
                return _SENT  # The client does not take them.
            raise InvalidMessage(f"{kind!r} cannot be sent {_STATES[self._writing]}")
        if self._connection_is_lost:
            raise ClientDisconnected("the client disconnected")
        if kind == "http.response.pathsend":
            return send_path(self, message["path"])
        if kind == "http.response.zerocopysend":
            more = bool(message.get("more_body"))
            return send_open_file(self, message["file"], message.get("offset"), message.get("count"), last=not more)
        if kind == "http.response.trailers":
            return self._send_trailers(message)
        if self._writing != _BODY:  # Then it would be too late, which does not matter.
            self._stream.send_early_hint(message["links"])
        return _SENT

    def _send_trailers(self, message: Message) -> Awaitable[None]:
        assert self._trailers is not None
        self._trailers += message["headers"]
        if message.get("more_trailers"):
            return _SENT
        self._stream.send_trailers(self._trailers)
        return self._complete()

    def declare_length(self, length: int) -> int | None:
        """Declare the length of the body, unless the application has; return what is declared, None if nothing can be.

        To be called before the body.
        """
        return self._stream.declare_length(length) if self._trailers is None else None

    def has_begun(self) -> bool:
        """Tell whether a part of the body is sent."""
        return self._writing >= _BODY

    def send_file(self, fd: int, offset: int, count: int, last: bool) -> Awaitable[None] | None:
        """Send a part of the body from a file; return None where that is not possible, and `send` has to do it."""
        if self._connection_is_lost or not self._stream.sends_files:
            return None
        sent = self._stream.send_file(fd, offset, count, last and self._trailers is None)
        return self._sent_part(sent, last)

    # When the application fails.

    def fail(self) -> None:
        """Answer with 500 where that is still possible, and close the connection otherwise."""
        if self._connection_is_lost or self._writing == _DONE:
            return
        if self._writing >= _BODY:
            self._stream.abort()
            return
        self._trailers = None
        self.status = 500
        self._stream.start_response(500, _ERROR_FIELDS)
        self._writing = _HEAD_HELD
        self._send_body({"body": _ERROR_BODY})

    def abandon(self) -> None:
        """Close the connection: the application does not answer, because the client is gone."""
        if not self._connection_is_lost and self._writing != _DONE:
            self._stream.abort()


def respond(send: Send, status: int, fields: list[Field], body: bytes) -> bool:
    """Send a complete response in one step if this `send` is one of an exchange, and tell whether it is.

    For those who would make two messages only to have them taken apart. See Exchange.respond.
    """
    exchange = _exchange_of(send)
    if exchange is None:
        return False
    exchange.respond(status, fields, body)
    return True


def take_content(receive: Receive) -> bytes | None:
    """Return what the last message of a body has, in one step, if this `receive` is one of an exchange that has it all.

    Else it is None, nothing is taken, and the messages have to be awaited. See Exchange.take_content.
    """
    exchange = _exchange_of(receive)
    return exchange.take_content() if exchange is not None else None


def _exchange_of(method: Any) -> Exchange | None:
    """Return the exchange that a `send` or `receive` is of; None if it is somebody else's."""
    owner = getattr(method, "__self__", None)
    return owner if type(owner) is Exchange else None


# The messages of extensions, and the states in which they may be sent.
_EXTENSIONS = {
    "http.response.early_hint": (_AWAITING_START, _HEAD_HELD, _BODY),
    "http.response.pathsend": (_HEAD_HELD,),
    "http.response.zerocopysend": (_HEAD_HELD, _BODY),
    "http.response.trailers": (_TRAILERS, _DONE),
}
_STATES = {
    _AWAITING_START: "before 'http.response.start'",
    _HEAD_HELD: "between 'http.response.start' and 'http.response.body'",
    _BODY: "before the response body is complete",
    _TRAILERS: "when only trailers are left to be sent",
    _DONE: "after the response is complete",
}


def _copy(body: object) -> bytes:
    """Return the bytes of a body that may change after it was sent, or is of a type derived from bytes."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise InvalidMessage(f"the body of 'http.response.body' must be bytes, not {type(body).__name__}")
