"""Files, early hints and trailers on real sockets: in both event loops, on both kinds of transports, and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastserve.asgi.types import ASGIApp
from fastserve.errors import InvalidMessage, InvalidResponse
from fastserve.net.certificates import Certificates
from fastserve.net.crowd import Crowd
from fastserve.net.listener import Listener
from fastserve.net.transports import transports_for
from tests.certificates import client_context, tls_settings
from tests.doubles import Call, PlayedApp, Rig, request, turns, until
from tests.net.serving import descriptors, send_buffer

pytestmark = pytest.mark.usefixtures("loop_factory", "kind")

HINT = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
HINTED = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"


class Site:
    """A worker without its process, and connections to it."""

    def __init__(self, rig: Rig, listening: socket.socket, is_tls: bool) -> None:
        self.rig = rig
        self.listening = listening
        self._is_tls = is_tls
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls: dict[str, Any] = {"ssl": client_context(), "server_hostname": "localhost"} if self._is_tls else {}
        host, port = self.listening.getsockname()
        reader, writer = await asyncio.open_connection(host, port, **tls)
        self.writers.append(writer)
        return reader, writer

    async def get(self, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
        """Return the whole answer to a request that is the last of its connection."""
        reader, writer = await self.connect()
        writer.write(request("/", "connection: close", *lines, method=method, version=version))
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""


Sites = Callable[..., contextlib.AbstractAsyncContextManager[Site]]


@pytest.fixture(params=["plain", "tls"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Sites:
    """Make sites."""

    @asynccontextmanager
    async def site(app: ASGIApp, **options: Any) -> AsyncIterator[Site]:
        is_tls = request.param == "tls"
        rig = Rig(app, **options)
        certificates = Certificates(tls_settings(tmp_path)) if is_tls else None
        transports = transports_for(rig.state, certificates=certificates, handshake_s=10)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = Listener(listening, rig.state, transports, Crowd(rig.state, lambda is_full: None))
            listener.start()
            site = Site(rig, listening, is_tls)
            try:
                yield site
            finally:
                for writer in site.writers:
                    writer.close()
                await listener.stop()
                for connection in list(rig.state.connections):
                    connection.cut()
                await until(lambda: not rig.state.connections)
                rig.application.cancel_all()
                await rig.application.wait_idle()
                transports.close()

    return site


def sends(*messages: dict[str, Any], length: int | None = None, trailers: bool = False) -> ASGIApp:
    """Return an application that sends these messages after a start."""
    fields = [] if length is None else [(b"content-length", b"%d" % length)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": trailers})
        for message in messages:
            await send(message)

    return app


def pathsend(path: Path | str) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def answer(body: bytes, *lines: str, length: int | None = None) -> bytes:
    head = ["HTTP/1.1 200 OK", f"content-length: {len(body) if length is None else length}", *lines]
    return "\r\n".join((*head, "connection: close", "", "")).encode() + body


@pytest.fixture(params=[0, 1, 1000, 70_000, 5_000_000])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(request.param))
    return path


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short"
    path.write_bytes(b"0123456789")
    return path


# Files.


async def test_a_file_is_the_body_and_the_connection_goes_on(sites: Sites, file: Path) -> None:
    async with sites(sends(pathsend(file))) as site:
        reader, writer = await site.connect()
        body = file.read_bytes()
        writer.write(request() * 2)
        for _ in range(2):
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n"
            assert await reader.readuntil(b"\r\n\r\n") == head.encode()
            assert await reader.readexactly(len(body)) == body
        writer.close()


async def test_a_relative_path_is_one_from_the_working_directory(
    sites: Sites, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short.parent)
    async with sites(sends(pathsend("short"))) as site:
        assert await site.get() == answer(b"0123456789")


async def test_the_head_of_a_file_has_its_length(sites: Sites, short: Path) -> None:
    async with sites(sends(pathsend(short))) as site:
        assert await site.get(method="HEAD") == answer(b"", length=10)


async def test_of_a_file_that_has_grown_the_declared_part_is_sent(sites: Sites, short: Path) -> None:
    async with sites(sends(pathsend(short), length=4)) as site:
        assert await site.get() == answer(b"0123")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("{folder}/none", FileNotFoundError),
        ("{folder}", InvalidMessage),
        (5, InvalidMessage),
        ("/dev/null", InvalidMessage),
        ("{folder}/short", InvalidResponse),
    ],
    ids=["missing", "a folder", "no path", "a device", "shorter than declared"],
)
async def test_what_cannot_be_sent_is_a_clean_failure(
    path: Any, error: type[Exception], sites: Sites, short: Path, tmp_path: Path
) -> None:
    sending = pathsend(path.format(folder=tmp_path)) if isinstance(path, str) else {**pathsend(""), "path": path}
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"11")]})
        try:
            await send(sending)
        except Exception as seen:
            raised.append(seen)
            raise

    async with sites(app) as site:
        files = len(descriptors(str(tmp_path)))
        assert b"HTTP/1.1 500 " in await site.get()
        assert [type(each) for each in raised] == [error]
        assert len(descriptors(str(tmp_path))) == files


async def test_a_file_that_becomes_shorter_ends_the_connection_early(sites: Sites, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(64 << 20))
    async with sites(sends(pathsend(path))) as site:
        send_buffer(site.listening, 128 * 1024)
        reader, writer = await site.connect()
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(path, 0)
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                received += len(data)
        assert received < 64 << 20
        writer.close()
        await until(lambda: not site.rig.state.connections)
        assert not descriptors(str(path))


async def test_sending_a_file_waits_for_the_client_and_leaves_nothing_when_it_goes(
    sites: Sites, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(64 << 20))
    app = PlayedApp()
    async with sites(app) as site:
        send_buffer(site.listening, 128 * 1024)
        _, writer = await site.connect()
        writer.write(request())
        await until(lambda: app.calls)
        await app.calls[0].start()
        with path.open("rb") as opened:
            part = {"type": "http.response.zerocopysend", "file": opened, "more_body": True}
            sending = asyncio.ensure_future(send(app.calls[0], part))
            await turns(100)
            assert not sending.done()
            writer.transport.abort()
            await asyncio.wait([sending])
        await until(lambda: not site.rig.state.connections)
        assert isinstance(sending.exception(), OSError)
        assert not descriptors(str(path))
        app.calls[0].end()


async def test_a_client_that_takes_nothing_of_a_file_is_cut_off(sites: Sites, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(64 << 20))
    async with sites(sends(pathsend(path)), timeout_write=2) as site:
        send_buffer(site.listening, 128 * 1024)
        _, writer = await site.connect()
        writer.write(request())
        await until(lambda: site.rig.state.connections)
        await turns(100)
        await site.rig.pass_time(6)  # Until it takes nothing, it takes as much as the kernel has room for.
        await until(lambda: not site.rig.state.connections)
        assert not descriptors(str(path))
        writer.close()


async def send(call: Call, message: dict[str, Any]) -> None:
    await call.send(message)


async def test_parts_of_open_files_and_bytes_make_a_body(sites: Sites, short: Path) -> None:
    with short.open("rb") as opened:
        opened.seek(2)
        part = {"type": "http.response.zerocopysend", "file": opened, "more_body": True}
        app = sends(
            {**part, "count": 3},
            {"type": "http.response.body", "body": b"-", "more_body": True},
            {**part, "offset": 1, "count": 1},
            {**part, "count": 2},
            {**part, "offset": 100},
            {**part, "file": opened.fileno(), "count": 100, "more_body": False},
        )
        async with sites(app) as site:
            received = await site.get()
            body = b"3\r\n234\r\n1\r\n-\r\n1\r\n1\r\n2\r\n56\r\n3\r\n789\r\n0\r\n\r\n"
            assert received.partition(b"\r\n\r\n")[2] == body
            assert opened.tell() == 10, "it is left open, and moved"


@pytest.mark.parametrize("length", [None, 10])
async def test_an_open_file_may_be_the_whole_body(length: int | None, sites: Sites, short: Path) -> None:
    with short.open("rb") as opened:
        app = sends({"type": "http.response.zerocopysend", "file": opened, "offset": 0}, length=length)
        async with sites(app) as site:
            received = await site.get()
            assert received.endswith(b"\r\n\r\n0123456789")
            assert (await site.get(method="HEAD")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("what", [{"offset": -1}, {"count": -1}], ids=str)
async def test_a_part_that_cannot_be_is_refused(what: dict[str, int], sites: Sites, short: Path) -> None:
    with short.open("rb") as opened:
        async with sites(sends({"type": "http.response.zerocopysend", "file": opened, **what})) as site:
            assert b" 500 " in await site.get()


# Early hints.


async def test_early_hints_leave_at_once(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        reader, writer = await site.connect()
        writer.write(request())
        await until(lambda: app.calls)
        call = app.calls[0]
        for step in (None, call.start):
            if step is not None:
                await step()
            await call.send(HINT)
            assert await reader.readuntil(b"\r\n\r\n") == HINTED
        await call.body(b"a", more=True)
        await call.send(HINT)  # too late
        await call.body(b"b")
        call.end()
        rest = await reader.readuntil(b"0\r\n\r\n")
        assert (rest.count(b"HTTP/1.1"), rest[-20:]) == (1, b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"[-20:])
        writer.close()


async def test_http_1_0_gets_no_hints(sites: Sites) -> None:
    app = sends(HINT, {"type": "http.response.body", "body": b"x"})
    async with sites(app) as site:
        assert (await site.get(version="1.0")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("link", [b"a\r\nset-cookie: b", b"\0"])
async def test_a_hint_cannot_smuggle_a_field(link: bytes, sites: Sites) -> None:
    async with sites(sends({**HINT, "links": [link]})) as site:
        assert (await site.get()).startswith(b"HTTP/1.1 500 ")


# Trailers.

TRAILERS = {"type": "http.response.trailers", "headers": [(b"digest", b"1"), (b"timing", b"2")]}
BODY = {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize("te", ["trailers", "gzip;q=0.5, Trailers", "trailers;q=1"])
async def test_trailers_are_sent_to_who_takes_them(te: str, sites: Sites) -> None:
    more = {**TRAILERS, "headers": [(b"last", b"3")]}
    async with sites(sends(BODY, {**TRAILERS, "more_trailers": True}, more, trailers=True)) as site:
        received = await site.get(f"te: {te}")
        assert received.endswith(b"\r\n\r\n1\r\nx\r\n0\r\ndigest: 1\r\ntiming: 2\r\nlast: 3\r\n\r\n")


@pytest.mark.parametrize(("lines", "version"), [((), "1.1"), (("te: gzip",), "1.1"), (("te: trailers",), "1.0")])
async def test_trailers_are_kept_from_who_does_not(lines: tuple[str, ...], version: str, sites: Sites) -> None:
    async with sites(sends(BODY, TRAILERS, trailers=True)) as site:
        assert await site.get(*lines, version=version) == answer(b"x")


async def test_a_body_with_a_length_has_no_trailers(sites: Sites) -> None:
    async with sites(sends(BODY, TRAILERS, trailers=True, length=1)) as site:
        assert await site.get("te: trailers") == answer(b"x")


async def test_a_file_may_have_trailers(sites: Sites, short: Path) -> None:
    async with sites(sends(pathsend(short), TRAILERS, trailers=True)) as site:
        received = await site.get("te: trailers")
        assert received.endswith(b"\r\n\r\na\r\n0123456789\r\n0\r\ndigest: 1\r\ntiming: 2\r\n\r\n")


async def test_trailers_that_do_not_come_end_the_connection_early(sites: Sites) -> None:
    async with sites(sends(BODY, trailers=True)) as site:
        assert not (await site.get("te: trailers")).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "field",
    [(b"content-length", b"1"), (b"Transfer-Encoding", b"chunked"), (b"a", b"b\r\nc: d"), (b"a b", b"c")],
    ids=str,
)
async def test_a_trailer_that_cannot_be_one_is_refused(field: tuple[bytes, bytes], sites: Sites) -> None:
    async with sites(sends(BODY, {**TRAILERS, "headers": [field]}, trailers=True)) as site:
        assert (await site.get("te: trailers")).endswith(b"\r\n\r\n1\r\nx\r\n")
