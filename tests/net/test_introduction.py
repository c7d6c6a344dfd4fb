"""Connections that begin with a PROXY header, on real sockets and both kinds of transports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastserve.addresses import AllowList
from fastserve.asgi.types import Receive, Scope, Send
from fastserve.net.crowd import Crowd
from fastserve.net.transports import transports_for
from tests.doubles import Rig, make_room, request, turns, until
from tests.net.serving import Client, unix_listener

pytestmark = pytest.mark.usefixtures("loop_factory", "kind")

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
LAST = "connection: close"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with both addresses."""
    body = f"{scope['client']} {scope['server']}".encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


class Place:
    """A worker's connections on one listening socket. allowed: who sends a header."""

    def __init__(self, listening: socket.socket, allowed: str, **options: Any) -> None:
        self.rig = Rig(app, **options)
        self.listening = listening
        self.transports = transports_for(self.rig.state, AllowList(allowed, "--proxy-allow-ips"))
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        sock = socket.socket(self.listening.family)
        sock.connect(self.listening.getsockname())
        self.clients.append(Client(sock))
        assert self.transports.accept(self.listening)
        await self.transports.wait_attached()
        await until(lambda: self.rig.state.coming == 0)
        return self.clients[-1]

    async def close(self) -> None:
        for client in self.clients:
            client.sock.close()
        await until(lambda: not self.rig.state.connections)
        self.transports.close()


@asynccontextmanager
async def placed(
    allowed: str = "127.0.0.1", listening: socket.socket | None = None, **options: Any
) -> AsyncIterator[Place]:
    with listening or socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        place = Place(listening, allowed, **options)
        try:
            yield place
        finally:
            await place.close()


def body(answer: bytes) -> str:
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    return answer.partition(b"\r\n\r\n")[2].decode()


INTRODUCED = "('192.0.2.7', 4711) ('192.0.2.1', 443)"


async def test_the_addresses_are_those_of_the_header() -> None:
    async with placed() as place:
        client = await place.connect()
        await client.send(V1 + request("/", LAST))
        assert body(await client.receive_all()) == INTRODUCED


async def test_a_header_may_come_in_parts_and_before_the_request() -> None:
    async with placed() as place:
        client = await place.connect()
        for part in (V1[:3], V1[3:-1], V1[-1:]):
            await client.send(part)
            await turns(20)
        await client.send(request())
        head = await client.receive(10)
        assert head == b"HTTP/1.1 2"
        assert len(place.rig.state.connections) == 1
        await client.send(request("/", LAST))
        assert INTRODUCED in (await client.receive_all()).decode()


async def test_a_proxy_that_speaks_for_itself_leaves_the_addresses_of_the_socket() -> None:
    async with placed() as place:
        client = await place.connect()
        await client.send(LOCAL + request("/", LAST))
        host, port = client.sock.getsockname()
        assert body(await client.receive_all()).startswith(f"('{host}', {port}) ('127.0.0.1', ")


async def test_connections_of_others_have_no_header() -> None:
    async with placed(allowed="192.0.2.0/24") as place:
        client = await place.connect()
        await client.send(request("/", LAST))
        assert "127.0.0.1" in body(await client.receive_all())


@pytest.mark.parametrize("header", [V1, LOCAL], ids=["v1", "v2"])
async def test_a_header_of_others_is_a_malformed_request(header: bytes) -> None:
    async with placed(allowed="192.0.2.0/24") as place:
        client = await place.connect()
        await client.send(header + request("/", LAST))
        assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")
        assert [status for status, _ in place.rig.refused] == [400]


async def test_a_unix_socket_may_be_introduced(tmp_path: Path) -> None:
    async with placed(allowed="unix", listening=unix_listener(tmp_path)) as place:
        client = await place.connect()
        await client.send(V1 + request("/", LAST))
        assert body(await client.receive_all()) == INTRODUCED


@pytest.mark.parametrize("data", [request(), b"PROXY TCP5 ", b"\r\n\r\n\0\r\nQUIT\n\x31"], ids=["HTTP", "v1", "v2"])
async def test_what_is_no_header_is_cut_without_an_answer(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with placed() as place:
        client = await place.connect()
        name = "{}:{}".format(*client.sock.getsockname())
        await client.send(data if data.startswith(b"GET") else data + b"\r\n" * 60)
        try:
            assert await client.receive_all() == b""
        except ConnectionResetError:
            pass
        await until(lambda: not place.rig.state.connections)
    assert f"{name} - connection cut: " in caplog.text


async def test_a_look_at_whether_anyone_is_listening_is_no_offence(caplog: pytest.LogCaptureFixture) -> None:
    async with placed() as place:
        client = await place.connect()
        client.end()
        assert await client.receive_all() == b""
        await until(lambda: not place.rig.state.connections)
    assert caplog.text == ""


@pytest.mark.parametrize(("data", "logs"), [(b"", 0), (b"PROXY ", 1)], ids=["nothing", "a part"])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(
    data: bytes, logs: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with placed(timeout_request_head=2) as place:
        client = await place.connect()
        await client.send(data)
        await turns(20)
        await place.rig.pass_time(1.75)
        assert len(place.rig.state.connections) == 1
        await place.rig.pass_time(0.5)
        await until(lambda: not place.rig.state.connections)
    assert caplog.text.count("the PROXY header did not arrive in time") == logs


async def test_the_time_for_the_request_begins_after_the_header() -> None:
    async with placed(timeout_request_head=2) as place:
        client = await place.connect()
        await place.rig.pass_time(1.5)
        await client.send(V1)
        await turns(20)
        await place.rig.pass_time(1.5)
        await client.send(request("/", LAST))
        assert body(await client.receive_all()) == INTRODUCED


async def test_who_has_sent_nothing_makes_room_and_who_has_begun_a_header_does_not() -> None:
    async with placed() as place:
        await place.connect()
        begun = await place.connect()
        await begun.send(b"PROXY ")
        await turns(20)
        crowd = Crowd(place.rig.state, lambda is_full: None)
        await place.rig.pass_time(2)
        for _ in range(2):
            make_room(crowd)
        await until(lambda: len(place.rig.state.connections) == 1)
        await turns(20)
        assert len(place.rig.state.connections) == 1


async def test_a_connection_counts_once_for_the_limit() -> None:
    async with placed(limit_connections=1) as place:
        client = await place.connect()
        assert not place.rig.state.has_space()
        spaces: list[bool] = []
        place.rig.state.when_space(lambda: spaces.append(place.rig.state.has_space()))
        await client.send(V1)
        await until(lambda: spaces)
        assert (spaces, place.rig.state.coming, len(place.rig.state.connections)) == ([False], 0, 1)


async def test_a_stop_waits_for_the_request_that_comes_with_the_header() -> None:
    async with placed() as place:
        client = await place.connect()
        place.rig.state.keeps_connections = False
        place.rig.state.idle_s = 1.0
        (introduction,) = place.rig.state.connections
        introduction.drain(cuts_heads=True)
        await client.send(V1 + request())
        answer = await client.receive_all()
        assert b"connection: close" in answer
        assert body(answer) == INTRODUCED


async def test_a_stop_does_not_wait_long_for_a_header_or_what_follows() -> None:
    async with placed() as place:
        silent, introduced = await place.connect(), await place.connect()
        place.rig.state.keeps_connections = False
        place.rig.state.idle_s = 1.0
        for each in list(place.rig.state.connections):
            each.drain(cuts_heads=True)
        await introduced.send(V1)
        await turns(20)
        await place.rig.pass_time(1.5)
        await until(lambda: not place.rig.state.connections)
        silent.sock.close()


async def test_a_connection_can_be_cut_before_its_header() -> None:
    async with placed() as place:
        await place.connect()
        (introduction,) = place.rig.state.connections
        introduction.cut()
        await until(lambda: not place.rig.state.connections)
        await asyncio.sleep(0)
