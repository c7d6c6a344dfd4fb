"""WebSocket over TLS, with a client of another project."""

from __future__ import annotations

from pathlib import Path

from websockets.sync.client import connect

from tests.certificates import client_context, flags, write_pair

from .running import Start

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    text = scope["scheme"] + " " + hex(scope["extensions"]["tls"]["tls_version"])
    await send({"type": "websocket.send", "text": text})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})
"""


def test_a_websocket_is_opened_over_tls(start: Start, folder: Path) -> None:
    (folder / "sockets.py").write_text(APP)
    server = start("sockets:app", "--port", "0", *flags(write_pair(folder))).wait_ready()
    with connect(f"wss://localhost:{server.address[1]}/", ssl=client_context(), proxy=None) as client:
        assert client.recv() == "wss 0x304"
        for size in (0, 1, 100_000, 900_000):
            client.send(bytes(size))
            assert client.recv() == bytes(size)
    assert server.stop() == 0
