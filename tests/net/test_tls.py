"""TLS on real sockets, in both event loops and on both kinds of transports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.errors import ClientDisconnected
from fastserve.net.certificates import Certificates
from fastserve.net.connection import Connection
from fastserve.net.crowd import Crowd
from fastserve.net.listener import Listener
from fastserve.net.transports import transports_for
from tests.certificates import client_context, issue, tls_settings, write_authority
from tests.doubles import PlayedApp, Rig, make_room, post, request, turns, until
from tests.net.serving import send_buffer

pytestmark = pytest.mark.usefixtures("loop_factory", "kind")

HANDSHAKE_S = 5.0


class TlsClient:
    """A client of which the test plays every step. received: all that was decrypted. is_told: of the server's end."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.received = b""
        self.is_told = False

    async def send_raw(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    def hello(self) -> bytes:
        """Return the first flight of the handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            else:
                await self._flush()
                return

    async def _flush(self) -> None:
        await self.send_raw(self._outgoing.read())

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self.sock, 1 << 18)
        if not data:
            raise ConnectionResetError("the server has closed")
        self._incoming.write(data)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
            await self._flush()

    def encrypt(self, data: bytes) -> bytes:
        """Return a record, to be sent by the test."""
        self.tls.write(data)
        return self._outgoing.read()

    async def receive_until(self, end: bytes) -> bytes:
        """Return what comes up to this."""
        while end not in self.received:
            assert await self.receive_some(), f"it ends after {self.received[-200:]!r}"
        before, _, self.received = self.received.partition(end)
        return before + end

    async def receive_some(self) -> bool:
        """Receive something, and tell whether that was not the end."""
        while not self.is_told:
            try:
                data = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._more()
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            self.received += data
            self.is_told = not data
            return bool(data)
        return False

    async def receive_all(self) -> bytes:
        """Return what comes until the server says that no more follows."""
        while await self.receive_some():
            pass
        return self.received

    async def end(self) -> None:
        """Say that no more follows, and go on reading."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        await self._flush()

    async def is_closed(self) -> bool:
        """Wait for the end of the connection itself, and tell whether it was a clean one."""
        try:
            while await self._loop.sock_recv(self.sock, 1 << 18):
                pass
        except ConnectionResetError:
            return False
        return True


class TlsSite:
    """A worker that speaks TLS, without its process."""

    def __init__(self, app: ASGIApp, certificates: Certificates, listening: socket.socket, **options: Any) -> None:
        self.rig = Rig(app, **options)
        self.certificates = certificates
        self.listening = listening
        self._transports = transports_for(self.rig.state, certificates=certificates, handshake_s=HANDSHAKE_S)
        self._listener = Listener(
            listening, self.rig.state, self._transports, Crowd(self.rig.state, lambda is_full: None)
        )
        self._listener.start()
        self._clients: list[TlsClient] = []

    def connect(self, context: ssl.SSLContext | None = None) -> TlsClient:
        """Return a client that is connected, and no more."""
        sock = socket.create_connection(self.listening.getsockname())
        client = TlsClient(sock, context or client_context())
        self._clients.append(client)
        return client

    async def open(self, context: ssl.SSLContext | None = None) -> TlsClient:
        """Return a client after its handshake."""
        client = self.connect(context)
        await client.shake_hands()
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.sock.close()
        await self._listener.stop()
        for connection in list(self.rig.state.connections):
            connection.cut()
        await until(lambda: not self.rig.state.connections)
        self._transports.close()
        assert self.rig.state.coming == 0
        self.rig.application.cancel_all()
        await self.rig.application.wait_idle()


Sites = Callable[..., contextlib.AbstractAsyncContextManager[TlsSite]]


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    """Make sites."""

    @asynccontextmanager
    async def site(app: ASGIApp = echo, tls: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[TlsSite]:
        certificates = Certificates(tls_settings(tmp_path, **(tls or {})))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            opened = TlsSite(app, certificates, listening, **options)
            try:
                yield opened
            finally:
                await opened.close()

    return site


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send the body back, as it comes."""
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


@pytest.fixture(params=[2, 5], ids=["TLS 1.3", "TLS 1.2"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# Requests.


async def test_requests_are_answered_one_after_the_other(sites: Sites, version: int) -> None:
    async with sites(tls={"version": version}) as site:
        client = await site.open()
        for number in range(3):
            body = b"body %d" % number
            await client.send(post(body))
            assert await client.receive_until(body) == b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n" + body


async def test_a_request_in_the_last_flight_of_the_handshake_is_answered(sites: Sites) -> None:
    async with sites() as site:
        client = await site.open()
        await client.send_raw(client.encrypt(request()) + client.encrypt(request()))
        await client.receive_until(b"\r\n\r\n")
        await client.receive_until(b"\r\n\r\n")


@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 3 << 20])
async def test_bodies_of_any_size_go_both_ways(size: int, sites: Sites, version: int) -> None:
    async with sites(tls={"version": version}) as site:
        client = await site.open()
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        sending = asyncio.ensure_future(client.send(post(body, "connection: close")))
        received = await client.receive_all()
        await sending
        head, _, echoed = received.partition(b"\r\n\r\n")
        if b"chunked" in head:
            echoed = dechunked(echoed)
        assert echoed == body
        assert await client.is_closed()


def dechunked(data: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


async def test_any_split_of_the_bytes_is_the_same(sites: Sites) -> None:
    async with sites() as site:
        client = site.connect()
        for byte in client.hello():
            await client.send_raw(bytes([byte]))
            await turns(2)
        await client.shake_hands()
        for byte in client.encrypt(post(b"hello", "connection: close")):
            await client.send_raw(bytes([byte]))
            await turns(2)
        assert (await client.receive_all()).endswith(b"\r\n\r\nhello")


# The scope.


async def extension(site: TlsSite, app: PlayedApp, client: TlsClient) -> dict[str, Any]:
    await client.send(request())
    await until(lambda: app.calls)
    call = app.calls.pop()
    await call.respond()
    assert call.scope["scheme"] == "https"
    found: dict[str, Any] = call.scope["extensions"]["tls"]
    return found


async def test_the_scope_tells_of_the_connection(sites: Sites, version: int) -> None:
    app = PlayedApp()
    async with sites(app, tls={"version": version}) as site:
        client = await site.open()
        seen = await extension(site, app, client)
        assert ssl.PEM_cert_to_DER_cert(seen.pop("server_cert")) == client.tls.getpeercert(binary_form=True)
        suite = seen.pop("cipher_suite")
        assert suite in ((0x1301, 0x1302, 0x1303) if version == 2 else (0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9))
        assert seen == {
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304 if version == 2 else 0x0303,
        }
        first = await extension(site, app, client)
        first["tls_version"] = 0
        assert (await extension(site, app, client))["tls_version"] != 0


@pytest.mark.parametrize("reqs", [1, 2], ids=["optional", "required"])
async def test_the_scope_tells_of_a_client_certificate(reqs: int, sites: Sites, tmp_path: Path) -> None:
    app = PlayedApp()
    leaf = issue("client.example", common_name="Ada, Countess")
    async with sites(app, tls={"cert_reqs": reqs, "ca_certs": write_authority(tmp_path)}) as site:
        client = await site.open(client_context(leaf))
        seen = await extension(site, app, client)
        assert seen["client_cert_chain"][0].strip() == leaf.cert_chain_pems[0].bytes().decode().strip()
        assert seen["client_cert_name"].startswith("CN=Ada\\, Countess,OU=Testing cert ")
        assert seen["client_cert_error"] is None


async def test_a_client_certificate_may_be_missing_where_it_is_optional(sites: Sites, tmp_path: Path) -> None:
    app = PlayedApp()
    async with sites(app, tls={"cert_reqs": 1, "ca_certs": write_authority(tmp_path)}) as site:
        seen = await extension(site, app, await site.open())
        assert (seen["client_cert_chain"], seen["client_cert_name"]) == ([], None)


async def test_a_missing_client_certificate_is_refused_where_it_is_required(
    sites: Sites, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = PlayedApp()
    async with sites(app, tls={"cert_reqs": 2, "ca_certs": write_authority(tmp_path)}) as site:
        client = await site.open()  # In TLS 1.3 it is over for the client before the server has seen its last flight.
        with pytest.raises((ssl.SSLError, ConnectionResetError), match=r"CERTIFICATE_REQUIRED|certificate required"):
            await client.receive_some()
        await until(lambda: not site.rig.state.connections)
        assert app.calls == []
    assert "TLS handshake failed: PEER_DID_NOT_RETURN_A_CERTIFICATE" in caplog.text


# What is no TLS, or not good.


@pytest.mark.parametrize("data", [request(), b"G", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=["GET", "G", "HTTP/2"])
async def test_plain_http_gets_an_answer_that_can_be_read(data: bytes, sites: Sites) -> None:
    async with sites() as site:
        client = site.connect()
        await client.send_raw(data)
        answer = b""
        while part := await asyncio.get_running_loop().sock_recv(client.sock, 4096):
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 400 Bad Request"
        assert b"content-length: %d" % len(body) in lines
        assert b"https://" in body
        await client.send_raw(b"more")  # It is dropped, and does not reset the connection.
        await turns()
        assert site.rig.refused == [(400, "plain HTTP was sent to a TLS port")]
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: not site.rig.state.connections)


async def test_who_goes_on_sending_plain_http_is_cut_off(sites: Sites) -> None:
    async with sites() as site:
        client = site.connect()
        await client.send_raw(request())
        await until(lambda: site.rig.refused)
        await site.rig.pass_time(2.5)
        await until(lambda: not site.rig.state.connections)


@pytest.mark.parametrize("data", [b"\x80\x2e\x01", b"\0", b"\xff" * 100], ids=["SSL 2", "zero", "noise"])
async def test_what_is_neither_tls_nor_http_is_cut_off(data: bytes, sites: Sites) -> None:
    async with sites() as site:
        client = site.connect()
        await client.send_raw(data)
        assert await client.is_closed()
        await until(lambda: not site.rig.state.connections)
        assert site.rig.refused == [(400, "something that is not TLS was sent to a TLS port")]


async def test_a_client_that_does_not_trust_the_certificate_is_told_of_in_the_log(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with sites() as site:
        client = site.connect(ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.shake_hands()
        await client._flush()
        await until(lambda: not site.rig.state.connections)
    assert "TLS handshake failed: " in caplog.text
    assert "ALERT_UNKNOWN_CA" in caplog.text


async def test_a_record_that_was_changed_on_its_way_ends_the_connection(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = PlayedApp()
    async with sites(app) as site:
        client = await site.open()
        record = bytearray(client.encrypt(request()))
        record[-1] ^= 1
        await client.send_raw(bytes(record))
        await until(lambda: not site.rig.state.connections)
        assert app.calls == []
    assert "TLS failed: DECRYPTION_FAILED_OR_BAD_RECORD_MAC" in caplog.text


async def test_a_handshake_that_ends_early_leaves_nothing(sites: Sites) -> None:
    async with sites() as site:
        for sent in (0, 1, 50):
            client = site.connect()
            await client.send_raw(client.hello()[:sent])
            await until(lambda: site.rig.state.connections)
            client.sock.close()
            await until(lambda: not site.rig.state.connections)


@pytest.mark.parametrize("sent", [0, 1, 50], ids=str)
async def test_a_handshake_has_a_deadline(sent: int, sites: Sites) -> None:
    async with sites() as site:
        client = site.connect()
        await client.send_raw(client.hello()[:sent])
        await until(lambda: site.rig.state.connections)
        await site.rig.pass_time(HANDSHAKE_S - 1)
        assert site.rig.state.connections
        await site.rig.pass_time(1.5)
        assert await client.is_closed()
        await until(lambda: not site.rig.state.connections)


async def test_the_deadline_of_the_handshake_ends_with_it(sites: Sites) -> None:
    async with sites(timeout_keep_alive=60) as site:
        client = await site.open()
        await client.send(request())
        await client.receive_until(b"\r\n\r\n")
        await site.rig.pass_time(HANDSHAKE_S + 1)
        await client.send(request())
        await client.receive_until(b"\r\n\r\n")


async def test_a_new_certificate_is_used_by_the_next_handshake(sites: Sites, tmp_path: Path) -> None:
    async with sites() as site:
        first = await site.open()
        (tmp_path / "server.pem").write_bytes(issue("renewed.example").cert_chain_pems[0].bytes())
        (tmp_path / "server.key").write_bytes(issue("renewed.example").private_key_pem.bytes())
        site.certificates.reload()
        context = client_context()
        context.check_hostname = False
        second = await site.open(context)
        for client, name in ((first, "localhost"), (second, "renewed.example")):
            certificate = client.tls.getpeercert()
            assert certificate is not None
            assert ("DNS", name) in certificate["subjectAltName"]
            await client.send(request())
            await client.receive_until(b"\r\n\r\n")


# The end.


async def test_a_client_that_ends_its_side_gets_its_answer(sites: Sites, version: int) -> None:
    app = PlayedApp()
    async with sites(app, tls={"version": version}) as site:
        client = await site.open()
        await client.send(request())
        await client.end()
        await until(lambda: app.calls)
        assert (await app.calls[0].receive())["type"] == "http.request"
        assert (await app.calls[0].receive())["type"] == "http.disconnect"
        await app.calls[0].respond(b"still here")
        assert (await client.receive_all()).endswith(b"still here")
        assert await client.is_closed()


async def test_the_end_may_come_without_notice(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        client = await site.open()
        await client.send(request())
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: app.calls)
        await app.calls[0].respond(b"still here")
        assert (await client.receive_all()).endswith(b"still here")


async def test_a_last_response_ends_with_notice(sites: Sites, version: int) -> None:
    async with sites(tls={"version": version}) as site:
        client = await site.open()
        await client.send(request("/", "connection: close"))
        await client.receive_all()
        assert client.is_told
        assert await client.is_closed()
        await until(lambda: not site.rig.state.connections)


async def test_a_response_that_came_early_is_not_lost_while_the_client_sends(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        client = await site.open()
        await client.send(post(b"", length=1 << 24))
        await until(lambda: app.calls)
        await app.calls[0].respond(b"no, thanks", 413)
        for _ in range(20):
            await client.send(bytes(10_000))
        assert (await client.receive_all()).endswith(b"no, thanks")
        await client.end()
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: not site.rig.state.connections)


async def test_a_last_response_is_whole_for_a_client_that_ends_its_side_meanwhile(sites: Sites, version: int) -> None:
    app = PlayedApp()
    body = bytes(range(256)) * (8 << 12)
    async with sites(app, tls={"version": version}) as site:
        send_buffer(site.listening, 128 * 1024)
        client = await site.open()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        await client.send(post(b"some", length=1 << 24))
        await until(lambda: app.calls)
        responding = asyncio.ensure_future(app.calls[0].respond(body, 413))
        await turns()
        await client.send(bytes(10_000))
        await client.end()
        await turns(100)
        assert (await client.receive_all()).partition(b"\r\n\r\n")[2] == body
        assert await client.is_closed()
        await responding


async def test_an_idle_connection_is_closed_with_notice(sites: Sites) -> None:
    async with sites(timeout_keep_alive=2) as site:
        client = await site.open()
        await client.send(request())
        await client.receive_until(b"\r\n\r\n")
        await site.rig.pass_time(3)
        assert await client.receive_all() == b""
        assert await client.is_closed()


async def test_a_client_that_goes_away_is_noticed(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        client = await site.open()
        await client.send(request())
        await until(lambda: app.calls)
        await app.calls[0].receive()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sock.close()
        assert (await app.calls[0].receive())["type"] == "http.disconnect"
        await until(lambda: not site.rig.state.connections)
        with pytest.raises(ClientDisconnected):
            await app.calls[0].start()
        app.calls[0].end()


# Back-pressure.


async def test_sending_waits_for_the_client(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        send_buffer(site.listening, 128 * 1024)
        client = await site.open()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        await client.send(request())
        await until(lambda: app.calls)
        call = app.calls[0]
        await call.start(headers=[(b"content-length", b"%d" % (4 << 20))])
        parts = 0

        async def send_parts() -> None:
            nonlocal parts
            for _ in range(16):
                await call.body(bytes(256 * 1024), more=True)
                parts += 1
            call.end()

        sending = asyncio.ensure_future(send_parts())
        await turns(200)
        assert parts < 8, "it waits"
        before = parts
        await turns(200)
        assert parts == before
        await client.receive_until(b"\r\n\r\n")
        while len(client.received) < 4 << 20:
            assert await client.receive_some()
        await sending


async def test_a_client_that_takes_nothing_is_cut_off(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app, timeout_write=3) as site:
        client = await site.open()
        await client.send(request())
        await until(lambda: app.calls)
        await app.calls[0].start()
        sending = asyncio.ensure_future(app.calls[0].body(bytes(32 << 20), more=True))
        await turns(100)
        assert not sending.done()
        await site.rig.pass_time(4)
        with pytest.raises(ClientDisconnected):
            await sending
        app.calls[0].end()


async def test_reading_pauses_while_the_application_takes_nothing(sites: Sites) -> None:
    app = PlayedApp()
    async with sites(app) as site:
        client = await site.open()
        size = 32 << 20
        sending = asyncio.ensure_future(client.send(post(b"", length=size)))
        await sending
        sending = asyncio.ensure_future(client.send(bytes(size)))
        await until(lambda: app.calls)
        await turns(300)
        assert not sending.done(), "the kernel takes less than that"
        received = 0
        while received < size:
            message = await app.calls[0].receive()
            received += len(message["body"])
            assert len(message["body"]) <= 512 * 1024
        await sending
        await app.calls[0].respond()
        await client.receive_until(b"ok")


# Limits and drain.


async def test_handshakes_count_as_connections(sites: Sites) -> None:
    async with sites(limit_connections=1) as site:
        first = site.connect()
        await until(lambda: site.rig.state.connections)
        second = site.connect()
        await turns(50)
        assert len(site.rig.state.connections) == 1
        await first.shake_hands()
        await first.send(request("/", "connection: close"))
        await first.receive_all()
        await second.shake_hands()


async def test_who_has_sent_nothing_makes_room_and_who_has_begun_a_handshake_does_not(sites: Sites) -> None:
    async with sites() as site:
        site.connect()
        begun = site.connect()
        await begun.send_raw(begun.hello())
        await until(lambda: len(site.rig.state.connections) == 2)
        await turns(50)
        crowd = Crowd(site.rig.state, lambda is_full: None)
        await site.rig.pass_time(2)
        for _ in range(2):
            make_room(crowd)
        await until(lambda: len(site.rig.state.connections) == 1)
        await begun.shake_hands()
        await until(lambda: isinstance(next(iter(site.rig.state.connections)), Connection))
        make_room(crowd)
        await turns(50)
        await begun.send(request())
        assert b"connection: close" in await begun.receive_all(), "it is not idle from before the handshake"


async def test_one_who_sends_without_end_waits_once_the_connection_below_is_lost(sites: Sites) -> None:
    clients: list[TlsClient] = []
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(20_000), "more_body": True})
        clients[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        clients[0].sock.close()
        try:
            for number in range(10_000):  # The event loop does not turn while nothing has to be waited for.
                sent.append(number)
                await send({"type": "http.response.body", "body": bytes(20_000), "more_body": True})
        except ClientDisconnected:
            sent.append(-1)

    async with sites(app) as site:
        clients.append(await site.open())
        await clients[0].send(request())
        await until(lambda: sent and sent[-1] == -1)
        assert len(sent) < 1000


@pytest.mark.parametrize("cuts_heads", [True, False], ids=["the server stops", "the worker is replaced"])
async def test_a_handshake_may_be_followed_by_a_last_request_when_the_worker_stops(
    cuts_heads: bool, sites: Sites
) -> None:
    async with sites() as site:
        client = site.connect()
        await client.send_raw(client.hello())
        await until(lambda: site.rig.state.connections)
        site.rig.state.keeps_connections = False
        site.rig.state.idle_s = 0.25
        for connection in list(site.rig.state.connections):
            connection.drain(cuts_heads=cuts_heads)
        await client.shake_hands()
        await client.send(request())
        assert b"connection: close" in await client.receive_all()
        await site.rig.pass_time(3)
        await until(lambda: not site.rig.state.connections)


async def test_a_handshake_that_does_not_go_on_ends_when_the_worker_stops(sites: Sites) -> None:
    async with sites() as site:
        site.connect()
        await until(lambda: site.rig.state.connections)
        site.rig.state.idle_s = 0.25
        for connection in list(site.rig.state.connections):
            connection.drain(cuts_heads=True)
        waiting = asyncio.ensure_future(site.rig.state.wait_no_connections())
        await site.rig.pass_time(2)
        await waiting
