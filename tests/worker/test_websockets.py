"""WebSockets of a whole server on real sockets, with another implementation as the client, in both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import PlainTextResponse

from fastserve.net import transports
from fastserve.settings import Settings
from fastserve.worker.server import Server

pytest.importorskip("websockets")
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.usefixtures("loop_factory", "own_logging", "kind")


@pytest.fixture(params=["loop", "native"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one kind of transports used."""
    if request.param == "loop":
        monkeypatch.setattr(transports, "new_native", None)
    elif transports.new_native is None:
        pytest.skip("the native transport is not built")


def new_app() -> tuple[FastAPI, list[WebSocketDisconnect]]:
    """Return an application, and where it keeps how its WebSockets have ended."""
    api = FastAPI()
    ended: list[WebSocketDisconnect] = []

    @api.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
        try:
            while True:
                message = await websocket.receive()
                websocket._raise_on_disconnect(message)
                if message.get("text") is not None:
                    await websocket.send_text(message["text"])
                else:
                    await websocket.send_bytes(message["bytes"])
        except WebSocketDisconnect as error:
            ended.append(error)

    @api.websocket("/fail")
    async def fail(websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError("on purpose")

    @api.websocket("/deny")
    async def deny(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("members only", status_code=401))

    return api, ended


class Site:
    """A server that runs, and how the WebSockets of its application have ended."""

    def __init__(self, server: Server, port: int, ended: list[WebSocketDisconnect]) -> None:
        self.server = server
        self.port = port
        self.ended = ended

    def connect(self, path: str = "/echo", **more: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **more)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Site]:
    app, ended = new_app()
    ready = asyncio.Event()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        settings = Settings.from_options({"access_log": False, **options})
        server = Server(app, settings, [sock], None, on_ready=ready.set, on_worn=lambda reason: None)
        end = asyncio.ensure_future(server.run())
        await ready.wait()
        try:
            yield Site(server, sock.getsockname()[1], ended)
        finally:
            server.stop()
            await end


async def echoed(client: ClientConnection, content: str | bytes) -> str | bytes:
    await client.send(content)
    return await client.recv()


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_of_all_sizes_come_back(compression: str | None) -> None:
    async with serving() as site, site.connect(compression=compression, max_size=None) as client:
        for size in (0, 1, 125, 126, 5_000, 65_535, 65_536, 1_000_000):
            content = ("0123456789abcdeé" * (size // 16 + 1))[:size]
            assert await echoed(client, content) == content
            assert await echoed(client, content.encode()) == content.encode()


async def test_many_messages_in_flight_come_back_in_order() -> None:
    async with serving() as site, site.connect() as client:

        async def send_all() -> None:
            for number in range(500):
                await client.send(f"{number}" * 200)

        sending = asyncio.ensure_future(send_all())
        for number in range(500):
            assert await client.recv() == f"{number}" * 200
        await sending


async def test_code_and_reason_of_the_client_are_passed_on_and_answered() -> None:
    async with serving() as site:
        async with site.connect(subprotocols=["other", "chat"]) as client:
            assert client.subprotocol == "chat"
            await client.close(4321, "enough")
            assert client.close_code == 4321
        async with site.connect() as client:
            client.transport.abort()
        while len(site.ended) < 2:
            await asyncio.sleep(0)
        assert [(error.code, error.reason) for error in site.ended] == [(4321, "enough"), (1006, "")]


async def test_an_application_that_fails_is_1011_and_a_denial_is_a_response() -> None:
    async with serving() as site:
        async with site.connect("/fail") as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1011
        with pytest.raises(InvalidStatus) as caught:
            await site.connect("/deny")
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b"members only"
        with pytest.raises(InvalidStatus) as caught:
            await site.connect("/missing")
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize("size", [1001, 300_000])
async def test_a_message_that_is_too_big_is_1009(size: int) -> None:
    async with serving(ws_max_size=1000) as site, site.connect(compression=None) as client:
        await client.send(b"x" * size)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009


async def test_a_server_that_stops_closes_with_1012() -> None:
    async with serving() as site, site.connect() as client:
        assert await echoed(client, "x") == "x"
        site.server.stop()
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1012


async def test_handshakes_are_logged_as_uvicorn_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(access_log=True) as site:
        async with site.connect("/echo?x=1"):
            pass
        with pytest.raises(InvalidStatus):
            await site.connect("/missing")
        with pytest.raises(InvalidStatus):
            await site.connect("/deny")
    lines = [line.getMessage().rpartition(" - ")[2] for line in caplog.records if line.name == "fastserve"]
    assert [line for line in lines if line.startswith(('"WebSocket', "connection"))] == [
        '"WebSocket /echo?x=1" [accepted]',
        "connection open",
        "connection closed",
        '"WebSocket /missing" 403',
        "connection rejected (403 Forbidden)",
        '"WebSocket /deny" 401',
        "connection rejected (401 Unauthorized)",
    ]


async def test_without_the_access_log_websockets_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving() as site, site.connect():
        pass
    assert not [text for line in caplog.records if (text := line.getMessage()).startswith("connection")]
