"""Connections on a scripted transport: phases, bodies, pipelines, deadlines and closing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import pytest

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.errors import ClientDisconnected, InvalidMessage
from fastserve.net.connection import Phase
from tests.doubles import CLIENT, SERVER, Call, Peer, PlayedApp, Rig, post, request, response, turns, until

DISCARD_BYTES = 64 * 1024
CLOSE = "connection: close"
REFUSED = response(
    b"Invalid HTTP request received.",
    CLOSE,
    status="400 Bad Request\r\ncontent-type: text/plain; charset=utf-8",
)
TIMED_OUT = response(b"Request Timeout", CLOSE, status="408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the method, the path and the body, once all of it is there."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": f"{scope['method']} {scope['path']} ".encode() + body})


async def reads_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without a look at the body."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


async def begin(app: PlayedApp, peer: Peer, data: bytes) -> Call:
    """Send a request and return the call that it leads to."""
    peer.send(data)
    await turns()
    return app.calls[-1]


# Requests one after the other.


async def test_a_new_connection_receives_and_knows_both_addresses() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    assert peer.phase == "RECEIVING"
    assert (peer.connection.client, peer.connection.server, peer.connection.scheme) == (CLIENT, SERVER, "http")
    assert rig.state.connections == {peer.connection}
    assert not peer.connection.is_closed
    assert repr(peer.connection) == "<Connection ('192.0.2.7', 40000) RECEIVING>"


@pytest.mark.parametrize(
    ("peername", "sockname", "client", "server"),
    [
        (("::1", 5, 0, 0), ("::1", 80, 0, 0), ("::1", 5), ("::1", 80)),
        ("", "/run/app.sock", None, ("/run/app.sock", None)),
        (b"", b"/run/app.sock", None, ("/run/app.sock", None)),
        (b"\0name", b"/run/\xff", ("\0name", None), ("/run/\udcff", None)),
        (None, None, None, None),
    ],
    ids=["IPv6", "unix", "unix as bytes", "abstract", "gone"],
)
async def test_addresses_are_as_asgi_has_them(peername: Any, sockname: Any, client: Any, server: Any) -> None:
    peer = Rig(PlayedApp()).connect(peername=peername, sockname=sockname)
    assert (peer.connection.client, peer.connection.server) == (client, server)


async def test_a_request_is_served_and_the_connection_waits_for_the_next_one() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/a?b=c"))
    assert peer.phase == "SERVING"
    await call.respond(b"ok")
    assert (peer.take(), peer.phase) == (response(b"ok"), "WAITING")
    call = await begin(app, peer, request("/d"))
    assert (call.scope["path"], peer.phase) == ("/d", "SERVING")
    await call.respond(b"again")
    assert (peer.take(), peer.phase) == (response(b"again"), "WAITING")


async def test_a_head_may_come_byte_by_byte() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    for byte in request("/a"):
        assert (app.calls, peer.phase) == ([], "RECEIVING")
        peer.send(bytes([byte]))
        await turns()
    await app.calls[0].respond()
    for byte in request("/b"):
        peer.send(bytes([byte]))
        await turns()
        if len(app.calls) == 1:
            assert peer.phase == "RECEIVING"
    assert [call.scope["path"] for call in app.calls] == ["/a", "/b"]


async def test_head_and_body_leave_in_one_write_and_a_large_body_uncopied() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    large = bytes(70_000)
    await call.respond(large)
    assert peer.received == response(large)
    assert any(part is large for part in peer.transport.writes)
    peer.transport.writes.clear()
    await (await begin(app, peer, request())).respond(b"small")
    assert peer.transport.writes == [response(b"small")]


def parts_app(*parts: bytes, waits: bool = False) -> ASGIApp:
    """Return an application that sends these parts, and then the end, or waits."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if waits:
            await receive()
            await receive()
        await send({"type": "http.response.body"})

    return app


HEAD_CHUNKED = response().partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"


async def test_parts_that_are_sent_without_waiting_leave_in_one_write() -> None:
    peer = Rig(parts_app(b"first", b"second")).connect()
    peer.send(request())
    await turns()
    assert peer.transport.writes == [HEAD_CHUNKED + b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"]
    assert peer.phase == "WAITING"


async def test_parts_leave_together_when_the_event_loop_turns() -> None:
    peer = Rig(parts_app(b"first", b"second", waits=True)).connect()
    peer.send(request())
    await turns()
    assert peer.transport.writes == [HEAD_CHUNKED + b"5\r\nfirst\r\n6\r\nsecond\r\n"]
    assert peer.phase == "SERVING"


async def test_a_part_that_is_large_or_makes_them_many_leaves_at_once() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(b"x" * 16385, more=True)
    assert len(peer.take()) > 16385
    await call.body(b"y" * 10000, more=True)
    assert peer.take() == b""
    await call.body(b"z" * 10000, more=True)
    assert len(peer.take()) > 20000
    await turns()
    assert peer.take() == b""


async def test_what_an_application_has_sent_before_it_fails_leaves_before_the_connection_closes() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise RuntimeError("after a part")

    peer = Rig(fails).connect()
    peer.send(request())
    await turns()
    assert (peer.take(), peer.phase) == (HEAD_CHUNKED + b"4\r\npart\r\n", "CLOSED")


async def test_nothing_is_written_to_a_connection_that_is_lost_before_the_loop_turns() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(b"part", more=True)
    peer.reset()
    await turns()
    assert (peer.take(), peer.phase) == (b"", "CLOSED")
    call.end()


@pytest.mark.parametrize("splits", [1, 2, 1000], ids=["whole", "halves", "bytes"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_reaches_the_application_however_it_arrives(framing: str, splits: int) -> None:
    peer = Rig(reads_all).connect()
    data = post(b"hello world")
    if framing == "chunked":
        data = request(
            "/", "transfer-encoding: chunked", method="POST", body=b"6\r\nhello \r\n5\r\nworld\r\n0\r\na: b\r\n\r\n"
        )
    size = max(len(data) // splits, 1)
    for start in range(0, len(data), size):
        peer.send(data[start : start + size])
        await turns()
    assert (peer.received, peer.phase) == (response(b"POST / hello world"), "WAITING")


@pytest.mark.parametrize(
    "data",
    [post(b"hello"), request("/", "transfer-encoding: chunked", method="POST", body=b"5\r\nhello\r\n0\r\n\r\n")],
    ids=["length", "chunked"],
)
async def test_an_application_need_not_wait_for_a_body_that_has_come_with_the_head(data: bytes) -> None:
    taken = []

    async def takes(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            receive().send(None)  # type: ignore[attr-defined]
        except StopIteration as stop:
            taken.append(stop.value["body"])
        await reads_nothing(scope, receive, send)

    peer = Rig(takes).connect()
    peer.send(data)
    await turns()
    assert taken == [b"hello"]
    assert peer.received == response(b"ok")


async def test_an_application_that_does_not_wait_has_answered_when_the_data_is_taken() -> None:
    peer = Rig(reads_nothing).connect()
    peer.send(request())
    await turns(2)
    assert peer.received == response(b"ok")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/3.0\r\n", 505),
        (request("/", "x" * 70_000), 431),
        (request("/" + "x" * 20_000), 414),
        (request("/", "transfer-encoding: gzip", method="POST"), 501),
        (request("/", "expect: tea", method="POST"), 417),
        (post(b"", length=2**63), 413),
    ],
    ids=["no Host", "TLS", "version", "head", "line", "coding", "expectation", "length"],
)
async def test_a_request_that_cannot_be_served_is_answered_and_the_connection_lingers(data: bytes, status: int) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    peer.send(data)
    await turns()
    assert app.calls == []
    assert [code for code, _ in rig.refused] == [status]
    assert peer.received.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in peer.received
    assert (peer.phase, peer.transport.is_shut, peer.transport.is_closed) == ("LINGERING", True, False)


# Bodies that break off, or break the protocol (RELIABILITY 22, 23).


@pytest.mark.parametrize(
    ("body", "received"),
    [(b"5\r\nhello\r\nzz\r\n", b"hello"), (b"5\r\nhelloXX", b"hello"), (b"0\r\nbad trailer\r\n\r\n", None)],
    ids=["size", "end of data", "trailer"],
)
async def test_a_bad_chunk_is_a_disconnect_for_the_application_and_a_400_for_the_client(
    body: bytes, received: bytes | None
) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST", body=body))
    if received is not None:
        assert await call.receive() == {"type": "http.request", "body": received, "more_body": True}
    assert await call.receive() == {"type": "http.disconnect"}
    assert await call.receive() == {"type": "http.disconnect"}
    assert (peer.received, peer.phase) == (REFUSED, "LINGERING")
    assert [code for code, _ in rig.refused] == [400]
    with pytest.raises(ClientDisconnected):
        await call.start()
    call.end()
    await turns()
    assert peer.received == REFUSED


@pytest.mark.parametrize(
    "data", [post(b"hel", length=5), request("/", "transfer-encoding: chunked", method="POST", body=b"5\r\nhel")]
)
async def test_a_fin_inside_a_body_is_a_disconnect_for_the_application_and_a_400_for_the_client(data: bytes) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, data)
    waiting = asyncio.ensure_future(call.receive())
    peer.end()
    assert await waiting == {"type": "http.request", "body": b"hel", "more_body": True}
    assert await call.receive() == {"type": "http.disconnect"}
    assert (peer.received, peer.phase) == (REFUSED, "CLOSED")
    assert rig.refused == [(400, "the client closed in the middle of a request")]
    call.end()


async def test_a_fin_inside_a_head_is_answered_with_400() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    peer.send(b"GET / HTTP/1.1\r\nhos")
    peer.end()
    await turns()
    assert (peer.received, peer.phase, rig.state.connections) == (REFUSED, "CLOSED", set())


async def test_a_body_that_breaks_after_the_response_has_begun_ends_it_without_the_last_chunk() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST"))
    await call.start()
    await call.body(b"part", more=True)
    peer.send(b"zz\r\n")
    await turns()
    assert peer.received == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n"
    assert (peer.phase, peer.transport.is_shut, rig.refused) == (
        "LINGERING",
        True,
        [(400, "malformed chunk size line")],
    )
    with pytest.raises(ClientDisconnected):
        await call.body(b"rest")
    call.end()


async def test_garbage_behind_a_request_is_refused_after_the_request_is_answered() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"hello") + b"garbage\r\n\r\n")
    assert (peer.received, rig.refused) == (b"", [])
    await call.respond()
    assert peer.received == response() + REFUSED
    assert (len(app.calls), peer.phase) == (1, "LINGERING")


async def test_the_body_of_a_request_is_never_read_as_a_request() -> None:
    peer = Rig(reads_nothing).connect()
    peer.send(post(request("/smuggled")) + request("/next"))
    await turns()
    assert (peer.received, peer.phase) == (response() + response(), "WAITING")


async def test_an_unknown_upgrade_is_ignored_and_the_body_and_the_next_request_are_read() -> None:
    peer = Rig(reads_all).connect()
    peer.send(post(b"hello", "upgrade: h2c", "connection: upgrade") + request("/next"))
    await turns()
    assert peer.received == response(b"POST / hello") + response(b"GET /next ")


# Whether the connection stays open (RELIABILITY 24, 25).


@pytest.mark.parametrize(
    "line",
    ["connection: close", "Connection: Close", "connection: x, CLOSE ,y", "connection: x\r\nconnection: close"],
)
async def test_a_request_that_asks_to_close_is_answered_so_and_nothing_behind_it_is_served(line: str) -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/a", line) + request("/b"))
    await call.respond()
    assert (peer.received, len(app.calls)) == (response(b"ok", CLOSE), 1)
    assert (peer.phase, peer.transport.is_shut) == ("LINGERING", True)
    peer.send(request("/c"))
    await turns()
    assert len(app.calls) == 1


async def test_a_client_that_asks_to_close_and_sends_nothing_more_is_closed_at_once() -> None:
    rig = Rig(reads_nothing)
    peer = rig.connect()
    peer.send(request("/", CLOSE))
    await turns()
    assert (peer.received, peer.phase, peer.transport.is_aborted()) == (response(b"ok", CLOSE), "CLOSED", False)
    assert rig.state.connections == set()


@pytest.mark.parametrize(
    ("lines", "answer", "phase"),
    [
        ([], response(b"ok", CLOSE), "CLOSED"),
        (["connection: keep-alive"], response(b"ok", "connection: keep-alive"), "WAITING"),
        (["connection: keep-alive, close"], response(b"ok", CLOSE), "CLOSED"),
    ],
    ids=["silent", "keep-alive", "both"],
)
async def test_http_10_closes_unless_the_client_asks_otherwise(lines: list[str], answer: bytes, phase: str) -> None:
    peer = Rig(reads_nothing).connect()
    peer.send(request("/", *lines, version="1.0"))
    await turns()
    assert (peer.received, peer.phase) == (answer, phase)


async def test_http_10_gets_a_body_of_unknown_length_without_chunks_and_then_the_end() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/", "connection: keep-alive", version="1.0"))
    await call.start()
    await call.body(b"one", more=True)
    await call.body(b"two")
    await turns()
    assert peer.received == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo"
    assert (peer.phase, peer.transport.is_shut or peer.transport.is_closed) == ("LINGERING", True)
    call.end()


async def test_http_10_gets_no_100_continue() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    data = request("/", "content-length: 5", "expect: 100-continue", method="POST", version="1.0")
    call = await begin(app, peer, data)
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    assert peer.received == b""
    peer.send(b"hello")
    assert (await waiting)["body"] == b"hello"
    await call.respond()


async def test_with_keep_alive_0_every_response_is_the_last_one() -> None:
    peer = Rig(reads_nothing, timeout_keep_alive=0).connect()
    peer.send(request())
    await turns()
    assert (peer.received, peer.phase) == (response(b"ok", CLOSE), "LINGERING")


async def test_an_application_can_ask_to_close() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start(200, [(b"Connection", b"Close")])
    await call.body(b"ok")
    assert (peer.received, peer.phase) == (response(b"ok", CLOSE), "LINGERING")
    call.end()


# Pipelined requests (RELIABILITY 26).


async def test_pipelined_requests_are_served_one_at_a_time_in_order() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    await begin(app, peer, request("/0") + post(b"hello", target="/1") + request("/2"))
    for number in range(3):
        assert [call.scope["path"] for call in app.calls] == [f"/{index}" for index in range(number + 1)]
        assert peer.phase == "SERVING"
        await app.calls[number].respond(b"answer %d" % number)
        assert peer.take() == response(b"answer %d" % number)
    assert (len(app.calls), peer.phase) == (3, "WAITING")


async def test_many_pipelined_requests_to_an_application_that_does_not_wait_are_served() -> None:
    peer = Rig(reads_nothing).connect()
    peer.send(request() * 1000)
    await turns(3000)
    assert (peer.received, peer.phase) == (response() * 1000, "WAITING")


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
async def test_a_client_that_pipelines_keeps_neither_the_event_loop_nor_more_memory_than_the_limit(waits: bool) -> None:
    answered = 0
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answered
        if waits:
            await asyncio.sleep(0)
        await reads_nothing(scope, receive, send)
        answered += 1

    rig = Rig(app, limit_unread=1000)
    peer = rig.connect()
    peer.send(request() * 1000)
    seen.append(answered)
    peer.end()  # It has sent all that it wants to, and waits.
    while rig.state.connections:
        await asyncio.sleep(0)
        seen.append(answered)
        assert (999 - answered) * len(request()) < 1000 or not peer.transport.is_reading()
    assert peer.received == response() * 999 + response(b"ok", CLOSE)
    assert max(after - before for before, after in itertools.pairwise([0, *seen])) <= 32


async def test_requests_that_wait_for_their_turn_are_answered_whatever_the_deadline_before_them_was() -> None:
    rig = Rig(reads_nothing, timeout_keep_alive=5)
    peer = rig.connect()
    peer.send(request())
    await rig.pass_time(4.5)
    peer.send(request() * 1000)
    rig.deadlines.tick(rig.deadlines.now + 4)
    await turns(3000)
    assert (peer.received, peer.phase) == (response() * 1001, "WAITING")
    await rig.pass_time(6)
    assert rig.state.connections == set()


async def test_the_next_request_starts_in_a_turn_of_its_own() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/a") + request("/b"))
    await call.start()
    await call.body(b"ok")
    assert len(app.calls) == 1
    await turns()
    assert len(app.calls) == 2
    for each in app.calls:
        each.end()


async def test_what_arrives_while_a_request_is_being_started_is_taken_after_it() -> None:
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        if scope["path"] == "/a":
            peer.send(request("/b"))
        await reads_nothing(scope, receive, send)

    peer = Rig(app).connect()
    peer.send(request("/a"))
    await turns()
    assert (paths, peer.received) == (["/a", "/b"], response() * 2)


async def test_part_of_a_pipelined_head_makes_the_connection_receive_again() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/a") + b"GET /b HT")
    await call.respond()
    assert peer.phase == "RECEIVING"
    peer.send(b"TP/1.1\r\nhost: b\r\n\r\n")
    await turns()
    assert (app.calls[1].scope["path"], peer.phase) == ("/b", "SERVING")
    await app.calls[1].respond()


async def test_a_client_that_pipelines_more_than_the_limit_is_read_no_further_until_it_was_answered() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unread=1000).connect()
    call = await begin(app, peer, request("/a"))
    peer.send(b"GET /b HTTP/1.1\r\nhost: b\r\nx: ")
    assert peer.transport.is_reading()
    peer.send(b"y" * 1000)
    assert not peer.transport.is_reading()
    peer.send(b"y\r\n\r\n")
    await call.respond()
    assert peer.transport.is_reading()
    assert (len(app.calls), peer.phase) == (2, "SERVING")
    await app.calls[1].respond()
    assert (peer.received, peer.phase) == (response() * 2, "WAITING")


async def test_a_client_that_does_not_take_its_responses_gets_no_further_ones() -> None:
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(100_000)})

    peer = Rig(app, limit_unsent=65536).connect()
    peer.stall(65537)
    peer.send(request() * 20)
    await turns(100)
    assert len(peer.received) < 2 * 101_000, f"{calls} requests were answered into the memory of the server"
    peer.catch_up()
    await turns(100)
    assert (calls, peer.phase) == (20, "WAITING")


async def test_a_client_that_pipelines_on_without_taking_its_responses_is_read_no_further_than_the_limit() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unread=1000).connect()
    call = await begin(app, peer, request("/0"))
    peer.stall(100_000)
    await call.respond()
    for number in range(1, 100):
        peer.send(request(f"/{number}"))
    await turns()
    assert (len(app.calls), peer.transport.is_reading()) == (1, False)
    peer.catch_up()
    for number in range(1, 100):
        await turns()
        assert app.calls[-1].scope["path"] == f"/{number}"
        await app.calls[-1].respond()
    assert (peer.received, peer.phase, peer.transport.is_reading()) == (response() * 100, "WAITING", True)


@pytest.mark.parametrize(
    ("method", "status", "sent"), [("GET", 200, 5), ("HEAD", 200, 0), ("GET", 204, 0), ("GET", 304, 0)]
)
async def test_only_what_the_client_gets_of_a_body_is_counted(
    method: str, status: int, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(Rig, "_log_access", lambda rig, exchange: counted.append(exchange.sent_bytes))
    app = PlayedApp()
    call = await begin(app, Rig(app).connect(), request(method=method))
    await call.start(status)
    await call.body(b"he", more=True)
    await call.body(b"llo")
    call.end()
    assert counted == [sent]


@pytest.mark.parametrize(
    ("data", "logged"),
    [
        (post(b"", length=2000), [("/", 413)]),
        (request("/a", "expect: more"), [("/a", 417)]),
        (request("/b", "content-length: x"), [("/b", 400)]),
        (request("/c", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 8"), [("/c", 426)]),
        (b"GET / HTTP/3.0\r\n\r\n", []),
        (b"\x00", []),
    ],
    ids=["body", "expectation", "fields", "handshake", "request line", "nothing known"],
)
async def test_a_request_that_is_refused_is_in_the_access_log_once_as_far_as_it_is_known(
    data: bytes, logged: list[tuple[str, int]]
) -> None:
    rig = Rig(reads_nothing, limit_request_body=1000)
    peer = rig.connect()
    peer.send(data)
    await turns()
    assert (rig.logged, len(rig.refused)) == (logged, 1)


@pytest.mark.parametrize(
    ("field", "body"),
    [("content-length: 2000", b""), ("transfer-encoding: chunked", b"3\r\nabc\r\nfff\r\n")],
    ids=["before the application", "while it waits"],
)
@pytest.mark.parametrize(("method", "text"), [("POST", HTTPStatus(413).phrase.encode()), ("HEAD", b"")])
async def test_what_a_refusal_sends_is_counted(method: str, text: bytes, field: str, body: bytes) -> None:
    rig = Rig(reads_all, limit_request_body=1000)
    peer = rig.connect()
    peer.send(request("/", field, method=method) + body)
    await turns()
    assert peer.received.partition(b"\r\n\r\n")[2] == text
    assert (rig.logged, rig.sizes) == ([("/", 413)], [len(text)])


async def test_a_request_whose_body_is_refused_after_the_response_is_in_the_access_log_once() -> None:
    rig = Rig(reads_nothing)
    peer = rig.connect()
    peer.send(request("/", "transfer-encoding: chunked", method="POST", body=b"5\r\nhello\r\n"))
    await turns()
    peer.send(b"z\r\n")
    await turns()
    assert (rig.logged, len(rig.refused)) == ([("/", 200)], 1)


async def test_what_an_application_raises_after_the_server_has_refused_its_request_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastserve")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise RuntimeError("the client disconnected, as the framework sees it")

    rig = Rig(app, limit_request_body=1000)
    peer = rig.connect()
    peer.send(request("/", "transfer-encoding: chunked", method="POST") + b"3\r\nabc\r\n")
    await turns()
    peer.send(b"fff\r\n")
    await turns()
    assert (rig.logged, [status for status, _ in rig.refused]) == ([("/", 413)], [413])
    assert caplog.messages == []


# Bodies that the application does not read, or not at once (RELIABILITY 27, 28, 43).


async def test_what_is_unread_of_a_small_body_is_dropped_and_the_connection_stays() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, post(b"hel", length=5))
    await call.respond()
    assert (peer.take(), peer.phase) == (response(), "DISCARDING")
    peer.send(b"l")
    assert peer.phase == "DISCARDING"
    peer.send(b"o" + request("/next"))
    await turns()
    assert (app.calls[1].scope["path"], peer.phase) == ("/next", "SERVING")
    await app.calls[1].respond(b"next")
    assert (peer.take(), peer.phase) == (response(b"next"), "WAITING")


async def test_the_rest_of_a_body_that_was_read_in_part_is_dropped_too() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST", body=b"3\r\nhel\r\n"))
    assert (await call.receive())["body"] == b"hel"
    await call.respond()
    assert peer.phase == "DISCARDING"
    peer.send(b"2\r\nlo\r\n0\r\n\r\n")
    assert (peer.take(), peer.phase) == (response(), "WAITING")


async def test_a_response_that_leaves_more_than_64_kib_of_the_body_is_the_last_one() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, post(b"12345", length=DISCARD_BYTES + 6))
    await call.respond()
    assert (peer.received, peer.phase) == (response(b"ok", CLOSE), "LINGERING")


async def test_a_response_that_leaves_64_kib_of_the_body_is_not() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, post(b"12345", length=DISCARD_BYTES + 5))
    await call.respond()
    assert (peer.take(), peer.phase) == (response(), "DISCARDING")
    peer.send(bytes(DISCARD_BYTES))
    assert peer.phase == "WAITING"


async def test_a_response_in_parts_that_leaves_more_than_64_kib_is_followed_by_the_end() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, post(b"", length=DISCARD_BYTES + 1))
    await call.start()
    await call.body(b"a", more=True)
    await call.body(b"b")
    assert peer.received.endswith(b"\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    assert (peer.phase, peer.transport.is_shut) == ("LINGERING", True)
    call.end()


async def test_more_than_64_kib_of_a_chunked_body_are_not_dropped_but_the_connection_ended() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST"))
    await call.respond()
    assert (peer.take(), peer.phase) == (response(), "DISCARDING")
    peer.send(b"8000\r\n" + bytes(0x8000) + b"\r\n8000\r\n" + bytes(0x8000) + b"\r\n")
    assert peer.phase == "DISCARDING"
    peer.send(b"1\r\nx\r\n")
    assert (peer.phase, peer.transport.is_shut, peer.take()) == ("LINGERING", True, b"")


async def test_the_rest_of_a_body_is_waited_for_one_second() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await (await begin(app, peer, post(b"hel", length=5))).respond()
    await rig.pass_time(0.75)
    peer.send(b"l")
    assert peer.phase == "DISCARDING"
    await rig.pass_time(0.5)
    assert (peer.phase, peer.transport.is_shut) == ("LINGERING", True)


async def test_a_broken_rest_of_a_body_ends_the_connection_without_a_second_response() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await (await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST"))).respond()
    peer.send(b"zz\r\n")
    assert (peer.received, peer.phase) == (response(), "LINGERING")
    assert [code for code, _ in rig.refused] == [400]


async def test_an_early_response_reaches_a_client_that_goes_on_sending() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"", length=8_000_000))
    await call.respond(b"too large", 413)
    answer = peer.take()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    for _ in range(80):
        peer.send(bytes(100_000))
        await rig.pass_time(0.25)
    assert (peer.phase, peer.transport.is_closed) == ("LINGERING", False)
    peer.end()
    await turns()
    assert (peer.phase, peer.transport.is_aborted(), peer.take()) == ("CLOSED", False, b"")


async def test_a_body_over_the_limit_that_is_not_read_pauses_reading_until_it_is_taken() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unread=1000).connect()
    call = await begin(app, peer, post(b"", length=5000))
    peer.send(b"a" * 999)
    assert peer.transport.is_reading()
    peer.send(b"b")
    assert not peer.transport.is_reading()
    peer.send(b"c" * 4000)
    assert await call.receive() == {"type": "http.request", "body": b"a" * 999 + b"b", "more_body": True}
    assert peer.transport.is_reading()
    await turns()
    assert await call.receive() == {"type": "http.request", "body": b"c" * 4000, "more_body": False}
    await call.respond()
    assert peer.phase == "WAITING"


async def test_reading_resumes_at_the_end_of_a_response_that_left_the_body_unread() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unread=1000).connect()
    call = await begin(app, peer, post(bytes(2000), length=3000))
    assert not peer.transport.is_reading()
    peer.send(bytes(1000) + request("/next"))
    await call.respond()
    assert (peer.transport.is_reading(), len(app.calls), peer.phase) == (True, 2, "SERVING")
    await app.calls[1].respond()


async def test_reading_resumes_when_the_connection_lingers() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_unread=1000)
    peer = rig.connect()
    call = await begin(app, peer, post(bytes(2000), CLOSE, length=3000))
    assert not peer.transport.is_reading()
    peer.send(bytes(1000))
    await call.respond()
    assert (peer.phase, peer.transport.is_reading()) == ("LINGERING", True)
    peer.end()
    await turns()
    assert rig.state.connections == set()


async def test_chunk_framing_does_not_count_as_a_body_that_the_application_leaves_unread() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unread=16).connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST"))
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    peer.send(b"5;extension=" + b"x" * 40)
    peer.send(b"\r\nhello\r\n0\r\n\r\n")
    await turns()
    assert waiting.done(), "the application waits for a body, and the connection does not read it"
    assert waiting.result()["body"] == b"hello"
    await call.respond()


async def test_send_waits_over_the_limit_of_unsent_bytes_and_goes_on_when_the_client_has_caught_up() -> None:
    app = PlayedApp()
    peer = Rig(app, limit_unsent=1234).connect()
    assert peer.transport.high_water == 1234
    call = await begin(app, peer, request())
    await call.start()
    peer.stall(2000)
    sending = asyncio.ensure_future(call.body(b"a", more=True))
    await turns()
    assert not sending.done()
    peer.catch_up()
    await sending
    await call.body(b"b")
    assert peer.received.endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    call.end()


async def test_several_senders_wait_and_one_that_was_cancelled_does_not_hinder_the_others() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start()
    peer.stall(100_000)
    sending = [asyncio.ensure_future(call.body(b"a", more=True)) for _ in range(3)]
    await turns()
    sending[0].cancel()
    await turns()
    peer.catch_up()
    await asyncio.gather(*sending[1:])
    assert sending[0].cancelled()
    call.end()


async def test_a_sender_that_waits_is_told_when_the_client_is_gone() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start()
    peer.stall(100_000)
    sending = asyncio.ensure_future(call.body(b"a", more=True))
    await turns()
    peer.reset()
    with pytest.raises(OSError, match="disconnected"):
        await sending
    call.end()


# Clients that go away (RELIABILITY 29).


async def test_a_client_that_has_sent_its_last_byte_still_gets_its_answer() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"hello"))
    peer.end()
    await turns()
    assert (peer.phase, peer.transport.is_closed) == ("SERVING", False)
    assert (await call.receive())["body"] == b"hello"
    await call.respond()
    assert (peer.received, peer.phase, rig.state.connections) == (response(b"ok", CLOSE), "CLOSED", set())


async def test_a_request_and_the_fin_may_come_before_the_application_is_called() -> None:
    rig = Rig(reads_all)
    peer = rig.connect()
    peer.send(post(b"hello"))
    peer.end()
    await turns()
    assert (peer.received, rig.state.connections) in (
        (response(b"POST / hello", CLOSE), set()),
        (response(b"POST / hello"), set()),  # eager: the answer was out before the FIN
    )


@pytest.mark.parametrize("data", [request("/a") + request("/b"), post(b"x") + post(b"y")], ids=["GET", "POST"])
async def test_pipelined_requests_before_a_fin_are_answered_and_the_last_answer_says_so(data: bytes) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, data)
    peer.end()
    await call.respond()
    assert (peer.take(), len(app.calls), peer.phase) == (response(), 2, "SERVING")
    message = await app.calls[1].receive()
    assert message["type"] == "http.request"
    assert await app.calls[1].receive() == {"type": "http.disconnect"}
    await app.calls[1].respond()
    assert (peer.take(), rig.state.connections) == (response(b"ok", CLOSE), set())


async def test_pipelined_requests_before_a_fin_are_answered_also_to_a_client_that_reads_slowly() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/a") + request("/b"))
    peer.stall(100_000)
    await call.respond(b"first")
    peer.end()
    await turns()
    peer.catch_up()
    await turns()
    assert [each.scope["path"] for each in app.calls] == ["/a", "/b"]
    await app.calls[1].respond(b"second")
    assert peer.received == response(b"first") + response(b"second", CLOSE)
    assert rig.state.connections == set()


async def test_a_client_that_never_takes_the_response_before_its_pipelined_requests_is_cut_after_its_fin() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    call = await begin(app, peer, request("/a") + request("/b"))
    peer.stall(100_000)
    await call.respond(b"first")
    peer.end()
    await rig.pass_time(21)
    assert (peer.transport.is_aborted(), len(app.calls), rig.state.connections) == (True, 1, set())


async def test_a_pipelined_request_that_was_cut_short_by_a_fin_is_refused_when_its_turn_comes() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/a") + b"GET / HT")
    peer.stall(100_000)
    await call.respond(b"first")
    peer.end()
    peer.catch_up()
    await turns()
    assert len(app.calls) == 1
    assert peer.received.startswith(response(b"first") + b"HTTP/1.1 400 ")
    assert rig.state.connections == set()


async def test_a_client_that_closes_before_it_has_taken_the_last_response_still_gets_it() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    peer.stall(100_000)
    await call.respond(b"last")
    peer.end()
    await turns()
    assert (peer.received, peer.transport.is_aborted()) == (response(b"last"), False)
    peer.catch_up()
    await turns()
    assert (peer.transport.is_aborted(), rig.state.connections) == (False, set())


@pytest.mark.parametrize("pipelined", [b"", request("/next")], ids=["alone", "pipelined"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_an_application_that_waits_learns_at_once_that_the_client_is_gone(how: str, pipelined: bytes) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request() + pipelined)
    await call.receive()
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    assert not waiting.done()
    peer.end() if how == "FIN" else peer.reset()
    await turns()
    assert waiting.done()
    assert waiting.result() == {"type": "http.disconnect"}
    call.end()
    await turns()
    assert (peer.received, rig.state.connections, len(app.calls)) == (b"", set(), 1)


async def test_a_client_that_resets_leaves_the_application_with_errors_and_nothing_is_written() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"hel", length=5))
    peer.reset()
    assert await call.receive() == {"type": "http.request", "body": b"hel", "more_body": True}
    assert await call.receive() == {"type": "http.disconnect"}
    with pytest.raises(ClientDisconnected):
        await call.start()
    call.end()
    await turns()
    assert (peer.received, peer.connection.is_closed, rig.state.connections) == (b"", True, set())


async def started(rig: Rig, app: PlayedApp, *, raises: bool) -> tuple[Peer, Call]:
    """Return a client, and the call for it that has started its response. raises: whether `send` is to."""
    rig.application.raises_disconnect = raises
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    return peer, call


async def test_before_2_4_what_is_sent_to_a_client_that_resets_goes_nowhere() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer, call = await started(rig, app, raises=False)
    await call.body(b"part", more=True)
    peer.connection.pause_writing()
    full = asyncio.ensure_future(call.body(b"more", more=True))
    await turns()
    assert not full.done()
    peer.reset()
    await full
    await call.body(b"rest")
    call.end()
    await turns()
    assert (rig.state.connections, rig.application.running) == (set(), 0)


@pytest.mark.parametrize("raises", [False, True])
async def test_one_who_streams_without_end_hears_of_a_write_that_has_failed(raises: bool) -> None:
    app = PlayedApp()
    peer, call = await started(Rig(app), app, raises=raises)
    peer.transport.abort()  # as a transport does itself, which tells it in a turn to come
    sending = asyncio.ensure_future(call.body(b"part", more=True))
    await turns()
    assert sending.done()
    assert isinstance(sending.exception(), ClientDisconnected) is raises
    assert peer.connection.is_closed
    call.end()


async def test_a_client_that_resets_while_reading_is_paused_leaves_nothing_behind() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_unread=10)
    peer = rig.connect()
    call = await begin(app, peer, post(bytes(20), length=30))
    assert not peer.transport.is_reading()
    peer.reset()
    assert (await call.receive())["body"] == bytes(20)
    assert (await call.receive())["type"] == "http.disconnect"
    assert not peer.transport.is_reading()
    call.end()
    await turns()
    assert (rig.state.connections, rig.application.running) == (set(), 0)


@pytest.mark.parametrize("served", [0, 1], ids=["new", "kept alive"])
async def test_a_client_that_closes_between_requests_is_closed_without_a_word(served: int) -> None:
    rig = Rig(reads_nothing)
    peer = rig.connect()
    peer.send(request() * served)
    await turns()
    peer.take()
    peer.end()
    await turns()
    assert (peer.take(), rig.refused, rig.state.connections) == (b"", [], set())


async def test_a_client_that_closes_while_its_body_is_dropped_is_closed() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await (await begin(app, peer, post(b"hel", length=5))).respond()
    peer.end()
    await turns()
    assert (peer.received, peer.phase, rig.state.connections) == (response(), "CLOSED", set())


async def test_an_application_that_gives_up_on_a_client_that_is_gone_closes_the_connection() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    peer.end()
    call.end()
    await turns()
    assert (peer.received, peer.phase, peer.transport.is_closed, rig.state.connections) == (b"", "CLOSED", True, set())


async def test_an_application_that_fails_in_the_middle_closes_the_connection_without_the_last_chunk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(b"part", more=True)
    call.fail(ValueError("half way"))
    await turns()
    assert peer.received == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n"
    assert (peer.phase, rig.state.connections) == ("CLOSED", set())
    assert "half way" in caplog.text


@pytest.mark.parametrize("end", ["failed", "gave up"])
async def test_what_an_application_left_running_learns_that_the_connection_was_closed(end: str) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.receive()
    await call.start()
    await call.body(b"part", more=True)
    if end == "failed":
        waiting = asyncio.ensure_future(call.receive())
        call.fail(ValueError("half way"))
    else:
        peer.end()
        await call.receive()
        waiting = asyncio.ensure_future(call.receive())
        call.end()
    await turns()
    assert rig.state.connections == set()
    with pytest.raises(ClientDisconnected):
        await call.body(b"rest")
    assert peer.phase == "CLOSED"
    assert waiting.done()
    assert waiting.result() == {"type": "http.disconnect"}


# Expect: 100-continue (RELIABILITY 30).


async def expecting(app: PlayedApp, peer: Peer) -> Call:
    """Announce a body of 5 bytes that is not sent before 100 (Continue)."""
    return await begin(app, peer, post(b"", "expect: 100-continue", length=5))


async def test_100_is_sent_when_the_application_asks_for_the_body_and_only_once() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await expecting(app, peer)
    assert peer.received == b""
    call.receive()  # not awaited
    await turns()
    assert peer.received == b""
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    assert peer.take() == CONTINUE
    peer.send(b"hel")
    assert (await waiting)["body"] == b"hel"
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    peer.send(b"lo")
    assert (await waiting)["body"] == b"lo"
    await call.respond()
    assert (peer.take(), peer.phase) == (response(), "WAITING")


async def test_a_client_that_does_not_wait_for_100_gets_none() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, post(b"he", "expect: 100-continue", length=5))
    assert (await call.receive())["body"] == b"he"
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    peer.send(b"llo")
    assert (await waiting)["body"] == b"llo"
    await call.respond()
    assert (peer.received, peer.phase) == (response(), "WAITING")


async def test_a_final_response_without_reading_sends_no_100_and_ends_the_connection() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await expecting(app, peer)
    await call.respond()
    assert (peer.received, peer.phase) == (response(b"ok", CLOSE), "LINGERING")


async def test_100_is_not_sent_after_the_response_has_begun() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await expecting(app, peer)
    await call.start()
    await call.body(b"a", more=True)
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    assert CONTINUE not in peer.received
    assert b"\r\nconnection: close\r\n" in peer.received
    peer.send(b"hello")
    assert (await waiting)["body"] == b"hello"
    await call.body(b"b")
    call.end()


async def test_a_body_that_is_announced_is_waited_for_from_the_time_when_it_is_asked_for() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_request_body=10)
    peer = rig.connect()
    call = await expecting(app, peer)
    await rig.pass_time(9)
    waiting = asyncio.ensure_future(call.receive())
    await turns()
    assert peer.take() == CONTINUE
    await rig.pass_time(9)
    assert (peer.take(), rig.refused) == (b"", [])
    await rig.pass_time(2)
    assert (peer.take(), await waiting) == (TIMED_OUT, {"type": "http.disconnect"})
    call.end()


async def test_a_client_that_waits_for_100_is_not_timed_out_for_it() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_request_body=10)
    peer = rig.connect()
    call = await expecting(app, peer)
    await rig.pass_time(60)
    assert (peer.received, rig.refused, peer.phase) == (b"", [], "SERVING")
    call.end()


# Deadlines (RELIABILITY 60, 61, 43).


async def test_a_silent_connection_is_closed_without_a_word_when_the_time_for_a_head_is_over() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    await rig.pass_time(29.75)
    assert not peer.transport.is_closing()
    await rig.pass_time(0.5)
    assert (peer.received, rig.refused, rig.state.connections) == (b"", [], set())


async def test_a_head_that_is_not_complete_in_time_is_answered_with_408_though_bytes_come_in() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    peer.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
    for _ in range(29):
        await rig.pass_time(1)
        peer.send(b"x: y\r\n")
    assert (peer.received, peer.phase) == (b"", "RECEIVING")
    await rig.pass_time(1.25)
    assert (peer.received, peer.phase) == (TIMED_OUT, "LINGERING")
    assert rig.refused == [(408, "the request head did not arrive in time")]


async def test_the_time_for_a_second_head_counts_from_its_first_byte() -> None:
    rig = Rig(reads_nothing)
    peer = rig.connect()
    peer.send(request())
    await turns()
    peer.take()
    await rig.pass_time(50)
    peer.send(b"GET")
    await rig.pass_time(29.75)
    assert (peer.take(), peer.phase) == (b"", "RECEIVING")
    await rig.pass_time(0.5)
    assert (peer.take(), peer.phase) == (TIMED_OUT, "LINGERING")


async def test_a_connection_that_is_kept_alive_is_closed_without_a_word_when_it_was_idle_too_long() -> None:
    rig = Rig(reads_nothing, timeout_keep_alive=5)
    peer = rig.connect()
    for _ in range(3):
        peer.send(request())
        await rig.pass_time(4.75)
        assert (peer.take(), peer.phase) == (response(), "WAITING")
    await rig.pass_time(0.75)
    assert (peer.take(), rig.refused, rig.state.connections) == (b"", [], set())


# Requests that the server itself ends: what the access log and the counters have of them.

CUT: dict[str, tuple[bytes, Callable[[Rig, Peer], Any], int]] = {
    "a body that is too large": (
        request("/", "transfer-encoding: chunked", method="POST", body=b"1\r\nx\r\n"),
        lambda rig, peer: peer.send(b"7d0\r\n" + b"x" * 2000),
        413,
    ),
    "a bad chunk": (
        request("/", "transfer-encoding: chunked", method="POST"),
        lambda rig, peer: peer.send(b"zz\r\n"),
        400,
    ),
    "half a body": (post(b"hel", length=5), lambda rig, peer: peer.end(), 400),
    "a body that stops": (post(b"hel", length=5), lambda rig, peer: rig.pass_time(60.25), 408),
    "the end of the server": (request(), lambda rig, peer: [each.cut() for each in set(rig.state.connections)], 444),
    "a client that is gone": (request(), lambda rig, peer: peer.reset(), 0),
}


@pytest.mark.parametrize("held", [False, True], ids=["before the start", "after a start that was held back"])
@pytest.mark.parametrize(("data", "happen", "status"), CUT.values(), ids=CUT.keys())
async def test_the_status_of_a_request_that_was_cut_short_is_what_the_client_got(
    data: bytes, happen: Callable[[Rig, Peer], Any], status: int, held: bool
) -> None:
    app = PlayedApp()
    rig = Rig(app, limit_request_body=1000)
    peer = rig.connect()
    call = await begin(app, peer, data)
    if held:
        await call.start(201)
    done = happen(rig, peer)
    if isinstance(done, Coroutine):
        await done
    await turns()
    with contextlib.suppress(ClientDisconnected):
        await (call.body(b"x") if held else call.start())
    call.end()
    await turns()
    assert rig.logged == [("/", status or (201 if held else 0))]
    assert peer.received[9:12] == (b"%d" % status if 400 <= status < 444 else b"")


async def test_a_response_that_has_begun_keeps_its_status_when_the_server_cuts_it_short() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/", "transfer-encoding: chunked", method="POST"))
    await call.start(201)
    await call.body(b"x", more=True)
    peer.send(b"zz\r\n")
    call.end()
    await turns()
    assert (rig.logged, [code for code, _ in rig.refused]) == ([("/", 201)], [400])


async def test_a_body_that_stops_coming_is_answered_with_408() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"h", length=50))
    for _ in range(5):
        await rig.pass_time(59)
        assert (await call.receive())["more_body"]
        peer.send(b"e")
    await call.receive()
    await rig.pass_time(60.25)
    assert (peer.received, peer.phase) == (TIMED_OUT, "LINGERING")
    assert await call.receive() == {"type": "http.disconnect"}
    assert rig.refused == [(408, "the request body did not arrive in time")]
    call.end()


async def test_a_body_that_stops_coming_after_the_response_has_begun_ends_the_connection() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"h", length=50))
    await call.start()
    await call.body(b"part", more=True)
    await turns()
    sent = peer.take()
    await rig.pass_time(61)
    assert (peer.take(), peer.phase) == (b"", "LINGERING")
    assert sent.endswith(b"part\r\n")
    call.end()


async def test_an_application_may_take_its_time() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_unread=10)
    complete, full = rig.connect(), rig.connect()
    await begin(app, complete, request())
    await begin(app, full, post(bytes(20), length=30))
    await rig.pass_time(3600)
    assert (complete.phase, full.phase) == ("SERVING", "SERVING")
    assert (complete.connection.deadline, full.connection.deadline) == (math.inf, math.inf)
    for call in app.calls:
        await call.respond()
    assert (complete.phase, full.phase) == ("WAITING", "DISCARDING")


async def test_a_client_that_takes_nothing_is_cut_when_the_time_to_write_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastserve")
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    sending = asyncio.ensure_future(call.body(bytes(200_000), more=True))
    peer.stall(100_000)
    await rig.pass_time(19)
    assert not peer.transport.is_aborted()
    await rig.pass_time(2)
    assert peer.transport.is_aborted()
    assert caplog.messages == ["192.0.2.7:40000 - cut off: it has taken nothing for 20 seconds"]
    with pytest.raises(ClientDisconnected):
        await sending
    call.end()


async def test_a_client_that_takes_something_now_and_then_is_not_cut() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(bytes(200_000), more=True)
    peer.stall(100_000)
    for left in range(99_000, 90_000, -1000):
        await rig.pass_time(19)
        peer.transport.unsent = left
    assert not peer.transport.is_aborted()
    await rig.pass_time(41)
    assert peer.transport.is_aborted()
    call.end()


async def test_what_the_application_goes_on_writing_is_nothing_that_the_client_has_taken() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(bytes(20_000), more=True)
    peer.stall(100_000)
    sending: list[asyncio.Future[None]] = []
    for _ in range(19):
        await rig.pass_time(1)
        sending.append(asyncio.ensure_future(call.body(bytes(20_000), more=True)))
    assert not peer.transport.is_aborted()
    await rig.pass_time(2)
    assert peer.transport.is_aborted()
    await asyncio.gather(*sending, return_exceptions=True)
    call.end()


@pytest.mark.parametrize("overhead", [0, 22], ids=["plain", "TLS"])
async def test_a_client_that_takes_less_than_the_application_writes_is_not_cut(
    overhead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    monkeypatch.setattr(peer.transport, "overhead", overhead)
    call = await begin(app, peer, request())
    await call.start()
    await call.body(bytes(20_000), more=True)
    peer.stall(100_000)
    sending: list[asyncio.Future[None]] = []
    for _ in range(10):
        await rig.pass_time(15)
        peer.transport.unsent -= 10
        sending.append(asyncio.ensure_future(call.body(bytes(20_000), more=True)))
        await turns()
    assert not peer.transport.is_aborted()
    peer.reset()
    await asyncio.gather(*sending, return_exceptions=True)
    call.end()


async def test_a_last_response_that_the_client_takes_slowly_is_not_cut_off() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    peer.stall(0)
    call = await begin(app, peer, request("/", CLOSE))
    peer.transport.unsent = 200_000
    await call.respond(bytes(200_000))
    assert (peer.phase, peer.transport.is_closed) == ("CLOSED", True)
    for left in range(190_000, 0, -10_000):
        await rig.pass_time(19)
        peer.transport.unsent = left
    assert not peer.transport.is_aborted()
    peer.catch_up()
    await turns()
    assert rig.state.connections == set()


async def test_a_connection_that_is_to_close_is_cut_when_the_client_takes_nothing_more() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20)
    peer = rig.connect()
    call = await begin(app, peer, request("/", CLOSE))
    peer.stall(1000)
    await call.respond(bytes(1000))
    await rig.pass_time(41)
    assert (peer.transport.is_aborted(), rig.state.connections) == (True, set())


async def test_an_idle_connection_whose_client_does_not_take_the_last_response_is_cut() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20, timeout_keep_alive=5)
    peer = rig.connect()
    call = await begin(app, peer, request())
    peer.transport.unsent = 1000
    await call.respond(bytes(1000))
    await rig.pass_time(60)
    assert (peer.transport.is_aborted(), rig.state.connections) == (True, set())


@pytest.mark.parametrize(
    ("data", "phase"),
    [
        (post(b"", length=5), "DISCARDING"),
        (post(b"", length=DISCARD_BYTES + 1), "LINGERING"),
        (request("/", CLOSE) + b"more", "LINGERING"),
        (request(), "WAITING"),
        (request("/", CLOSE), "CLOSED"),
    ],
    ids=["dropping a body", "lingering", "lingering too", "kept alive", "closing"],
)
async def test_a_client_that_stalls_has_the_time_to_write_for_its_response_whatever_else_is_due(
    data: bytes, phase: str
) -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=20, timeout_keep_alive=5)
    peer = rig.connect()
    call = await begin(app, peer, data)
    peer.stall(100_000)
    await call.respond(bytes(100_000))
    assert peer.phase == phase
    await rig.pass_time(19)
    assert not peer.transport.is_aborted()
    await rig.pass_time(22)
    assert peer.transport.is_aborted()


async def test_a_lingering_client_that_stalls_and_goes_on_sending_is_cut_when_the_time_to_write_is_over() -> None:
    app = PlayedApp()
    rig = Rig(app, timeout_write=40)
    peer = rig.connect()
    call = await begin(app, peer, request("/", CLOSE) + b"more")
    peer.stall(100_000)
    await call.respond(bytes(100_000))
    for _ in range(38):  # longer than a client may go on sending that takes its response
        peer.send(b"more")
        await rig.pass_time(1)
    assert not peer.transport.is_aborted()
    await rig.pass_time(3)
    assert peer.transport.is_aborted()


# Lingering: the last response is out, the client may still be sending.


async def lingering(rig: Rig) -> Peer:
    """Return the client of a connection that lingers."""
    peer = rig.connect()
    peer.send(b"\x00")
    await turns()
    assert peer.phase == "LINGERING"
    return peer


async def test_a_lingering_connection_closes_when_the_client_does() -> None:
    rig = Rig(PlayedApp())
    peer = await lingering(rig)
    peer.end()
    await turns()
    assert (peer.transport.is_aborted(), rig.state.connections) == (False, set())


async def test_a_lingering_connection_is_cut_after_two_silent_seconds() -> None:
    rig = Rig(PlayedApp())
    peer = await lingering(rig)
    for _ in range(4):
        await rig.pass_time(1.75)
        peer.send(b"more")
    assert not peer.transport.is_closing()
    await rig.pass_time(2.25)
    assert (peer.transport.is_aborted(), rig.state.connections) == (True, set())


async def test_a_lingering_connection_is_cut_after_30_seconds_whatever_the_client_sends() -> None:
    rig = Rig(PlayedApp())
    peer = await lingering(rig)
    for _ in range(29):
        await rig.pass_time(1)
        peer.send(b"more")
    assert not peer.transport.is_closing()
    await rig.pass_time(1)
    peer.send(b"more")
    await rig.pass_time(0.5)
    peer.send(b"more")
    await rig.pass_time(0.25)
    assert (peer.transport.is_aborted(), rig.state.connections) == (True, set())


@pytest.mark.parametrize("how", ["TLS", "FIN"])
async def test_a_connection_that_cannot_linger_is_closed(how: str) -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect(can_write_eof=how != "TLS")
    if how == "FIN":
        peer.send(b"GE")
        peer.end()
    else:
        peer.send(b"\x00")
    await turns()
    assert (peer.received, peer.transport.is_shut, rig.state.connections) == (REFUSED, False, set())


async def test_data_after_the_close_is_ignored() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    peer.connection.cut()
    await turns()
    peer.connection.data_received(request())
    assert (app.calls, peer.received, peer.phase) == ([], b"", "CLOSED")


async def test_nothing_is_left_of_a_connection_that_is_closed() -> None:
    rig = Rig(reads_nothing)
    for _ in range(10):
        peer = rig.connect()
        peer.send(request())
        await turns()
        peer.end()
        await turns()
    assert (rig.state.connections, rig.application.running) == (set(), 0)
    assert peer.connection.deadline == math.inf


# When the server stops (RELIABILITY 53).


async def kept(rig: Rig) -> Peer:
    """Return the client of a connection that has answered a request, and waits for the next one."""
    peer = rig.connect()
    peer.send(request())
    await turns()
    assert (peer.take(), peer.phase) == (response(), "WAITING")
    return peer


def stop(rig: Rig, idle_s: float = 0.25) -> None:
    """Have the worker stop: connections stay for so long without a request, and no longer than for one."""
    rig.state.keeps_connections = False
    rig.state.idle_s = idle_s


async def test_a_kept_connection_gets_a_moment_for_a_request_on_its_way_when_the_server_stops() -> None:
    rig = Rig(reads_nothing)
    late, silent = await kept(rig), await kept(rig)
    stop(rig)
    for peer in (late, silent):
        peer.connection.drain(cuts_heads=True)
        assert not peer.transport.is_closing()
    late.send(request())
    await rig.pass_time(0.5)
    assert (late.take(), silent.take()) == (response(b"ok", CLOSE), b"")
    assert (late.phase, rig.state.connections) == ("LINGERING", {late.connection})


async def test_a_connection_may_be_given_time_for_a_last_request() -> None:
    rig = Rig(reads_nothing)
    waiting, new, late = await kept(rig), rig.connect(), await kept(rig)
    stop(rig, 5.0)
    for peer in (waiting, new, late):
        peer.connection.drain(cuts_heads=False)
    await rig.pass_time(4.5)
    assert rig.state.connections == {peer.connection for peer in (waiting, new, late)}
    late.send(request())
    await rig.pass_time(1)
    assert (late.take(), late.phase) == (response(b"ok", CLOSE), "LINGERING")
    assert rig.state.connections == {late.connection}


async def test_a_request_that_was_sent_in_part_is_waited_for_when_the_worker_is_replaced() -> None:
    rig = Rig(reads_nothing)
    peer = rig.connect()
    peer.send(request()[:8])
    stop(rig, 5.0)
    peer.connection.drain(cuts_heads=False)
    await rig.pass_time(1)
    peer.send(request()[8:])
    await turns()
    assert (peer.received, peer.phase) == (response(b"ok", CLOSE), "LINGERING")


async def test_a_request_that_was_sent_in_part_is_cut_at_once_when_the_server_stops() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    peer.send(b"GET / HT")
    stop(rig)
    peer.connection.drain(cuts_heads=True)
    await turns()
    assert rig.state.connections == set()


async def test_a_new_connection_gets_a_moment_for_a_request_on_its_way_when_the_server_stops() -> None:
    rig = Rig(reads_nothing)
    late, silent, slow = rig.connect(), rig.connect(), rig.connect()
    stop(rig)
    for peer in (late, silent, slow):
        peer.connection.drain(cuts_heads=True)
        assert not peer.transport.is_closing()
    late.send(request())
    slow.send(b"GET / HT")
    await rig.pass_time(0.5)
    assert (late.received, silent.received) == (response(b"ok", CLOSE), b"")
    assert (silent.phase, slow.phase) == ("CLOSED", "LINGERING")
    await rig.pass_time(2.5)
    assert rig.state.connections == set()


async def test_a_running_request_is_answered_and_its_answer_is_the_last_when_the_server_stops() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request("/a") + request("/b"))
    stop(rig)
    peer.connection.drain(cuts_heads=True)
    await turns()
    assert (peer.phase, peer.transport.is_closed) == ("SERVING", False)
    await call.respond()
    assert (peer.received, peer.phase, len(app.calls)) == (response(b"ok", CLOSE), "LINGERING", 1)


async def test_a_response_that_had_begun_when_the_server_stops_has_promised_to_take_another_request() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(b"a", more=True)
    stop(rig)
    peer.connection.drain(cuts_heads=True)
    await call.body(b"b")
    call.end()
    assert peer.take().endswith(b"1\r\nb\r\n0\r\n\r\n")
    assert peer.phase == "WAITING"
    peer.send(request())
    await until(lambda: len(app.calls) == 2)
    await app.calls[1].respond()
    assert (peer.take(), peer.phase) == (response(b"ok", CLOSE), "LINGERING")


async def test_a_head_that_stops_reading_and_is_then_completed_is_read() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_unread=64)
    peer = rig.connect()
    call = await begin(app, peer, request())
    peer.stall(100_000)
    await call.respond()
    peer.send(b"GET /next HTTP/1.1\r\nhost: example.org\r\nx: " + b"x" * 100)
    assert not peer.transport.is_reading()
    peer.catch_up()
    peer.send(b"\r\n\r\n")
    await until(lambda: len(app.calls) == 2)
    assert app.calls[1].scope["path"] == "/next"
    app.calls[1].end()
    await turns()


async def test_a_length_as_large_as_can_be_is_a_length() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, post(b"abc", length=2**63 - 1))
    assert await call.receive() == {"type": "http.request", "body": b"abc", "more_body": True}
    peer.reset()
    call.end()
    await turns()


async def test_a_connection_can_be_cut() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    call = await begin(app, peer, request())
    await call.receive()
    peer.connection.cut()
    await turns()
    assert (await call.receive(), rig.state.connections) == ({"type": "http.disconnect"}, set())
    call.end()


async def test_a_connection_without_an_exchange_can_be_aborted_and_also_twice() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    peer.connection.abort()
    peer.connection.abort()
    await turns()
    assert (peer.phase, peer.received, rig.state.connections) == ("CLOSED", b"", set())


async def test_a_second_response_is_not_possible() -> None:
    app = PlayedApp()
    peer = Rig(app).connect()
    call = await begin(app, peer, request())
    await call.start()
    await call.body(b"ok")
    with pytest.raises(InvalidMessage):
        await call.start()
    assert peer.received == response()
    call.end()


def test_every_phase_is_named_in_the_map_of_the_module() -> None:
    from fastserve.net import connection

    assert connection.__doc__ is not None
    assert all(phase.name in connection.__doc__ for phase in Phase)
