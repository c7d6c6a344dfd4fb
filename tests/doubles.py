"""Doubles: a transport whose peer is the test, a call that the test answers, a worker whose time the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from fastserve.asgi.answered import Answered
from fastserve.asgi.application import Application
from fastserve.asgi.scope import ScopeBuilder
from fastserve.asgi.sessions import Sessions
from fastserve.asgi.types import ASGIApp, Message, Receive, Scope, Send
from fastserve.errors import ProtocolViolation
from fastserve.net.connection import Connection
from fastserve.net.crowd import Crowd
from fastserve.net.deadlines import TICK_S, Deadlines
from fastserve.net.state import ServerState
from fastserve.net.stream import Address
from fastserve.settings import Settings
from fastserve.wire.http1.parsers import fields_parser
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults

CLIENT = ("192.0.2.7", 40000)
SERVER = ("192.0.2.1", 8000)
START = 1000.0
"""What the clock of a rig shows at first."""


async def turns(count: int = 8) -> None:
    """Let the event loop turn: enough for callbacks and tasks that follow from one another."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until something is so. When it never is, the test fails by its time."""
    while not condition():
        await asyncio.sleep(0)


class ScriptedTransport(asyncio.Transport):
    """A transport without a socket. It keeps what is written and does what asyncio's would do.

    unsent: what get_write_buffer_size() says. While there is some, close() does not end it, as with a real one.
    """

    def __init__(self, protocol: Connection, *, peername: Any, sockname: Any, can_write_eof: bool) -> None:
        super().__init__({"peername": peername, "sockname": sockname})
        self._protocol = protocol
        self._can_write_eof = can_write_eof
        self._loop = asyncio.get_running_loop()
        self._is_lost = False
        self._arrived = bytearray()  # while reading was paused
        self._has_arrived_eof = False
        self.writes: list[bytes] = []
        self.unsent = 0
        self.overhead = 0  # of each write, in what is unsent
        self.high_water: int | None = None
        self._reads = True
        self.is_shut = False  # write_eof() was called
        self.is_closed = False
        self._is_aborted = False

    # What the connection calls.

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_water = high

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.is_shut:
            raise RuntimeError("Cannot call write() after write_eof()")
        assert isinstance(data, bytes)
        if not self.is_closed:
            self.writes.append(data)
            if self.unsent:  # The client is not reading.
                self.unsent += len(data) + self.overhead

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return self._can_write_eof

    def write_eof(self) -> None:
        if not self.is_closed:
            self.is_shut = True

    def is_reading(self) -> bool:
        return self._reads and not self.is_closed

    def pause_reading(self) -> None:
        assert self._reads, "reading is paused already"
        self._reads = False

    def resume_reading(self) -> None:
        assert not self._reads, "reading is not paused"
        self._reads = True
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True
        if not self.unsent:
            self._loop.call_soon(self.lose)

    def abort(self) -> None:
        self.is_closed = self._is_aborted = True
        self._loop.call_soon(self.lose)

    # What the test does.

    def is_aborted(self) -> bool:
        """Tell whether abort() was called."""
        return self._is_aborted

    def arrive(self, data: bytes) -> None:
        """Let bytes arrive from the peer."""
        self._arrived += data
        self._deliver()

    def arrive_eof(self) -> None:
        """Let the end of what the peer sends arrive."""
        self._has_arrived_eof = True
        self._deliver()

    def lose(self, error: Exception | None = None) -> None:
        """Tell the connection that it is lost, if that has not been told."""
        if not self._is_lost:
            self.is_closed = self._is_lost = True
            self._protocol.connection_lost(error)

    def _deliver(self) -> None:
        while self._arrived and self.is_reading():
            data = bytes(self._arrived[: 256 * 1024])
            del self._arrived[: len(data)]
            self._protocol.data_received(data)
        if self._has_arrived_eof and not self._arrived and self.is_reading():
            self._has_arrived_eof = False
            if not self._protocol.eof_received():
                self.close()


class Peer:
    """The client of one connection, played by the test."""

    def __init__(
        self, state: ServerState, *, peername: Any = CLIENT, sockname: Any = SERVER, can_write_eof: bool = True
    ) -> None:
        self.connection = Connection(state)
        self.transport = ScriptedTransport(
            self.connection, peername=peername, sockname=sockname, can_write_eof=can_write_eof
        )
        state.coming += 1
        self.connection.connection_made(self.transport)
        self._taken = 0

    @property
    def phase(self) -> str:
        """The name of the phase that the connection is in."""
        return repr(self.connection).split()[-1].rstrip(">")

    @property
    def received(self) -> bytes:
        """All that the connection has written."""
        return b"".join(self.transport.writes)

    def take(self) -> bytes:
        """Return what the connection has written since the last time."""
        new = self.received[self._taken :]
        self._taken += len(new)
        return new

    def send(self, data: bytes) -> None:
        """Send bytes. As with a real one, they stay where they are while the connection does not read."""
        self.transport.arrive(data)

    def end(self) -> None:
        """Send a FIN: this client sends nothing more."""
        self.transport.arrive_eof()

    def reset(self) -> None:
        """Go away without a word."""
        self.transport.lose(ConnectionResetError(104, "Connection reset by peer"))

    def stall(self, unsent: int) -> None:
        """Stop reading, with so many bytes waiting."""
        self.transport.unsent = unsent
        self.connection.pause_writing()

    def catch_up(self) -> None:
        """Read all that was waiting."""
        self.transport.unsent = 0
        self.connection.resume_writing()
        if self.transport.is_closed:
            self.transport.lose()


def make_room(crowd: Crowd) -> None:
    """Have someone wait for space, after a look at who is idle."""
    crowd.tick()
    crowd.gather("a listener", logging.WARNING, "It is full")


class Call:
    """One call of a PlayedApp. The test receives and sends in its place, and ends it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self._outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def play(self) -> object:
        """Run until the test ends the call."""
        return await self._outcome

    async def start(self, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the start of the response."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, body: bytes = b"", *, more: bool = False) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def respond(self, body: bytes = b"ok", status: int = 200) -> None:
        """Send a whole response, and return."""
        await self.start(status)
        await self.body(body)
        self.end()
        await turns()

    def end(self, result: object = None) -> None:
        """Return from the call."""
        if not self._outcome.done():
            self._outcome.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Raise from the call."""
        self._outcome.set_exception(error)


class PlayedApp:
    """An application without lifespan whose calls the test plays. calls: all there were, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        assert scope["type"] in ("http", "websocket")
        call = Call(scope, receive, send)
        self.calls.append(call)
        return await call.play()


class Rig:
    """The inside of one worker, without sockets: what connections share, and the application under them.

    options: settings by name (the flag in snake case). Responses have no Server and no Date field unless asked for.
    refused: what peers did wrong. logged: target and status of the requests in the access log. sizes: of the bodies
    sent for them, in bytes.
    """

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        settings = Settings.from_options({"server_header": False, "date_header": False, **options})
        loop = asyncio.get_running_loop()
        self.scopes = ScopeBuilder(settings.app.root_path)
        self.application = Application(
            app,
            self.scopes,
            loop=loop,
            concurrency=settings.connections.concurrency,
            cancel_after_s=settings.timeouts.cancel_s,
            observers=[self._log_access] if settings.logs.access_log else [],
        )
        self.sessions = Sessions(
            app,
            self.application,
            self.scopes,
            settings.websockets,
            settings.connections,
            loop=loop,
            on_answered=[self._log_access] if settings.logs.access_log else [],
        )
        if settings.websockets.ws != "none":
            self.application.open_session = self.sessions.open
        defaults = ResponseDefaults(server=None, date=False, fields=settings.http.fields)
        defaults.refresh(0)
        parser = fields_parser(settings.http.http)
        self.deadlines = Deadlines(START)
        self.state = ServerState(
            loop=loop,
            timeouts=settings.timeouts,
            limits=settings.connections,
            deadlines=self.deadlines,
            new_wire=lambda: Http1(parser, settings.requests, defaults),
            open_exchange=self.application.open_exchange,
            log_refusal=self._log_refusal,
            observe_refusal=self.application.observe_refusal,
            keeps_connections=settings.timeouts.keep_alive_s > 0,
        )
        self.refused: list[tuple[int, str]] = []
        self.logged: list[tuple[str, int]] = []
        self.sizes: list[int] = []

    def _log_access(self, exchange: Answered) -> None:
        self.logged.append((exchange.head.raw_path.decode(), exchange.status))
        self.sizes.append(exchange.sent_bytes)

    def _log_refusal(self, client: Address | None, violation: ProtocolViolation, is_answered: bool) -> None:
        self.refused.append((violation.status, violation.reason))

    def connect(self, **addresses: Any) -> Peer:
        """Return the client of a new connection."""
        return Peer(self.state, **addresses)

    async def pass_time(self, seconds: float) -> None:
        """Move the clock on, tick by tick, and let the event loop turn."""
        await turns()
        for _ in range(round(seconds / TICK_S)):
            self.deadlines.tick(self.deadlines.now + TICK_S)
            await turns(1)
        await turns()


def request(target: str = "/", *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """Return a request with a Host; further field lines as they are to be sent."""
    head = "\r\n".join((f"{method} {target} HTTP/{version}", "host: example.org", *lines, "", ""))
    return head.encode("latin-1") + body


def post(body: bytes, *lines: str, target: str = "/", length: int | None = None) -> bytes:
    """Return a POST request with a Content-Length; `length` of a body that comes later, or not at all."""
    declared = len(body) if length is None else length
    return request(target, f"content-length: {declared}", *lines, method="POST", body=body)


def response(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length, as the server writes it without default fields."""
    return "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines, "", "")).encode() + body


async def messages(receive: Receive, count: int) -> list[Message]:
    """Return the next messages."""
    return [await receive() for _ in range(count)]
