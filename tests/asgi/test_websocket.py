"""WebSockets through a whole worker without sockets: the client's bytes on one side, the application on the other."""

from __future__ import annotations

import asyncio
import gc
import zlib
from typing import Any

import pytest

from fastserve.asgi.arrival import Arrival
from fastserve.asgi.types import Message
from fastserve.errors import ClientDisconnected, InvalidMessage, InvalidResponse
from tests.doubles import CLIENT, SERVER, Call, Peer, PlayedApp, Rig, request, turns
from tests.wire.ws.client import close, frame, frames, text

UPGRADE = (
    "upgrade: websocket",
    "connection: Upgrade",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)
ACCEPT: Message = {"type": "websocket.accept"}
CONNECT: Message = {"type": "websocket.connect"}
PONG, PING, BINARY = 10, 9, 2


def received(content: str | bytes) -> Message:
    return {"type": "websocket.receive", "text" if isinstance(content, str) else "bytes": content}


def disconnect(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Opened:
    """A WebSocket and both its ends."""

    def __init__(self, rig: Rig, peer: Peer, call: Call) -> None:
        self.rig = rig
        self.peer = peer
        self.call = call

    async def receive(self) -> Message:
        return await self.call.receive()

    async def send(self, content: str | bytes) -> None:
        await self.call.send({"type": "websocket.send", "text" if isinstance(content, str) else "bytes": content})

    def frames(self) -> list[tuple[int, bytes]]:
        return frames(self.peer.take())


async def ask(*lines: str, upgrade: tuple[str, ...] = UPGRADE, after: bytes = b"", **options: Any) -> Opened:
    """Have a client ask for a WebSocket."""
    app = PlayedApp()
    rig = Rig(app, **options)
    peer = rig.connect()
    peer.send(request("/ws?q=1", *upgrade, *lines) + after)
    await turns()
    return Opened(rig, peer, app.calls[0])


def is_cut(socket: Opened) -> bool:
    """Tell whether the connection is closed."""
    return socket.peer.transport.is_closed


async def opened(*lines: str, **options: Any) -> Opened:
    """Return a WebSocket that is accepted."""
    socket = await ask(*lines, **options)
    assert await socket.receive() == CONNECT
    await socket.call.send(ACCEPT)
    head, _, rest = socket.peer.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert not rest
    return socket


# The handshake.


async def test_the_scope_is_as_the_specification_has_it() -> None:
    socket = await ask("sec-websocket-protocol: a, b")
    scope = dict(socket.call.scope)
    headers = scope.pop("headers")
    assert (b"sec-websocket-protocol", b"a, b") in headers
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": SERVER,
        "client": CLIENT,
        "root_path": "",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"q=1",
        "subprotocols": ["a", "b"],
        "extensions": {"websocket.http.response": {}},
    }


async def test_a_handshake_is_accepted_with_a_subprotocol_and_further_fields() -> None:
    socket = await ask("sec-websocket-protocol: a, b", "sec-websocket-extensions: permessage-deflate")
    await socket.call.send({**ACCEPT, "subprotocol": "b", "headers": [(b"x-name", b"value")]})
    lines = socket.peer.take().split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert sorted(lines[1:]) == [
        b"",
        b"",
        b"connection: upgrade",
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"sec-websocket-extensions: permessage-deflate",
        b"sec-websocket-protocol: b",
        b"upgrade: websocket",
        b"x-name: value",
    ]
    assert socket.rig.logged == [("/ws", 101)]


async def test_what_follows_the_handshake_at_once_is_not_lost() -> None:
    socket = await ask(after=text("early") + frame(PING, b"p"))
    assert await socket.receive() == CONNECT
    await socket.call.send(ACCEPT)
    _, _, rest = socket.peer.take().partition(b"\r\n\r\n")
    assert frames(rest) == [(0x8A, b"p")]
    assert await socket.receive() == received("early")


@pytest.mark.parametrize(
    "more",
    [
        {"subprotocol": "b"},
        {"headers": [(b"Upgrade", b"x")]},
        {"headers": [(b"sec-websocket-protocol", b"a")]},
        {"headers": [(b"x", b"a\r\nb")]},
        {"headers": [("x", "y")]},
        {"headers": [b"x"]},
    ],
    ids=["subprotocol not offered", "own field", "subprotocol as a field", "line end", "text", "no pairs"],
)
async def test_an_acceptance_that_cannot_be_sent_is_an_error_and_may_be_made_good(more: Message) -> None:
    socket = await ask("sec-websocket-protocol: a")
    with pytest.raises(InvalidResponse):
        await socket.call.send({**ACCEPT, **more})
    assert socket.peer.take() == b""
    await socket.call.send(ACCEPT)
    assert socket.peer.take().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((*UPGRADE[:2], UPGRADE[3]), 426),
        ((*UPGRADE[:2], "sec-websocket-version: 8", UPGRADE[3]), 426),
        (UPGRADE[:3], 400),
        ((*UPGRADE[:3], "sec-websocket-key: x"), 400),
    ],
    ids=["no version", "version 8", "no key", "bad key"],
)
async def test_a_handshake_that_is_not_valid_is_refused(lines: tuple[str, ...], status: int) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    peer.send(request("/", *lines))
    await turns()
    answer = peer.take()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"sec-websocket-version: 13\r\n" in answer) is (status == 426)
    assert app.calls == []


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (UPGRADE, {"ws": "none"}),
        (("upgrade: websocket",), {}),
        (("upgrade: h2c", "connection: upgrade"), {}),
    ],
    ids=["--ws none", "no connection option", "another protocol"],
)
async def test_other_requests_are_like_any(lines: tuple[str, ...], options: dict[str, Any]) -> None:
    socket = await ask(upgrade=lines, **options)
    assert socket.call.scope["type"] == "http"
    await socket.call.respond()
    socket.peer.send(request("/next"))
    await turns()
    assert socket.peer.phase == "SERVING"


async def test_closing_before_accepting_is_a_403() -> None:
    socket = await ask()
    await socket.call.send({"type": "websocket.close"})
    assert socket.peer.take().startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert await socket.receive() == CONNECT
    assert await socket.receive() == disconnect(1006)
    assert socket.rig.logged == [("/ws", 403)]


async def test_a_denial_has_the_response_of_the_application() -> None:
    socket = await ask()
    start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]}
    await socket.call.send(start)
    with pytest.raises(InvalidMessage):
        await socket.call.send(ACCEPT)
    await socket.call.send({"type": "websocket.http.response.body", "body": b"no, ", "more_body": True})
    await socket.call.send({"type": "websocket.http.response.body", "body": b"never"})
    answer = socket.peer.take()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"x: y\r\n" in answer
    assert b"no, " in answer
    assert answer.endswith(b"never\r\n0\r\n\r\n")
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize("raises", [True, False])
async def test_an_application_that_ends_before_answering_is_a_500(
    raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await ask()
    if raises:
        socket.call.fail(RuntimeError("on purpose"))
    else:
        socket.call.end()
    await turns()
    assert socket.peer.take().startswith(b"HTTP/1.1 500 ")
    assert ("on purpose" if raises else "without sending handshake") in caplog.text


async def test_websockets_have_a_limit_of_their_own() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_websockets=1, limit_concurrency=1)
    first, second, other = rig.connect(), rig.connect(), rig.connect()
    first.send(request("/", *UPGRADE))
    second.send(request("/", *UPGRADE))
    other.send(request("/"))
    await turns()
    assert [call.scope["type"] for call in app.calls] == ["websocket", "http"]
    answer = second.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    app.calls[0].end()
    await turns()
    third = rig.connect()
    third.send(request("/", *UPGRADE))
    await turns()
    assert len(app.calls) == 3


# Messages.


async def test_messages_go_both_ways() -> None:
    socket = await opened()
    waiting = asyncio.ensure_future(socket.receive())
    await turns()
    socket.peer.send(text("h\u00e9") + frame(BINARY, b"\0"))
    assert await waiting == received("h\u00e9")
    assert await socket.receive() == received(b"\0")
    await socket.send("\u20ac")
    await socket.send(b"b")
    await socket.call.send({"type": "websocket.send", "bytes": bytearray(b"c"), "text": None})
    assert socket.frames() == [(0x81, "\u20ac".encode()), (0x82, b"b"), (0x82, b"c")]


class Words(str):
    """Text that is not quite str: markup, members of enumerations."""

    def __str__(self) -> str:
        return "of another kind"


class Octets(bytes):
    """Bytes that are not quite bytes."""


async def test_text_and_bytes_may_be_of_derived_types() -> None:
    socket = await opened()
    await socket.send(Words("h\u00e9"))
    await socket.send(Octets(b"b"))
    await socket.call.send({"type": "websocket.close", "code": 1008, "reason": Words("why")})
    assert socket.frames() == [(0x81, "h\u00e9".encode()), (0x82, b"b"), (0x88, b"\x03\xf0why")]


async def test_the_body_of_a_denial_may_be_of_a_derived_type() -> None:
    socket = await ask()
    await socket.receive()
    await socket.call.send({"type": "websocket.http.response.start", "status": 401})
    await socket.call.send({"type": "websocket.http.response.body", "body": Octets(b"no")})
    assert socket.peer.take().endswith(b"no")


async def test_a_reason_that_is_no_text_is_refused() -> None:
    socket = await opened()
    with pytest.raises(InvalidMessage, match="must be text, not bytes"):
        await socket.call.send({"type": "websocket.close", "code": 1008, "reason": b"why"})


async def test_a_message_is_answered_in_the_turn_in_which_it_comes() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    rig = Rig(echo)
    peer = rig.connect()
    peer.send(request("/", *UPGRADE))
    await turns()
    peer.take()
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[bytes] = loop.create_future()

    def arrive() -> None:
        peer.send(text("now"))
        seen.set_result(peer.take())

    loop.call_soon(arrive)
    assert frames(await seen) == [(0x81, b"now")]
    peer.send(close(1000))
    await turns()


async def test_a_ping_is_answered_and_a_pong_is_not() -> None:
    socket = await opened()
    socket.peer.send(frame(PING, b"data") + frame(PONG, b"x"))
    assert socket.frames() == [(0x8A, b"data")]


@pytest.mark.parametrize(
    ("after", "answered"),
    [(b"", []), (frame(3), [0x88]), (close(1000), [0x88])],
    ids=["nothing", "a violation", "a close frame"],
)
async def test_pings_that_come_together_are_answered_in_one_piece(after: bytes, answered: list[int]) -> None:
    socket = await opened()
    before = len(socket.peer.transport.writes)
    socket.peer.send(frame(PING, b"1") + frame(PING, b"2") + after)
    assert len(socket.peer.transport.writes) == before + 1
    sent = socket.frames()
    assert sent[:2] == [(0x8A, b"1"), (0x8A, b"2")]
    assert [first for first, _ in sent[2:]] == answered


async def test_a_ping_is_not_answered_after_a_close_frame() -> None:
    socket = await opened()
    socket.peer.stall(100_000)
    socket.peer.send(frame(PING, b"1"))
    await socket.call.send({"type": "websocket.close"})
    socket.peer.catch_up()
    socket.peer.send(frame(PING, b"2"))
    await socket.rig.pass_time(2)
    assert [first for first, _ in socket.frames()] == [0x8A, 0x88]


async def test_of_pings_to_a_client_that_does_not_read_the_last_is_answered_later() -> None:
    socket = await opened()
    socket.peer.stall(100_000)
    socket.peer.send(frame(PING, b"1") + frame(PING, b"2"))
    assert socket.frames() == []
    socket.peer.catch_up()
    assert socket.frames() == [(0x8A, b"2")]


async def test_reading_pauses_while_the_application_takes_nothing() -> None:
    socket = await opened(ws_max_queue=4, limit_unread=1000)
    for _ in range(100):
        socket.peer.send(text("x" * 100))
    assert not socket.peer.transport.is_reading()
    for _ in range(100):
        assert await socket.receive() == received("x" * 100)
        await turns(2)
    assert socket.peer.transport.is_reading()


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    socket = await opened()
    socket.peer.stall(100_000)
    sending = asyncio.ensure_future(socket.send("x"))
    await turns()
    assert not sending.done()
    socket.peer.catch_up()
    await sending


@pytest.mark.parametrize("content", [{}, {"text": 1}, {"bytes": "x"}, {"text": "\ud800"}, {"bytes": None}])
async def test_content_that_is_none_is_an_error(content: Message) -> None:
    socket = await opened()
    with pytest.raises(InvalidMessage):
        await socket.call.send({"type": "websocket.send", **content})
    assert socket.frames() == []


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    socket = await opened()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await socket.receive()
    waiting = asyncio.ensure_future(socket.receive())
    await turns()
    waiting.cancel()
    socket.peer.send(text("kept"))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(socket.receive(), 1) == received("kept")


async def opened_compressed() -> Opened:
    """Return a WebSocket that is accepted, with compressed messages."""
    socket = await ask("sec-websocket-extensions: permessage-deflate; client_max_window_bits")
    await socket.receive()
    await socket.call.send(ACCEPT)
    assert b"permessage-deflate; client_max_window_bits=12\r\n" in socket.peer.take()
    return socket


async def test_messages_are_compressed_when_the_client_offers_it() -> None:
    socket = await opened_compressed()
    squeezer = zlib.compressobj(wbits=-12)
    content = squeezer.compress(b"hello" * 100) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    socket.peer.send(frame(1, content[:-4], rsv=0x40))
    assert await socket.receive() == received("hello" * 100)
    await socket.send("hello" * 100)
    ((first, payload),) = socket.frames()
    assert first == 0xC1
    assert zlib.decompressobj(-12).decompress(payload + b"\0\0\xff\xff") == b"hello" * 100


async def test_compression_can_be_switched_off() -> None:
    socket = await ask("sec-websocket-extensions: permessage-deflate", ws_per_message_deflate=False)
    await socket.call.send(ACCEPT)
    assert b"extensions" not in socket.peer.take()


# The end.


@pytest.mark.parametrize(
    ("sent", "told", "answered"),
    [
        (close(1000, b"bye"), disconnect(1000, "bye"), b"\x03\xe8bye"),
        (close(4001), disconnect(4001), b"\x0f\xa1"),
        (close(), disconnect(1005), b""),
    ],
    ids=["code and reason", "code", "nothing"],
)
async def test_a_client_that_closes_is_answered_and_its_code_passed_on(
    sent: bytes, told: Message, answered: bytes
) -> None:
    socket = await opened()
    socket.peer.send(text("last") + sent)
    assert socket.frames() == [(0x88, answered)]
    assert is_cut(socket)
    assert [await socket.receive() for _ in range(3)] == [received("last"), told, told]
    for message in ({"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}):
        with pytest.raises(ClientDisconnected):
            await socket.call.send(message)


@pytest.mark.parametrize("resets", [True, False])
async def test_a_client_that_goes_without_a_word_is_1006(resets: bool) -> None:
    socket = await opened()
    waiting = asyncio.ensure_future(socket.receive())
    await turns()
    if resets:
        socket.peer.reset()
    else:
        socket.peer.end()
    assert await waiting == disconnect(1006)
    with pytest.raises(OSError, match="closed"):
        await socket.send("x")
    await turns()
    assert is_cut(socket)


@pytest.mark.parametrize(
    ("data", "code"),
    [(frame(1, b"\xff"), 1007), (frame(1, b"x", masked=False), 1002), (frame(2, b"x" * 101), 1009)],
    ids=["bad text", "not masked", "too big"],
)
async def test_a_client_that_breaks_the_protocol_is_told_so(data: bytes, code: int) -> None:
    socket = await opened(ws_max_size=100)
    socket.peer.send(data + b"anything")
    ((first, payload),) = socket.frames()
    assert first == 0x88
    assert int.from_bytes(payload[:2], "big") == code
    message = await socket.receive()
    assert message == disconnect(code, payload[2:].decode())
    assert socket.peer.phase == "LINGERING"


async def test_what_came_before_a_violation_may_still_be_answered() -> None:
    socket = await opened()
    socket.peer.send(text("fine") + frame(3))
    assert await socket.receive() == received("fine")
    await socket.send("answer")
    assert (await socket.receive())["code"] == 1002
    assert [first for first, _ in socket.frames()] == [0x81, 0x88]


async def test_a_violation_does_not_wait_for_the_application_for_ever() -> None:
    socket = await opened()
    socket.peer.send(text("never taken") + frame(3))
    await socket.rig.pass_time(10.5)
    assert [first for first, _ in socket.frames()] == [0x88]


@pytest.mark.parametrize(
    ("end", "payload"),
    [
        (lambda call: call.end(), b"\x03\xe8"),
        (lambda call: call.fail(RuntimeError("on purpose")), b"\x03\xf3"),
    ],
    ids=["returns", "fails"],
)
async def test_an_application_that_ends_has_the_websocket_closed(end: Any, payload: bytes) -> None:
    socket = await opened()
    end(socket.call)
    await turns()
    assert socket.frames() == [(0x88, payload)]
    assert not is_cut(socket)
    socket.peer.send(text("ignored") + frame(PING) + close(1000))
    await turns()
    assert socket.frames() == []
    assert is_cut(socket)
    assert socket.rig.application.running == socket.rig.application.websockets == 0


async def test_messages_are_not_decompressed_after_a_close_frame() -> None:
    socket = await opened_compressed()
    await socket.call.send({"type": "websocket.close"})
    socket.peer.send(frame(1, b"no deflate data", rsv=0x40) + frame(2, b"\xff\xff", rsv=0x40) + close(1000, b"bye"))
    assert await socket.receive() == disconnect(1000, "bye")
    assert [first for first, _ in socket.frames()] == [0x88]


async def test_the_application_closes_with_a_code_and_a_reason() -> None:
    socket = await opened()
    await socket.call.send({"type": "websocket.close", "code": 4000, "reason": "gr\u00fcn"})
    assert socket.frames() == [(0x88, b"\x0f\xa0" + "gr\u00fcn".encode())]
    with pytest.raises(OSError, match="closed"):
        await socket.send("late")
    socket.peer.send(close(4000))
    assert await socket.receive() == disconnect(4000)


@pytest.mark.parametrize("code", [0, 1004, 1005, 1006, 1015, 2999, 5000, "1000"])
async def test_a_code_that_must_not_be_sent_is_an_error(code: Any) -> None:
    socket = await opened()
    with pytest.raises(InvalidMessage):
        await socket.call.send({"type": "websocket.close", "code": code})


async def test_a_client_that_does_not_answer_a_close_frame_is_cut_off() -> None:
    socket = await opened()
    await socket.call.send({"type": "websocket.close"})
    await socket.rig.pass_time(9.5)
    assert not is_cut(socket)
    await socket.rig.pass_time(1)
    assert is_cut(socket)
    assert await socket.receive() == disconnect(1006)


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_worker_that_stops_closes_with_1012(is_open: bool) -> None:
    socket = await (opened() if is_open else ask())
    if not is_open:
        await socket.receive()
    socket.rig.state.is_draining = True
    socket.peer.connection.drain(cuts_heads=True)
    if not is_open:
        await socket.call.send(ACCEPT)
    assert socket.peer.take().endswith(b"\x88\x02\x03\xf4")
    assert await socket.receive() == disconnect(1012)
    socket.peer.send(close(1012))
    await turns()
    assert is_cut(socket)


async def test_a_handshake_that_comes_while_the_worker_stops_is_closed_with_1012() -> None:
    app = PlayedApp()
    rig = Rig(app)
    rig.state.is_draining = True
    peer = rig.connect()
    peer.send(request("/", *UPGRADE))
    await turns()
    await app.calls[0].send(ACCEPT)
    assert peer.take().endswith(b"\x88\x02\x03\xf4")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "websocket.http.response.body"},
        {"type": "unknown"},
    ],
    ids=lambda message: str(message["type"]),
)
async def test_a_message_at_the_wrong_time_is_an_error(message: Message) -> None:
    socket = await opened()
    with pytest.raises(InvalidMessage, match=str(message["type"])):
        await socket.call.send(message)


# Pings.


async def test_a_client_is_pinged_and_may_answer_with_anything() -> None:
    socket = await opened()
    await socket.rig.pass_time(19)
    assert socket.frames() == []
    for _ in range(4):
        await socket.rig.pass_time(20)
        assert socket.frames() == [(0x89, b"")]
        socket.peer.send(frame(PONG))


async def test_a_client_that_is_not_heard_of_after_a_ping_is_closed() -> None:
    socket = await opened(ws_ping_interval=5, ws_ping_timeout=2)
    await socket.rig.pass_time(5.5)
    assert socket.frames() == [(0x89, b"")]
    await socket.rig.pass_time(2)
    assert socket.frames() == [(0x88, b"\x03\xf3keepalive ping timeout")]
    assert await socket.receive() == disconnect(1006, "keepalive ping timeout")


async def test_a_client_is_not_blamed_while_the_application_takes_nothing() -> None:
    socket = await opened(ws_ping_interval=5, ws_ping_timeout=2, limit_unread=10)
    socket.peer.send(text("x" * 20))
    await socket.rig.pass_time(30)
    assert {first for first, _ in socket.frames()} == {0x89}


async def test_there_are_no_pings_without_an_interval() -> None:
    socket = await opened(ws_ping_interval=0)
    await socket.rig.pass_time(100)
    assert socket.frames() == []


async def test_a_session_may_end_while_nobody_but_its_connection_knows_it() -> None:
    """Compiled, a connection that lets go of what it is calling would crash the process."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)

    rig = Rig(app)
    for _ in range(50):
        peer = rig.connect()
        peer.send(request("/ws", *UPGRADE))
        await turns()
        assert frames(peer.take().partition(b"\r\n\r\n")[2]) == [(0x88, b"\x03\xe8")]
        assert not rig.application.running
        peer.send(close(1000))
        await turns()
        assert peer.transport.is_closed


async def test_waits_that_were_cancelled_are_not_kept() -> None:
    socket = await opened()
    for _ in range(100):
        waiting = asyncio.ensure_future(socket.receive())
        await turns()
        waiting.cancel()
        await turns()
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is Arrival]
    assert len(kept) <= 1, "the last one, until there is another"
    socket.peer.send(text("hello"))
    assert await socket.receive() == received("hello")


async def test_one_who_sends_without_end_waits_once_a_write_has_failed() -> None:
    socket = await opened()
    socket.peer.transport.is_closed = True  # which is told in a turn to come
    sending = asyncio.ensure_future(socket.send("lost"))
    await turns()
    assert not sending.done()
    socket.peer.reset()
    with pytest.raises(ClientDisconnected):
        await sending


async def test_frames_that_a_transport_cannot_send_yet_leave_it_in_one_piece() -> None:
    socket = await opened()
    await socket.send("a")
    assert len(socket.peer.transport.writes) == 2, "the answer to the handshake, and the frame at once"
    socket.peer.transport.unsent = 10
    for _ in range(100):
        await socket.send("b")
    assert len(socket.peer.transport.writes) == 2
    await turns()
    assert len(socket.peer.transport.writes) == 3
    assert socket.frames() == [(0x81, b"a"), *([(0x81, b"b")] * 100)]
    for _ in range(3):
        await socket.send("c" * 10_000)
    assert len(socket.peer.transport.writes) == 4, "more than 16 KiB are not held"


async def test_a_close_behind_which_nothing_can_be_read_is_the_end() -> None:
    socket = await opened()
    socket.peer.send(text("first") + b"\xff\xff")
    assert await socket.receive() == received("first")
    await socket.call.send({"type": "websocket.close", "code": 1000})
    assert [first for first, _ in socket.frames()] == [0x88]
    assert socket.peer.phase == "LINGERING"
    assert (await socket.receive())["type"] == "websocket.disconnect"
