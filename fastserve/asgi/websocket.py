"""One WebSocket, as the application sees it (ASGI WebSocket specification 2.5).

What the application may send, by the state of the session:

    state          accept      close        http.response.start  http.response.body          send
    CONNECTING     -> OPEN     -> CLOSED    -> DENIAL_HELD        error                       error
    DENIAL_HELD    error       error        error                 -> DENYING, or -> CLOSED    error
    DENYING        error       error        error                 -> DENYING, or -> CLOSED    error
    OPEN           error       -> CLOSING   error                 error                       -> OPEN
    CLOSING        error       OSError      error                 error                       OSError
    CLOSED         error       OSError      error                 error                       OSError

CLOSING: a close frame was sent, and that of the client is awaited. CLOSED: it has come, or the request was refused, or
the connection is gone.
"""

from __future__ import annotations

import enum
import math
from asyncio import AbstractEventLoop, current_task
from collections import deque
from collections.abc import Awaitable, Iterable
from time import perf_counter

from fastserve.asgi.arrival import Receiver, new_woken
from fastserve.asgi.awaitables import SENT
from fastserve.asgi.types import Message, Scope
from fastserve.errors import ClientDisconnected, InvalidMessage, InvalidResponse, WebSocketViolation
from fastserve.net.stream import Stream
from fastserve.settings import WebSocketSettings
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.ws.deflate import Deflater, Inflater
from fastserve.wire.ws.events import Close, Ping, WebSocketEvent
from fastserve.wire.ws.frames import PING, encode_close, encode_pong, is_code
from fastserve.wire.ws.handshake import Handshake
from fastserve.wire.ws.reader import Reader
from fastserve.wire.ws.writer import Writer

NORMAL = 1000
ABNORMAL = 1006
"""The code of a WebSocket that ended without a close frame; it is never sent."""
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012

# How long the client may take to answer a close frame.
_CLOSE_S = 10.0
_PING_TIMEOUT = "keepalive ping timeout"
_ERROR_FIELDS = ((b"content-type", b"text/plain; charset=utf-8"),)
# What accepts a handshake is the server's to say.
_OWN_FIELDS = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    )
)


class SessionState(enum.IntEnum):
    """How far a WebSocket is."""

    CONNECTING = 0
    DENIAL_HELD = 1
    DENYING = 2
    OPEN = 3
    CLOSING = 4
    CLOSED = 5


_CONNECTING, _DENIAL_HELD, _DENYING, _OPEN, _CLOSING, _CLOSED = SessionState


class SessionCaller:
    """Who calls the application and wants to know of its WebSockets. woken: see arrival.new_woken."""

    __slots__ = ("woken",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.woken = new_woken(loop)

    def call(self, session: Session) -> None:
        """Call the application for this session."""
        raise NotImplementedError

    def answered(self, session: Session) -> None:
        """Take note that the handshake is accepted or refused."""
        raise NotImplementedError


class Session(Receiver):
    """See Receiver and net.stream.Answering; and `send` for the application.

    After websocket.disconnect there is nothing else to receive, as often as one asks.

    peer_is_gone: the client sends nothing more.

    max_unread: from how many bytes on that the application has not taken no further messages are read.
    """

    __slots__ = (
        "_caller",
        "_close_until",
        "_connect_is_taken",
        "_connection_is_lost",
        "_disconnect",
        "_handshake",
        "_has_heard",
        "_is_leaving",
        "_max_queue",
        "_max_unread",
        "_messages",
        "_ping_at",
        "_pong_until",
        "_pongs",
        "_queued_bytes",
        "_reader",
        "_settings",
        "_state",
        "_stream",
        "_violation",
        "_writer",
        "peer_is_gone",
    )

    def __init__(
        self,
        head: RequestHead,
        handshake: Handshake,
        scope: Scope,
        stream: Stream,
        caller: SessionCaller,
        settings: WebSocketSettings,
        max_unread: int,
        loop: AbstractEventLoop,
    ) -> None:
        Receiver.__init__(self, loop, caller.woken)
        self.head = head
        self.scope = scope
        self._handshake = handshake
        self._stream = stream
        self._caller = caller
        self._settings = settings
        self._max_queue = settings.max_queue
        self._max_unread = max_unread
        self._state = _CONNECTING
        self._reader: Reader | None = None  # once it is open
        self._writer: Writer | None = None
        self._messages: deque[str | bytes] = deque()  # received, and not taken by the application
        self._queued_bytes = 0  # of these
        self._connect_is_taken = False
        self._disconnect: tuple[int, str] | None = None  # code and reason, when there is no more to receive
        self.peer_is_gone = False
        self._connection_is_lost = False
        self._violation: WebSocketViolation | None = None  # behind messages that the application has not taken
        self._is_leaving = False  # to be closed as soon as it is open
        self._pongs: list[bytes] = []  # to be sent together, or the last one when the client keeps up again
        self._has_heard = False  # from the client, since the last ping
        self._ping_at = math.inf
        self._pong_until = math.inf
        self._close_until = math.inf
        self.status = 0
        self.fields: Iterable[Field] = ()
        self.sent_bytes = 0
        self.is_cut = self.is_refused = False
        self.started_at = perf_counter()

    def __repr__(self) -> str:
        return f"<Session {self.head.raw_path!r} {SessionState(self._state).name}>"

    def is_done(self) -> bool:
        """Tell whether the application has nothing more to say."""
        return self._state >= _CLOSING

    def is_answered(self) -> bool:
        """Tell whether the handshake is accepted or refused."""
        return self.status != 0 and self._state > _DENYING

    # What the connection calls.

    def start(self) -> None:
        """See Answering."""
        self._caller.call(self)

    def receive_bytes(self, data: bytes) -> None:
        """See Answering."""
        self._has_heard = True
        assert self._reader is not None
        self._reader.receive_data(data)
        self._pull()
        if self._arrivals and self._messages:
            # No task is running when bytes arrive from a transport.
            self.wake(current_task(self._loop) is None)

    def _pull(self) -> None:
        """Pull events as far as they go, and as there is room for messages. Who waits for them is not told."""
        reader = self._reader
        assert reader is not None
        try:
            while self._has_room():
                event = reader.next_event()
                if event is None:
                    break
                if not isinstance(event, (str, bytes)):
                    self._take_control(event)
                else:
                    self._messages.append(event)
                    self._queued_bytes += len(event)
        except WebSocketViolation as violation:
            self._violation = violation
            if not self._messages:
                self._refuse()
            else:
                self._stream.expect()  # The application may still answer what came before.
        if self._pongs:
            self._send_pongs()
        self.unread_bytes = reader.count_unread()
        if self._state == _OPEN:
            self.unread_bytes += self._queued_bytes

    def _has_room(self) -> bool:
        """Tell whether the next event may be pulled. Once a close frame is sent, there are no more messages."""
        if self._violation is not None:
            return False
        if self._state == _OPEN:
            return len(self._messages) < self._max_queue and self._queued_bytes < self._max_unread
        return self._state == _CLOSING

    def _take_control(self, event: WebSocketEvent) -> None:
        if isinstance(event, Close):
            if self._state == _OPEN:
                self._send_close_frame(event.code, event.reason)
            self._end(event.code, event.reason, lingers=False)
        elif isinstance(event, Ping) and self._state == _OPEN:
            self._pongs.append(encode_pong(event.data))

    def _send_pongs(self) -> None:
        """Answer the pings that have come, in one piece: each would cost more to send than it cost the client."""
        if self._stream.is_writable:
            pongs, self._pongs = self._pongs, []
            self._stream.send_bytes([b"".join(pongs)])
        else:
            del self._pongs[:-1]  # RFC 6455 §5.5.3: the last one is enough.

    def _send_close_frame(self, code: int, reason: str) -> None:
        """Send the last frame, and before it what pings have as their answer."""
        pongs, self._pongs = self._pongs, []
        self._stream.send_bytes([b"".join(pongs) + encode_close(code, reason)])

    def _refuse(self) -> None:
        violation = self._violation
        assert violation is not None
        if self._state == _OPEN:
            self._send_close_frame(violation.code, violation.reason)
        self._end(violation.code, violation.reason, lingers=True)

    def _end(self, code: int, reason: str, *, lingers: bool) -> None:
        """Be closed: there is nothing more to send or to receive."""
        self._state = _CLOSED
        self._disconnected(code, reason)
        self._stream.end(lingers=lingers)

    def _disconnected(self, code: int, reason: str = "") -> None:
        """Have this told to the application, after the messages that it has not taken. The first one counts."""
        if self._disconnect is None:
            self._disconnect = (code, reason)
            self.wake(False)

    def peer_closed(self) -> None:
        """See Answering."""
        self.peer_is_gone = True
        self._disconnected(ABNORMAL)
        if self._state in (_OPEN, _CLOSING):
            self._end(ABNORMAL, "", lingers=False)

    def connection_lost(self) -> None:
        """See Answering."""
        self._connection_is_lost = self.peer_is_gone = True
        self._state = _CLOSED
        self._disconnected(ABNORMAL)

    def drain(self) -> None:
        """See Answering."""
        self._is_leaving = True
        if self._state == _OPEN:
            self._disconnected(SERVICE_RESTART)
            self._close(SERVICE_RESTART, "")

    def tick(self, now: float) -> float:
        """See Answering."""
        if self._state == _OPEN:
            if self._pongs:
                self._send_pongs()
            if self._violation is None:
                return self._keep_alive(now) if self._settings.ping_interval_s else math.inf
        elif self._state != _CLOSING:
            return math.inf
        if self._close_until == math.inf:
            self._close_until = now + _CLOSE_S
        elif now >= self._close_until:
            self._give_up()
        return self._close_until - now

    def _give_up(self) -> None:
        """Close without what is awaited: the client's close frame, or that the application takes what came before."""
        if self._state == _OPEN:
            self._refuse()
        else:
            self._stream.abort()

    def _keep_alive(self, now: float) -> float:
        """Send a ping when it is time, notice when the last one had no effect, and return when to look again."""
        settings = self._settings
        if self._ping_at == math.inf:
            self._ping_at = now + settings.ping_interval_s
        is_deaf = self.unread_bytes >= self._max_unread  # The application takes nothing, so reading is paused.
        if self._has_heard or is_deaf:
            self._pong_until = math.inf
        elif now >= self._pong_until:
            self._send_close_frame(INTERNAL_ERROR, _PING_TIMEOUT)
            self._end(ABNORMAL, _PING_TIMEOUT, lingers=True)
            return math.inf
        if now >= self._ping_at:
            self._stream.send_bytes([PING])
            self._has_heard = False
            self._ping_at = now + settings.ping_interval_s
            if settings.ping_timeout_s and self._pong_until == math.inf:
                self._pong_until = now + settings.ping_timeout_s
        return min(self._ping_at, self._pong_until) - now

    # What the application calls.

    def take_message(self) -> Message | None:
        """See Receiver (ASGI: Connect, Receive, Disconnect)."""
        if not self._connect_is_taken:
            self._connect_is_taken = True
            return {"type": "websocket.connect"}
        if self._messages:
            return self._take_received()
        if self._violation is not None and self._state == _OPEN:
            self._refuse()
        if self._disconnect is not None:
            code, reason = self._disconnect
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        return None

    def _take_received(self) -> Message:
        message = self._messages.popleft()
        self._queued_bytes -= len(message)
        if self._state == _OPEN:
            assert self._reader is not None
            self.unread_bytes -= len(message)
            if self._reader.count_unread():
                self._pull()
                if self._arrivals and self._messages:
                    self.wake(False)
            self._stream.resume_reading()
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message, which is done when this returns; await the result to keep to the client's pace.

        Raises:
            ClientDisconnected: the WebSocket is closed.
            InvalidMessage: the message does not exist, or not in this state, or has no valid content.
            InvalidResponse: what it says of the response to the handshake cannot be sent.
        """
        kind = message["type"]
        if self._state == _OPEN:
            if kind == "websocket.send":
                return self._send_message(message)
            if kind == "websocket.close":
                return self._send_close(message)
        elif self._state <= _DENYING:
            answered = self._answer(kind, message)
            if answered is not None:
                return answered
        if self._connection_is_lost or (self._state >= _CLOSING and kind in ("websocket.send", "websocket.close")):
            raise ClientDisconnected("the WebSocket is closed")
        raise InvalidMessage(f"{kind!r} cannot be sent {_STATES[self._state]}")

    def _send_message(self, message: Message) -> Awaitable[None]:
        assert self._writer is not None
        content = message if type(message) is dict else dict(message)
        payload = content.get("bytes")
        is_text = payload is None
        if is_text:
            payload = _encode(content.get("text"))
        elif type(payload) is not bytes:
            payload = _copy(payload)
        self.sent_bytes += len(payload)
        self._stream.send_bytes(self._writer.encode_message(payload, is_text))
        return SENT if self._stream.is_writable else self._stream.wait_writable(True)

    def _send_close(self, message: Message) -> Awaitable[None]:
        code = message.get("code")
        if code is None:
            code = NORMAL
        if not isinstance(code, int) or not is_code(code):
            raise InvalidMessage(f"a WebSocket cannot be closed with the code {code!r}")
        reason = message.get("reason") or ""
        if not isinstance(reason, str):
            raise InvalidMessage(f"the reason of 'websocket.close' must be text, not {type(reason).__name__}")
        self._close(code, str.__str__(reason))
        return SENT

    def _close(self, code: int, reason: str) -> None:
        """Begin to close: what still comes is read only for the client's close frame."""
        assert self._reader is not None
        self._send_close_frame(code, reason)
        if self._violation is not None:  # Nothing can be read any more.
            self._end(code, reason, lingers=True)
            return
        self._state = _CLOSING
        self._reader.drop_messages()
        self._pull()
        if self._state == _CLOSING:
            self._stream.expect()
            self._stream.resume_reading()

    # The handshake.

    def _answer(self, kind: str, message: Message) -> Awaitable[None] | None:
        """Send a message that answers the handshake; None when that is not one, or not now."""
        if self._state != _CONNECTING:
            if kind != "websocket.http.response.body":
                return None
            return self._send_denial(message.get("body", b""), not message.get("more_body"))
        if kind == "websocket.accept":
            return self._accept(message)
        if kind == "websocket.close":
            return self._deny(403, (), b"")
        if kind == "websocket.http.response.start":
            return self._hold_denial(message["status"], message.get("headers") or ())
        return None

    def _accept(self, message: Message) -> Awaitable[None]:
        if self.peer_is_gone:
            raise ClientDisconnected("the client disconnected")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._handshake.subprotocols:
            raise InvalidResponse(f"the client does not offer the subprotocol {subprotocol!r}")
        fields = list(message.get("headers") or ())
        _check_fields(fields)
        deflating = self._handshake.deflating if self._settings.per_message_deflate else None
        unread = self._stream.switch([*self._handshake.answer(subprotocol, deflating), *fields])
        self._state = _OPEN
        self.status = 101
        self.fields = fields
        self._reader = Reader(self._settings.max_bytes, None if deflating is None else Inflater(deflating))
        self._writer = Writer(None if deflating is None else Deflater(deflating))
        self._caller.answered(self)
        if unread:
            self.receive_bytes(unread)
        if self._is_leaving:
            self.drain()
        elif self._state == _OPEN:
            self._stream.expect()
            self._stream.resume_reading()
        return SENT

    def _hold_denial(self, status: int, fields: Iterable[Field]) -> Awaitable[None]:
        if self._connection_is_lost:
            raise ClientDisconnected("the client disconnected")
        self.fields = list(fields)
        # What follows a handshake may be anything: it is never taken for another request.
        self._stream.start_response(status, [*self.fields, (b"connection", b"close")])
        self.status = status
        self._state = _DENIAL_HELD
        return SENT

    def _send_denial(self, body: object, last: bool) -> Awaitable[None]:
        content = body if type(body) is bytes else _copy(body)
        self.sent_bytes += self._stream.send_body(content, last)
        self._state = _CLOSED if last else _DENYING
        if last:
            self._disconnected(ABNORMAL)
            self._caller.answered(self)
            return SENT
        return SENT if self._stream.is_writable else self._stream.wait_writable(True)

    def _deny(self, status: int, fields: Iterable[Field], body: bytes) -> Awaitable[None]:
        self._hold_denial(status, fields)
        return self._send_denial(body, True)

    # When the application ends.

    def finish(self) -> None:
        """Close, where the application has not done so: it has returned."""
        if self._state == _OPEN:
            self._close(NORMAL, "")
        else:
            self.fail()

    def fail(self) -> None:
        """Refuse with 500 where that is still possible, and close with 1011 otherwise."""
        if self._state == _OPEN:
            self._close(INTERNAL_ERROR, "")
        elif self._state == _DENYING or self.peer_is_gone:
            self.abandon()
        elif self._state < _DENYING:
            self._deny(500, _ERROR_FIELDS, b"Internal Server Error")

    def abandon(self) -> None:
        """Close the connection: the application does not answer."""
        if not self._connection_is_lost and self._state < _OPEN:
            self._stream.abort()


_STATES = {
    _CONNECTING: "before 'websocket.accept'",
    _DENIAL_HELD: "between 'websocket.http.response.start' and 'websocket.http.response.body'",
    _DENYING: "before the body of the denial is complete",
    _OPEN: "after 'websocket.accept'",
    _CLOSING: "after 'websocket.close'",
    _CLOSED: "after the WebSocket is closed, or refused",
}


def _encode(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidMessage("'websocket.send' needs bytes or text")
    try:
        return str.encode(text)
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"the text of 'websocket.send' has no UTF-8 form: {error}") from None


def _copy(data: object) -> bytes:
    """Return bytes that may change after they were sent, or are of a type derived from bytes."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise InvalidMessage(f"binary content must be bytes, not {type(data).__name__}")


def _check_fields(fields: list[Field]) -> None:
    try:
        own = [name for name, _ in fields if name.lower() in _OWN_FIELDS]
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidResponse(f"the headers of 'websocket.accept' must be pairs of byte strings: {error}") from None
    if own:
        raise InvalidResponse(f"the header {own[0]!r} of 'websocket.accept' is the server's to set")
