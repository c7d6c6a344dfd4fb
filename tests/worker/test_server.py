"""Whole servers on real loopback sockets, in both event loops."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.errors import LifespanError
from fastserve.settings import Settings
from fastserve.worker import server as server_module
from fastserve.worker.scoreboard import Scoreboard, WorkerState
from fastserve.worker.server import Place, Server
from tests.doubles import PlayedApp, post, request, turns, until

pytestmark = pytest.mark.usefixtures("loop_factory", "own_logging")

BOTH_PARSERS = pytest.mark.parametrize("http", ["httptools", "h11"])
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: close with a RST


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the server has said."""
    return [record.getMessage() for record in caplog.records if record.name == "fastserve"]


class Running:
    """A server that runs, and its clients."""

    def __init__(
        self, app: ASGIApp, sockets: list[socket.socket], options: dict[str, Any], place: Place | None = None
    ) -> None:
        self._address = sockets[0].getsockname()
        self._ready = asyncio.Event()
        self._clients: list[Client] = []
        settings = Settings.from_options({"access_log": False, **options})
        self.worn: list[str] = []
        self.server = Server(app, settings, sockets, place, on_ready=self._became_ready, on_worn=self.worn.append)
        self.times_ready = 0
        self.end = asyncio.ensure_future(self.server.run())

    def _became_ready(self) -> None:
        self.times_ready += 1
        self._ready.set()

    async def wait_ready(self) -> None:
        """Wait until connections are accepted, or the server has ended."""
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((ready, self.end), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()

    async def connect(self) -> Client:
        """Return a new client."""
        if isinstance(self._address, tuple):
            reader, writer = await asyncio.open_connection(*self._address)
        else:
            reader, writer = await asyncio.open_unix_connection(self._address)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def stop(self) -> None:
        """Stop the server at once, if it still runs, and close the clients."""
        while not self.server.is_forced:
            self.server.stop_quickly()
        await asyncio.wait((self.end,))
        for client in self._clients:
            client.writer.close()


class Client:
    """One client of a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> bytes:
        """Return the next response, which must have a Content-Length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
        assert length is not None
        return head + await self.reader.readexactly(int(length[1]))

    async def ask(self, data: bytes) -> bytes:
        """Send a request, and return the response."""
        self.send(data)
        return await self.response()

    async def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        return await self.reader.read()

    def reset(self) -> None:
        """Go away with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


@asynccontextmanager
async def running(
    app: ASGIApp, *sockets: socket.socket, place: Place | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Run a server until the block ends."""
    run = Running(app, list(sockets), options, place)
    try:
        await run.wait_ready()
        yield run
    finally:
        await run.stop()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the target and the body."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["raw_path"] + b" " + body})


class Living:
    """An application with a lifespan, whose requests the test plays. events: what happened, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.http = PlayedApp()
        self.may_start = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.may_start.set()
        self.may_stop.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._live(scope, receive, send)
            except asyncio.CancelledError:
                self.events.append("cancelled")
                raise
        else:
            self.events.append("request")
            try:
                await self.http(scope, receive, send)
            finally:
                self.events.append("done")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await self.may_start.wait()
        scope["state"]["began"] = True
        self.events.append("start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.events.append("stop")
        await self.may_stop.wait()
        self.events.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})


# Serving.


@BOTH_PARSERS
async def test_requests_are_served(http: str, sock: socket.socket) -> None:
    async with running(echo, sock, http=http) as run:
        assert run.times_ready == 1
        client = await run.connect()
        for target, body in ((b"/a", b""), (b"/b", b"hello"), (b"/c", bytes(1_000_000))):
            answer = await client.ask(post(body, target=target.decode()))
            head, _, content = answer.partition(b"\r\n\r\n")
            assert content == target + b" " + body
            assert re.fullmatch(
                rb"HTTP/1.1 200 OK\r\n"
                rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"
                rb"server: fastserve\r\n"
                rb"content-length: \d+",
                head,
            )


@BOTH_PARSERS
async def test_pipelined_requests_are_served_in_order(http: str, sock: socket.socket) -> None:
    async with running(echo, sock, http=http) as run:
        client = await run.connect()
        client.send(b"".join(request(f"/{number}") for number in range(100)))
        for number in range(100):
            assert (await client.response()).endswith(b"\r\n\r\n/%d " % number)


async def test_many_clients_are_served_at_the_same_time(sock: socket.socket) -> None:
    async with running(echo, sock) as run:
        clients = await asyncio.gather(*(run.connect() for _ in range(100)))
        answers = await asyncio.gather(*(client.ask(request(f"/{n}")) for n, client in enumerate(clients)))
        assert [answer.rpartition(b"/")[2] for answer in answers] == [b"%d " % n for n in range(100)]


async def test_all_sockets_are_served(sock: socket.socket) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        async with running(echo, sock, other):
            for each in (sock, other):
                reader, writer = await asyncio.open_connection(*each.getsockname())
                writer.write(request())
                assert await reader.readuntil(b"/ ")
                writer.close()


async def test_a_unix_socket_is_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = PlayedApp()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        async with running(app, sock) as run:
            client = await run.connect()
            client.send(request())
            await until(lambda: app.calls)
            assert (app.calls[0].scope["client"], app.calls[0].scope["server"]) == (None, (path, None))
            await app.calls[0].respond()
            await client.response()
            client.send(b"\x00")
            await client.rest()
    assert "unix - refused with 400: malformed request line" in lines(caplog)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"server_header": False}, [b"date", b"content-length"]),
        ({"date_header": False}, [b"server", b"content-length"]),
        (
            {"header": ("X-Frame-Options: DENY", "Server: mine")},
            [b"date", b"x-frame-options", b"server", b"content-length"],
        ),
    ],
    ids=["no Server", "no Date", "more"],
)
async def test_the_fields_of_every_response_can_be_chosen(
    options: dict[str, Any], fields: list[bytes], sock: socket.socket
) -> None:
    async with running(echo, sock, **options) as run:
        head = (await (await run.connect()).ask(request())).partition(b"\r\n\r\n")[0]
    assert [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]] == fields


async def test_the_date_is_renewed(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """The clock of the wall, moved by the test."""

        now = 1.0
        monotonic = staticmethod(time.monotonic)

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(server_module, "time", clock)
    async with running(echo, sock) as run:
        client = await run.connect()
        assert b"\r\ndate: Thu, 01 Jan 1970 00:00:01 GMT\r\n" in await client.ask(request())
        clock.now = 784111777.5
        while b"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" not in await client.ask(request()):
            pass


async def test_each_request_is_logged_when_that_is_wanted(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fastserve.access")
    async with running(echo, sock, access_log=True) as run:
        client = await run.connect()
        await client.ask(request("/a?b=c"))
        host, port = client.writer.get_extra_info("sockname")
    assert [record.getMessage() for record in caplog.records if record.name == "fastserve.access"] == [
        f'{host}:{port} - "GET /a?b=c HTTP/1.1" 200'
    ]


async def test_the_error_of_a_client_is_one_line_without_a_traceback(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(echo, sock) as run:
        client = await run.connect()
        client.send(request("/", "transfer-encoding: chunked", method="POST", body=b"zz\r\n"))
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        host, port = client.writer.get_extra_info("sockname")
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING and "Stop" not in record.msg]
    assert record.getMessage() == f"{host}:{port} - refused with 400: malformed chunk size line"
    assert record.exc_info is None


async def test_the_ticks_of_the_loop_end_a_head_that_does_not_come(sock: socket.socket) -> None:
    async with running(echo, sock, timeout_request_head=0.1) as run:
        silent, slow = await run.connect(), await run.connect()
        slow.send(b"GET / HT")
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        assert await silent.rest() == b""


# Clients that go, and clients that stay (RELIABILITY 28, 29, 43).


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("pipelined", [b"", request("/next")], ids=["alone", "pipelined"])
async def test_the_application_learns_in_time_that_the_client_is_gone(
    how: str, pipelined: bytes, sock: socket.socket
) -> None:
    app = PlayedApp()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(request() + pipelined)
        await until(lambda: app.calls)
        await app.calls[0].receive()
        client.writer.write_eof() if how == "FIN" else client.reset()
        async with asyncio.timeout(0.1):
            assert await app.calls[0].receive() == {"type": "http.disconnect"}
        app.calls[0].end()
        if how == "FIN":
            await client.rest()


async def test_a_client_that_has_closed_its_side_is_answered(sock: socket.socket) -> None:
    app = PlayedApp()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(post(b"hello"))
        client.writer.write_eof()
        await until(lambda: app.calls)
        assert (await app.calls[0].receive())["body"] == b"hello"
        assert await app.calls[0].receive() == {"type": "http.disconnect"}
        await app.calls[0].respond(b"bye")
        answer = await client.rest()
        assert answer.endswith(b"\r\nconnection: close\r\n\r\nbye")


async def test_an_early_answer_reaches_a_client_that_goes_on_sending(sock: socket.socket) -> None:
    app = PlayedApp()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(post(b"", length=8_000_000))
        await until(lambda: app.calls)
        sending = bytes(8_000_000)
        client.send(sending)
        await app.calls[0].respond(b"too large", 413)
        await client.writer.drain()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"\r\nconnection: close\r\n\r\ntoo large")


async def test_send_waits_for_a_client_that_does_not_read_and_all_arrives_when_it_does(sock: socket.socket) -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000000")]})
        for part in range(100):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": part < 99})
            sent += 1

    async with running(app, sock) as run:
        client = await run.connect()
        client.send(request("/", "connection: close"))
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await turns(100)
        assert 0 < sent < 50
        assert len((await client.rest()).partition(b"\r\n\r\n")[2]) == 100_000_000
        assert sent == 100


async def test_a_client_that_pipelines_is_served_as_fast_as_it_reads(sock: socket.socket) -> None:
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(2_000_000) + scope["raw_path"]})

    async with running(app, sock, lifespan="off") as run:
        client = await run.connect()
        client.send(b"".join(request(f"/{number}") for number in range(30)))
        before = -1
        while before != calls:  # until nothing moves any more
            before = calls
            await turns(100)
        assert 0 < calls < 20
        for number in range(30):
            assert (await client.response()).endswith(b"\0/%d" % number)
        assert calls == 30


# Starting.


async def test_nothing_is_accepted_before_the_application_has_started(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    app = Living()
    app.may_start.clear()
    run = Running(app, [sock], {})
    await until(lambda: "Waiting for application startup." in lines(caplog))
    with pytest.raises(ConnectionRefusedError):
        await run.connect()
    assert run.times_ready == 0
    app.may_start.set()
    await run.wait_ready()
    client = await run.connect()
    client.send(request())
    await until(lambda: app.http.calls)
    assert app.http.calls[0].scope["state"] == {"began": True}
    await app.http.calls[0].respond()
    await client.response()
    await run.stop()


async def test_a_start_that_fails_is_raised_and_nothing_is_accepted(sock: socket.socket) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    run = Running(app, [sock], {})
    with pytest.raises(LifespanError, match="no database"):
        await run.end
    assert run.times_ready == 0
    with pytest.raises(ConnectionRefusedError):
        await run.connect()


async def test_a_stop_during_the_start_ends_the_server(sock: socket.socket) -> None:
    app = Living()
    app.may_start.clear()
    run = Running(app, [sock], {})
    await asyncio.sleep(0)
    run.server.stop()
    await run.end
    await until(lambda: app.events)
    assert (app.events, run.times_ready) == (["cancelled"], 0)


async def test_a_stop_before_the_start_ends_the_server(sock: socket.socket) -> None:
    run = Running(Living(), [sock], {})
    run.server.stop()
    await run.end
    with pytest.raises(ConnectionRefusedError):
        await run.connect()


# Stopping (RELIABILITY 48, 53, 54).


@BOTH_PARSERS
async def test_a_stop_answers_what_is_running_accepts_no_more_and_then_stops_the_application(
    http: str, sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    app = Living()
    async with running(app, sock, http=http) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.http.calls)
        caplog.clear()
        run.server.stop()
        await until(lambda: "Waiting for connections to close. (CTRL+C to force quit)" in lines(caplog))
        with pytest.raises(ConnectionRefusedError):
            await run.connect()
        assert not run.end.done()
        await app.http.calls[0].respond(b"last")
        answer = await client.rest()
        assert answer.endswith(b"\r\nconnection: close\r\n\r\nlast")
        client.writer.close()
        await run.end
    assert app.events == ["start", "request", "done", "stop", "stopped"]
    assert lines(caplog) == [
        "Shutting down",
        "Waiting for connections to close. (CTRL+C to force quit)",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
    ]


async def test_idle_connections_do_not_delay_a_stop(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with running(echo, sock) as run:
        kept, silent, half = [await run.connect() for _ in range(3)]
        half.send(b"POST / HT")
        for _ in range(3):  # after which the others have had their turn too
            await kept.ask(request())
        began = loop.time()
        run.server.stop()
        assert [await client.rest() for client in (kept, silent, half)] == [b"", b"", b""]
        await run.end
        assert loop.time() - began < 1.0


async def test_a_stop_serves_the_connections_that_wait_in_the_queue(sock: socket.socket) -> None:
    async with running(echo, sock) as run:
        clients = [socket.create_connection(sock.getsockname(), timeout=10) for _ in range(50)]
        for number, client in enumerate(clients):
            client.sendall(request(f"/{number}", "connection: close"))
        run.server.stop()
        await run.end
        for number, client in enumerate(clients):
            answer = client.recv(10_000)
            assert answer.endswith(b"\r\nconnection: close\r\n\r\n/%d " % number)
            client.close()


async def test_a_stop_waits_for_work_after_the_response(sock: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    app = Living()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(request("/", "connection: close"))
        await until(lambda: app.http.calls)
        await app.http.calls[0].start()
        await app.http.calls[0].body(b"ok")
        assert (await client.rest()).endswith(b"ok")
        run.server.stop()
        await until(lambda: "Waiting for background tasks to complete. (CTRL+C to force quit)" in lines(caplog))
        assert not run.end.done()
        app.http.calls[0].end()
        await run.end
    assert app.events == ["start", "request", "done", "stop", "stopped"]


async def test_what_runs_longer_than_the_graceful_time_is_cancelled_and_the_application_still_stopped(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    app = Living()
    loop = asyncio.get_running_loop()
    async with running(app, sock, timeout_graceful_shutdown=0.5) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.http.calls)
        began = loop.time()
        run.server.stop()
        assert (await client.rest()).startswith(b"HTTP/1.1 500 ")
        client.writer.close()
        await run.end
        assert 0.35 < loop.time() - began < 1.0
    assert app.events == ["start", "request", "done", "stop", "stopped"]
    assert "Cancelling 1 request: it did not finish within the time for a shutdown." in lines(caplog)


async def test_an_application_that_holds_on_to_its_cancellation_is_left_behind(sock: socket.socket) -> None:
    called, released = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        called.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                pass

    loop = asyncio.get_running_loop()
    async with running(app, sock, timeout_graceful_shutdown=0) as run:
        client = await run.connect()
        client.send(request())
        await called.wait()
        began = loop.time()
        run.server.stop()
        await run.end
        assert loop.time() - began < 1.5
        released.set()


@pytest.mark.parametrize(
    ("stop", "grace_s", "most_s"),
    [(Server.stop, 0.5, 2.0), (Server.stop_quickly, 0.5, 2.0)],
    ids=["the time is over", "quick stop"],
)
async def test_an_application_that_does_not_stop_in_its_share_of_the_time_is_cancelled(
    stop: Callable[[Server], None], grace_s: float, most_s: float, sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    app = Living()
    app.may_stop.clear()
    loop = asyncio.get_running_loop()
    async with running(app, sock, timeout_graceful_shutdown=grace_s) as run:
        began = loop.time()
        stop(run.server)
        await run.end
        assert loop.time() - began < most_s
        await until(lambda: "cancelled" in app.events)
    assert app.events == ["start", "stop", "cancelled"]
    assert any("The application did not shut down within " in line for line in lines(caplog))


@pytest.mark.parametrize(
    ("options", "least_s", "most_s"), [({}, 0.9, 5.0), ({"timeout_graceful_shutdown": 60}, 40, 61)]
)
async def test_an_interrupt_is_a_quick_stop_unless_a_time_is_set(
    options: dict[str, Any], least_s: float, most_s: float, sock: socket.socket
) -> None:
    app = Living()
    loop = asyncio.get_running_loop()
    async with running(app, sock, **options) as run:
        run.server.interrupt()
        assert least_s < run.server._requests_end_at - loop.time() < most_s
        await run.end
    assert app.events == ["start", "stop", "stopped"]


@pytest.mark.parametrize("first", [Server.stop, Server.interrupt])
async def test_an_interrupt_that_is_not_the_first_stop_ends_at_once(
    first: Callable[[Server], None], sock: socket.socket
) -> None:
    app = Living()
    async with running(app, sock, timeout_graceful_shutdown=60) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.http.calls)
        first(run.server)
        run.server.interrupt()
        assert run.server.is_forced
        await run.end


async def test_an_application_may_take_all_the_time_that_requests_have_left_to_stop(sock: socket.socket) -> None:
    app = Living()
    app.may_stop.clear()
    loop = asyncio.get_running_loop()
    async with running(app, sock, timeout_graceful_shutdown=60) as run:
        run.server.stop()
        await until(lambda: "stop" in app.events)
        ends_at = run.server._lifespan_ends_at - loop.time()
        assert 55 < ends_at < 60.1  # The clock gives floats.
        app.may_stop.set()
        await run.end
    assert app.events == ["start", "stop", "stopped"]


async def test_the_second_stop_ends_at_once(sock: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    app = Living()
    loop = asyncio.get_running_loop()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.http.calls)
        run.server.stop()
        await until(lambda: "Waiting for connections to close. (CTRL+C to force quit)" in lines(caplog))
        assert (run.server.is_stopping, run.server.is_forced) == (True, False)
        began = loop.time()
        run.server.stop()
        assert run.server.is_forced
        await run.end
        assert loop.time() - began < 0.5
        assert await client.rest() == b""
    assert lines(caplog)[-1] == "Stopped at once: 1 request is cut off."


async def test_a_quick_stop_gives_running_requests_a_moment_and_the_application_its_end(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "_QUICK_S", 0.2)
    app = Living()
    async with running(app, sock) as run:
        in_time, late = await run.connect(), await run.connect()
        for client in (in_time, late):
            client.send(request())
        await until(lambda: len(app.http.calls) == 2)
        run.server.stop_quickly()
        await until(lambda: "Waiting for connections to close. (CTRL+C to force quit)" in lines(caplog))
        await app.http.calls[0].respond(b"last")
        answers = [await client.rest() for client in (in_time, late)]
        assert sorted(answer.partition(b"\r\n")[0] for answer in answers) == [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 500 Internal Server Error",
        ]
        await run.end
    assert app.events == ["start", "request", "request", "done", "done", "stop", "stopped"]


async def test_a_quick_stop_after_a_stop_ends_at_once(sock: socket.socket) -> None:
    app = Living()
    async with running(app, sock) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.http.calls)
        run.server.stop()
        await turns()
        run.server.stop_quickly()
        async with asyncio.timeout(0.5):
            await run.end
        assert await client.rest() == b""


async def test_before_it_stops_the_server_serves_for_the_time_to_leave(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    async with running(echo, sock, drain_delay=0.4) as run:
        kept = await run.connect()
        await kept.ask(request())
        began = loop.time()
        run.server.stop()
        await until(lambda: "Shutting down in 0.4 seconds" in lines(caplog))
        assert run.server.is_stopping
        for client in (kept, await run.connect()):
            assert b"\r\nconnection: close\r\n" in await client.ask(request())
            assert await client.rest() == b""
            client.writer.close()
        assert not run.end.done()
        await run.end
        assert 0.35 < loop.time() - began < 1.5


@pytest.mark.parametrize("how", ["stop", "stop_quickly"])
async def test_a_second_stop_ends_the_time_to_leave(
    how: str, sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    app = PlayedApp()
    async with running(app, sock, drain_delay=60, lifespan="off") as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.calls)
        run.server.stop()
        await until(lambda: "Shutting down in 60 seconds" in lines(caplog))
        getattr(run.server, how)()
        await until(lambda: "Shutting down" in lines(caplog))
        is_forced = [run.server.is_forced]
        await app.calls[0].respond()
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")
        getattr(run.server, how)()
        is_forced.append(run.server.is_forced)
        await run.end
    assert is_forced == [False, True]


async def test_the_second_stop_ends_the_wait_for_an_application_that_does_not_stop(sock: socket.socket) -> None:
    app = Living()
    app.may_stop.clear()
    async with running(app, sock) as run:
        run.server.stop()
        await until(lambda: "stop" in app.events)
        run.server.stop()
        async with asyncio.timeout(0.5):
            await run.end


async def test_a_stop_without_lifespan_has_nothing_to_say_about_the_application(
    sock: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(echo, sock, lifespan="off") as run:
        caplog.clear()
        run.server.stop()
        await run.end
    assert lines(caplog) == ["Shutting down"]


# A worker among others.


@pytest.fixture
def place() -> Place:
    """The place of the second of two workers."""
    scoreboard = Scoreboard(2)
    scoreboard.reserve(0, 0.0)
    return Place(1, scoreboard, scoreboard.reserve(1, 0.0))


async def test_a_worker_is_worn_after_so_many_requests_and_serves_on(sock: socket.socket) -> None:
    async with running(echo, sock, limit_max_requests=3) as run:
        client = await run.connect()
        for _ in range(2):
            await client.ask(request())
        for _ in range(3):  # which never get to the application
            refused = await run.connect()
            assert (await refused.ask(request("/", "expect: more"))).startswith(b"HTTP/1.1 417 ")
        assert run.worn == []
        for _ in range(2):
            await client.ask(request())
        assert run.worn == ["it has served 3 requests or more"]


async def test_workers_are_worn_after_different_numbers_of_requests(sock: socket.socket) -> None:
    async with running(echo, sock, limit_max_requests=2, limit_max_requests_jitter=3) as run:
        client = await run.connect()
        count = 0
        while not run.worn:
            await client.ask(request())
            count += 1
        assert 2 <= count <= 5


async def test_a_worker_tells_how_it_is(sock: socket.socket, place: Place) -> None:
    app = PlayedApp()
    async with running(app, sock, place=place) as run:
        began = place.record.beat_us
        assert place.record.read().state is WorkerState.READY
        client = await run.connect()
        client.send(request())
        await until(lambda: app.calls)
        await until(lambda: place.record.read().running)
        report = place.record.read()
        assert (report.pid, report.slot, report.connections, report.requests) == (os.getpid(), 1, 1, 0)
        assert report.started_us <= began < report.beat_us <= time.monotonic() * 1e6
        await app.calls[0].respond(b"hello", 404)
        await until(lambda: place.record.read().requests)
        report = place.record.read()
        assert (report.running, report.sent_bytes, report.status[4], sum(report.latency)) == (0, 5, 1, 1)


async def test_a_worker_that_is_told_to_stop_says_that_it_drains(sock: socket.socket, place: Place) -> None:
    app = PlayedApp()
    async with running(app, sock, place=place) as run:
        client = await run.connect()
        client.send(request())
        await until(lambda: app.calls)
        run.server.stop()
        await until(lambda: place.record.read().state is WorkerState.DRAINING)
        await app.calls[0].respond()
        await client.rest()


async def test_the_state_of_all_workers_can_be_asked_for(sock: socket.socket, place: Place) -> None:
    async with running(echo, sock, place=place, status_path="/status", ready_path="/ready") as run:
        client = await run.connect()
        answer = await client.ask(request("/status"))
        workers = json.loads(answer.partition(b"\r\n\r\n")[2])["workers"]
        assert [(worker["worker"], worker["state"]) for worker in workers] == [(0, "booting"), (1, "ready")]
        assert (await client.ask(request("/ready"))).startswith(b"HTTP/1.1 200 ")
        assert (await client.ask(request("/other"))).endswith(b"/other ")


async def test_all_workers_say_no_and_keep_no_connections_as_soon_as_the_server_is_leaving(
    sock: socket.socket, place: Place
) -> None:
    async with running(echo, sock, place=place, ready_path="/ready") as run:
        client = await run.connect()
        assert (await client.ask(request("/ready"))).startswith(b"HTTP/1.1 200 ")
        place.scoreboard.is_leaving = True
        assert (await (await run.connect()).ask(request("/ready"))).startswith(b"HTTP/1.1 503 ")
        while b"\r\nconnection: close\r\n" not in await (await run.connect()).ask(request()):
            pass
        assert not run.server.is_stopping


async def test_a_worker_that_is_replaced_answers_a_last_request_on_each_connection(
    sock: socket.socket, place: Place
) -> None:
    async with running(echo, sock, place=place, ready_path="/ready", timeout_graceful_shutdown=2) as run:
        kept = await run.connect()
        await kept.ask(request())
        run.server.stop()
        await until(lambda: place.record.read().state is WorkerState.DRAINING)
        assert not run.end.done()
        answer = await kept.ask(request("/ready"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert await kept.rest() == b""
        kept.writer.close()
        await run.end


async def test_the_ready_path_is_answered_also_when_there_are_too_many_requests(
    sock: socket.socket, place: Place
) -> None:
    app = PlayedApp()
    async with running(app, sock, place=place, limit_concurrency=1, ready_path="/ready") as run:
        busy = await run.connect()
        busy.send(request())
        await until(lambda: app.calls)
        assert (await (await run.connect()).ask(request())).startswith(b"HTTP/1.1 503 ")
        assert (await (await run.connect()).ask(request("/ready"))).startswith(b"HTTP/1.1 200 ")
        await app.calls[0].respond()
        await busy.response()
