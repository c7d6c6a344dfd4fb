"""One connection: the only asyncio protocol of fastserve. It moves bytes between a transport, a wire and an exchange.

RECEIVING -> SERVING -> WAITING -> RECEIVING ...      requests, one after the other
                     -> DISCARDING -> WAITING         the response was early; the rest of the request is dropped
                     -> SWITCHED                      another protocol from now on, which the answering side speaks
any of these -> LINGERING -> CLOSED                   a last response is out; the client may still be sending
any of these -> CLOSED
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, cast

from fastserve.addresses import describe_client
from fastserve.errors import ProtocolViolation
from fastserve.net.state import ServerState
from fastserve.net.stream import NO_RESPONSE, Address, Answering, Stream
from fastserve.net.waiting import wait_writable
from fastserve.wire.events import BodyData, Event, Field, RequestHead

_log = logging.getLogger("fastserve")

# A response that came before the whole request: how much of the rest is read to keep the connection, and how long.
_DISCARD_BYTES = 64 * 1024
_DISCARD_S = 1.0
# A last response: how long the client may go on sending, between two reads and in all. Closing at once would reset the
# connection, and the client could lose the response (RFC 9112 §9.6).
_LINGER_S = 2.0
_LINGER_ALL_S = 30.0
# The same between two reads where others wait for its place, and the request has come as a whole.
_LINGER_CROWDED_S = 0.25
# How many pipelined requests are answered before others have their turn.
_ANSWERS_PER_TURN = 16
# Parts of a response that is not complete leave together when the event loop turns, or when there is more than this.
_HOLD_BYTES = 16 * 1024
# Up to this size a body is joined to what goes before it; beyond, copying costs more than another piece.
_JOIN_BYTES = 64 * 1024
# asyncio's writelines() does not call pause_writing() there (CVE-2024-12254); setting the limit anew does.
_WRITELINES_FORGETS_LIMIT = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)


class Phase(enum.IntEnum):
    """What a connection is doing."""

    RECEIVING = 0  # a request head: the first one, or one that has begun
    SERVING = 1  # an exchange is running
    DISCARDING = 2
    WAITING = 3  # kept alive, for the next request to begin
    SWITCHED = 4  # to another protocol
    LINGERING = 5
    CLOSED = 6


_RECEIVING, _SERVING, _DISCARDING, _WAITING, _SWITCHED, _LINGERING, _CLOSED = Phase


class Connection(Stream):
    """One accepted connection, and the stream of the exchange that it carries at the time.

    What an exchange is told may be its end, which lets go of it. A method that tells it something therefore keeps a
    reference of its own: where both are compiled, a call does not.

    idle_since: when it was last found to have no request, in seconds (see net.deadlines.Clock).
    """

    __slots__ = (
        "_awaits_continue",
        "_changed",
        "_discarded",
        "_exchange",
        "_head_is_sent",
        "_held",
        "_held_bytes",
        "_is_due",
        "_is_pumping",
        "_is_reading",
        "_is_retired",
        "_linger_until",
        "_phase",
        "_response",
        "_state",
        "_transport",
        "_unsent_seen",
        "_unsent_until",
        "_wire",
        "idle_since",
    )

    def __init__(self, state: ServerState) -> None:
        Stream.__init__(self)
        self._state = state
        self._wire = state.new_wire()
        self._response = self._wire.response
        self._phase = _RECEIVING
        self._exchange: Answering | None = None
        self._head_is_sent = False  # of the response at hand
        self._held: list[bytes] | None = None  # what is encoded, and leaves when the event loop turns
        self._held_bytes = 0
        self._awaits_continue = False  # the client holds the body back until it gets 100 (Continue)
        self._is_pumping = False
        self._is_due = False  # it is pumped in a turn to come
        self._is_reading = True
        self._is_retired = False  # the next response is the last one
        self._discarded = 0
        self._linger_until = 0.0
        self.idle_since = 0.0
        self._unsent_seen = 0  # how much was unsent when last looked at, or after what was written since
        self._unsent_until = 0.0  # when the client must have taken some of that
        self._changed: asyncio.Event | None = None  # set when it becomes writable or closed, for those who wait

    def __repr__(self) -> str:
        return f"<Connection {self.client} {Phase(self._phase).name}>"

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of an accepted connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._state.limits.unsent_bytes)
        # It is a native one, which also makes one piece of small parts itself.
        self.sends_files = hasattr(transport, "send_file")
        if self.client is None and self.server is None:  # A proxy has not introduced it.
            self.client = as_address(transport.get_extra_info("peername"))
            self.server = as_address(transport.get_extra_info("sockname"))
        self.idle_since = self._state.deadlines.now
        self._state.add(self)
        self._state.deadlines.set(self, self._state.timeouts.head_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._phase < _SWITCHED:
            self._wire.receive_data(data)
            self._pump()
        elif self._phase == _SWITCHED:
            exchange = self._exchange
            assert exchange is not None
            exchange.receive_bytes(data)
            if self._phase == _SWITCHED:
                self._watch_reading(exchange.unread_bytes)
        elif self._phase == _LINGERING:
            left = self._linger_until - self._state.deadlines.now
            self._state.deadlines.set(self, min(_LINGER_S, left))

    def eof_received(self) -> bool:
        """Take note that the peer has sent its last byte, and tell whether to keep the transport for writing."""
        self._wire.receive_eof()
        self._pump()
        exchange = self._exchange
        if exchange is not None:
            exchange.peer_closed()
        if self._phase == _WAITING and (self._is_due or not self.is_writable):
            return self._wire.count_unread() > 0  # Requests that wait for their turn, or for the client to read.
        return self._phase == _SERVING

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport is closed."""
        self._phase = _CLOSED
        self._state.remove(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection_lost()
        self._wake()

    def pause_writing(self) -> None:
        """Take note that more than the limit is unsent."""
        self.is_writable = False
        self._look_at_unsent()
        self._state.deadlines.set(self, self._state.timeouts.write_s)

    def resume_writing(self) -> None:
        """Take note that the peer has caught up."""
        self.is_writable = True
        self._wake()
        if self._phase == _SERVING:
            self._watch_body()
        elif self._phase == _WAITING:
            self._pump()
        elif self._phase == _SWITCHED:
            self.expect()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    # Requests.

    def _pump(self) -> None:
        """Pull events and act on them, as far as they go."""
        if self._is_pumping:
            return
        self._is_pumping = True
        answered = 0
        try:
            while not self._wire.is_complete and self._phase < _LINGERING:
                if self._phase == _WAITING and not self.is_writable:
                    break  # The next response would only be added to what the client does not take.
                event = self._wire.next_event()
                if event is None:
                    break
                self._take(event)
                if self._phase == _WAITING:
                    answered += 1
                    if answered == _ANSWERS_PER_TURN and self._wire.count_unread():
                        self._pump_later()
                        break
        except ProtocolViolation as violation:
            self._refuse(violation)
        finally:
            self._is_pumping = False
        if self._phase == _WAITING:
            self._await_request()
        elif self._phase == _SERVING:
            self._watch_body()

    def _pump_later(self) -> None:
        """Pump in a turn to come. Until then the connection is not idle, and no more is read than the limit."""
        if not self._is_due:
            self._is_due = True
            self._state.loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._is_due = False
        self._pump()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestHead):
            self._take_head(event)
        else:
            self._take_body(event)

    def _take_head(self, head: RequestHead) -> None:
        self._phase = _SERVING
        self._awaits_continue = head.expects_continue
        opened = self._exchange = self._state.open_exchange(head, self)
        if head.has_body():
            self._start_with_body(opened)
            return
        if self._wire.is_ended:
            opened.peer_closed()
        opened.start()

    def _start_with_body(self, opened: Answering) -> None:
        """Start with what has come of the body together with the head, so that the application need not wait for it."""
        try:
            event = self._wire.next_event()
            if event is not None:
                self._take(event)
        finally:
            opened.start()

    def _take_body(self, event: BodyData) -> None:
        exchange = self._exchange
        if exchange is None:
            self._discard(event)
        else:
            self._awaits_continue = False
            exchange.receive_body(event.data, event.is_last)
            if event.is_last and self._wire.is_ended:
                exchange.peer_closed()

    def _discard(self, event: BodyData) -> None:
        self._discarded += len(event.data)
        if self._discarded > _DISCARD_BYTES:
            self._linger()
        elif event.is_last:
            self._next_request()

    def _next_request(self) -> None:
        self._phase = _WAITING
        self._head_is_sent = False
        self._wire.start_next_message()
        if self._is_pumping:
            return
        if self._wire.count_unread():
            # In a turn of its own: the application of the request before may still be running, inside send().
            self._pump_later()
        self._await_request()

    def _refuse(self, violation: ProtocolViolation) -> None:
        self._state.log_refusal(self.client, violation, self._head_is_sent)
        if self._head_is_sent:
            self._cut_exchange(0, 0)
        else:
            self._answer_violation(violation)
        self._linger()

    def _answer_violation(self, violation: ProtocolViolation) -> None:
        head = self._wire.known_head()
        refusal = self._wire.encode_refusal(violation)
        size = len(violation.text) if self._response.has_body() else 0
        if self._exchange is None and head is not None:
            self._state.observe_refusal(head, self, violation.status, size)
        self._cut_exchange(violation.status, size)
        self._write_all(refusal)

    def _cut_exchange(self, status: int, size: int) -> None:
        """Let go of the exchange. status, size: what the client gets, if it has got nothing of the response."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cut_short(0 if self._head_is_sent else status, size)
            exchange.connection_lost()

    def _await_request(self) -> None:
        """Set the deadline for the next request: to begin, or to go on if it has begun."""
        if not self.is_writable:
            self._watch_reading(self._wire.count_unread())  # The deadline is that for writing.
        elif self._is_due:
            self._watch_reading(self._wire.count_unread())
            self._state.deadlines.set(self, math.inf)
        elif not self._wire.is_idle():
            self._watch_reading(0)
            self._phase = _RECEIVING
            self._state.deadlines.set(self, self._state.timeouts.head_s)
        elif self._wire.is_ended:
            self._close()
        else:
            self._resume_reading()
            self.idle_since = self._state.deadlines.now
            self._state.deadlines.set(self, self._state.idle_s)

    def _watch_body(self) -> None:
        """Pause or resume reading, and set the deadline, for the body of the request that is being served."""
        assert self._exchange is not None
        unread = self._exchange.unread_bytes
        if self._wire.is_complete:
            unread += self._wire.count_unread()  # Before that, they are framing that is not complete.
        self._watch_reading(unread)
        if self.is_writable:
            holds_back = self._awaits_continue and not self._head_is_sent
            is_awaited = self._is_reading and not self._wire.is_complete and not holds_back
            self._state.deadlines.set(self, self._state.timeouts.body_s if is_awaited else math.inf)

    def _watch_reading(self, unread: int) -> None:
        is_full = unread >= self._state.limits.unread_bytes
        if is_full and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()
        elif not is_full:
            self._resume_reading()

    def _resume_reading(self) -> None:
        """Read on, if reading is paused."""
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def pass_deadline(self) -> None:
        """Act on a deadline that is over (see net.deadlines)."""
        unsent = self._look_at_unsent()
        left_s = self._unsent_until - self._state.deadlines.now
        if unsent and left_s > 0:
            # Whatever else is due waits for the client to take what it has coming, as long as it takes some of it.
            self._state.deadlines.set(self, left_s)
        elif unsent or self._phase >= _LINGERING:
            if unsent:
                time_s = self._state.timeouts.write_s
                _log.info("%s - cut off: it has taken nothing for %g seconds", describe_client(self.client), time_s)
            self.cut()
        elif self._phase == _SWITCHED:
            self.expect()
        elif self._has_no_request():
            self._close()
        elif self._phase == _DISCARDING:
            self._linger()
        else:
            what = "head" if self._phase == _RECEIVING else "body"
            self._refuse(ProtocolViolation(f"the request {what} did not arrive in time", status=408))

    def _look_at_unsent(self) -> int:
        """Return how much is unsent. The client has the time to write to take some of it, from when it last has."""
        unsent = self._transport.get_write_buffer_size()
        if not self._unsent_seen or unsent < self._unsent_seen:
            self._unsent_until = self._state.deadlines.now + self._state.timeouts.write_s
        self._unsent_seen = unsent
        return unsent

    def _begin_write(self) -> None:
        """See what the client has taken, if something was unsent, before there is more."""
        if self._unsent_seen:
            self._look_at_unsent()

    def _end_write(self) -> None:
        """Take note that there is more unsent, if something was: that says nothing of the client."""
        if self._unsent_seen:
            self._unsent_seen = self._transport.get_write_buffer_size()

    # What the exchange calls (see net.stream).

    def start_response(self, status: int, fields: Iterable[Field]) -> None:
        """See Stream."""
        self._response.start(status, fields)

    def send_body(self, body: bytes, last: bool) -> int:
        """See Stream."""
        if not self._head_is_sent and self._must_close(last):
            self._response.keep_alive = False
        parts = self._response.encode_body(body, last)
        sent = len(body) if self._response.has_body() else 0
        self._head_is_sent = True
        if self._held is not None:
            self._held += parts
            self._held_bytes += len(body)
            if last or self._held_bytes > _HOLD_BYTES:
                self._release()
        elif last or len(body) > _HOLD_BYTES:
            self._write(parts, len(body))
        else:
            self._held = parts
            self._held_bytes = len(body)
            self._state.loop.call_soon(self._release)
        if last:
            self._end_response()
        else:
            self._notice_loss()
        return sent

    def _notice_loss(self) -> None:
        """Have one who goes on sending wait if a write has failed, which is told in a turn to come."""
        if self._transport.is_closing():
            self.is_writable = False

    def _release(self) -> None:
        """Send the parts that were held back."""
        parts, self._held = self._held, None
        if parts is not None and self._phase != _CLOSED:
            self._write(parts, self._held_bytes)

    def _write(self, parts: list[bytes], size: int) -> None:
        """Send parts, with so many bytes of a body."""
        if self.sends_files or size > _JOIN_BYTES:
            self._write_all(parts)
        else:
            self._write_one(b"".join(parts))

    def _write_one(self, data: bytes) -> None:
        self._begin_write()
        self._transport.write(data)
        self._end_write()

    def _write_all(self, parts: list[bytes]) -> None:
        self._begin_write()
        self._transport.writelines(parts)
        self._end_write()
        if _WRITELINES_FORGETS_LIMIT and not self.sends_files and self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=self._state.limits.unsent_bytes)

    def switch(self, fields: Iterable[Field]) -> bytes:
        """See Stream."""
        exchange = self._exchange
        assert exchange is not None
        self._write_one(self._response.encode_switch(fields))
        self._phase = _SWITCHED
        self._head_is_sent = True
        if self._state.is_draining:
            exchange.drain()
        return self._wire.take_unread()

    def send_bytes(self, parts: list[bytes]) -> None:
        """See Stream."""
        if self._held is not None or (not self.sends_files and self._transport.get_write_buffer_size()):
            self._hold_bytes(parts)  # The more writes are unsent, the more each costs a transport of asyncio.
        elif len(parts) == 1:
            self._write_one(parts[0])
        else:
            self._write_all(parts)
        self._notice_loss()

    def _hold_bytes(self, parts: list[bytes]) -> None:
        if self._held is None:
            self._held = []
            self._held_bytes = 0
            self._state.loop.call_soon(self._release)
        self._held += parts
        self._held_bytes += sum(map(len, parts))
        if self._held_bytes > _HOLD_BYTES:
            self._release()

    def end(self, *, lingers: bool) -> None:
        """See Stream."""
        self._exchange = None
        if lingers:
            self._linger()
        else:
            self._close()

    def expect(self) -> None:
        """See Stream."""
        if self._phase == _SWITCHED and self.is_writable:
            exchange = self._exchange
            assert exchange is not None
            wait_s = exchange.tick(self._state.deadlines.now)
            if self._phase == _SWITCHED:
                self._state.deadlines.set(self, wait_s)

    def declare_length(self, length: int) -> int:
        """See Stream."""
        return self._response.declare_length(length)

    def send_file(self, fd: int, offset: int, count: int, last: bool) -> int:
        """See Stream."""
        if not self._head_is_sent and self._must_close(last):
            self._response.keep_alive = False
        self._release()
        before, after = self._response.encode_around(count, last)
        self._head_is_sent = True
        if self._response.has_body():
            self._begin_write()
            cast(Any, self._transport).send_file(before, fd, offset, count, after)
            self._end_write()
        else:
            self._write_one(before)
            count = 0
        if last:
            self._end_response()
        else:
            self._notice_loss()
        return count

    def send_early_hint(self, links: Iterable[bytes]) -> None:
        """See Stream."""
        self._write_one(self._response.encode_early_hint(links))

    def takes_trailers(self) -> bool:
        """See Stream."""
        return self._response.takes_trailers()

    def send_trailers(self, fields: Iterable[Field]) -> None:
        """See Stream."""
        end = self._response.encode_trailers(fields)
        self._release()
        self._write_one(b"".join(end))
        self._end_response()

    def wait_writable(self, raises: bool) -> Coroutine[Any, Any, None]:
        """See Stream."""
        return wait_writable(self, raises)

    def ask_for_body(self) -> None:
        """See Stream."""
        if self._awaits_continue:
            if not self._head_is_sent:
                self._awaits_continue = False
                self._write_one(self._response.encode_continue())
            self._watch_body()

    def resume_reading(self) -> None:
        """See Stream."""
        if not self._is_reading and self._phase == _SERVING:
            self._watch_body()
        elif not self._is_reading and self._phase == _SWITCHED:
            assert self._exchange is not None
            self._watch_reading(self._exchange.unread_bytes)

    def abort(self) -> None:
        """See Stream."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection_lost()
        self._close()

    def _must_close(self, last: bool) -> bool:
        """Tell whether the response that is about to begin is known to be the last one."""
        wire = self._wire
        if not self._state.keeps_connections or self._state.is_crowded or self._is_retired or self._awaits_continue:
            return True
        if wire.is_complete:
            return wire.is_ended and not wire.count_unread()
        return last and (wire.body_bytes_left() or 0) > _DISCARD_BYTES

    def _end_response(self) -> None:
        self._exchange = None
        if not self._response.keep_alive:
            self._close_after_response()
        elif self._wire.is_complete:
            self._next_request()
        elif (self._wire.body_bytes_left() or 0) > _DISCARD_BYTES:
            self._linger()
        else:
            self._phase = _DISCARDING
            self._discarded = 0
            self._state.deadlines.set(self, _DISCARD_S)
            self._resume_reading()

    # Closing.

    def drain(self, *, cuts_heads: bool) -> None:
        """Keep the connection only for the exchange that it carries, or for a last one: the worker is about to stop.

        cuts_heads: whether a head that has begun is not waited for.
        """
        idle_s = self._state.idle_s
        if self._has_no_request():
            self._state.deadlines.set(self, idle_s)
        elif self._phase == _RECEIVING and cuts_heads:
            self._close()
        exchange = self._exchange
        if exchange is not None:
            exchange.drain()

    def retire(self) -> None:
        """Close after the next response. A connection without a request stays as long as it may without one."""
        self._is_retired = True

    def close_if_idle(self) -> bool:
        """Close if there is no request nor anything left to send, and tell whether that was so."""
        is_idle = self._has_no_request() and not self._transport.get_write_buffer_size()
        if is_idle:
            self._close()
        return is_idle

    def _has_no_request(self) -> bool:
        return (self._phase == _WAITING or self._phase == _RECEIVING) and self._wire.is_idle()

    def cut(self) -> None:
        """Close at once, whatever is left to do."""
        self._cut_exchange(NO_RESPONSE, 0)
        self._phase = _CLOSED
        self._transport.abort()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._phase == _CLOSED

    def change(self) -> asyncio.Event:
        """Return an event that is set when the connection becomes writable or closed, from now on."""
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        return self._changed

    def _close_after_response(self) -> None:
        if self._wire.is_complete and self._wire.is_last_request() and not self._wire.count_unread():
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        if self._wire.is_ended or not self._transport.can_write_eof():
            self._close()
            return
        self._release()
        self._phase = _LINGERING
        with contextlib.suppress(OSError):  # The client is gone, which the transport is about to tell.
            self._transport.write_eof()
        self._linger_until = self._state.deadlines.now + _LINGER_ALL_S
        is_brief = self._state.is_crowded and self._wire.is_complete
        self._state.deadlines.set(self, _LINGER_CROWDED_S if is_brief else _LINGER_S)
        self._resume_reading()

    def _close(self) -> None:
        self._release()
        self._phase = _CLOSED
        self._transport.close()
        self._state.deadlines.set(self, self._state.timeouts.write_s)


def as_address(name: Any) -> Address | None:
    """Return an address as ASGI has it from what a socket gives: a tuple, or the path of a Unix socket."""
    if isinstance(name, tuple):
        return (str(name[0]), int(name[1]))
    if isinstance(name, bytes):
        name = name.decode(errors="surrogateescape")
    return (name, None) if name else None
