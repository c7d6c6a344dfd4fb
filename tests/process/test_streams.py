"""Streams from outside: many clients at a time, slow ones, and those that go away."""

from __future__ import annotations

import contextlib
import resource
import socket
from pathlib import Path

import pytest

from .running import RunningServer, Start, life, new_client, wait_until

APP = """
import asyncio, os
from pathlib import Path

open_streams = 0
ticks = None

async def app(scope, receive, send):
    global open_streams
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    if scope["path"] == "/open":
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body", "body": b"%d" % open_streams})
    open_streams += 1
    try:
        if scope["path"] == "/events":
            await events(receive, send)
        elif scope["path"] == "/flood":
            await flood(send)
        elif scope["path"] == "/stuck":
            await stuck()
    finally:
        open_streams -= 1

async def events(receive, send):
    await receive()
    gone = asyncio.create_task(receive())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: hello\\\\n\\\\n", "more_body": True})
    assert (await gone)["type"] == "http.disconnect"

async def flood(send):
    await send({"type": "http.response.start", "status": 200})
    while True:
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

async def stuck():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        with open("life.txt", "a") as file:
            file.write("cancelled\\\\n")
        raise
""".replace("\\\\", "\\")

GET = "GET {} HTTP/1.1\r\nHost: test\r\n\r\n"
CLIENTS = 1000


def connect(server: RunningServer, path: str) -> socket.socket:
    sock = socket.create_connection(server.address)
    sock.settimeout(30)
    sock.sendall(GET.format(path).encode())
    return sock


def open_streams(server: RunningServer) -> int:
    with new_client(server) as client:
        return int(client.get("/open").text)


@pytest.fixture
def streams(folder: Path) -> str:
    (folder / "streams.py").write_text(APP)
    return "streams:app"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_thousand_event_streams_are_held_and_their_ends_noticed(loop: str, streams: str, start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CLIENTS + 200:
        pytest.skip("not enough descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CLIENTS + 200), hard))
    server = start(streams, "--port", "0", "--loop", loop, "--no-access-log").wait_ready()
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(connect(server, "/events"))
        wait_until(lambda: open_streams(server) == CLIENTS)
    wait_until(lambda: open_streams(server) == 0)
    assert server.stop() == 0


def test_memory_stays_flat_while_clients_take_nothing(streams: str, start: Start) -> None:
    server = start(streams, "--port", "0", "--no-access-log").wait_ready()
    with contextlib.ExitStack() as stack:
        stack.enter_context(connect(server, "/flood"))
        wait_until(lambda: open_streams(server) == 1)
        before = server.process.memory_info().rss
        for _ in range(49):
            stack.enter_context(connect(server, "/flood"))
        wait_until(lambda: open_streams(server) == 50)
        grown = server.process.memory_info().rss - before
        assert grown < 50 * 512 * 1024, "beyond what may be unsent, nothing is kept"
    wait_until(lambda: open_streams(server) == 0)


def test_a_request_is_cancelled_when_its_client_has_gone(streams: str, start: Start, folder: Path) -> None:
    server = start(streams, "--port", "0", "--cancel-on-disconnect", "0.2").wait_ready()
    with connect(server, "/stuck"):
        wait_until(lambda: open_streams(server) == 1)
        assert "cancelled" not in life(folder)
    wait_until(lambda: "cancelled" in life(folder))
    assert open_streams(server) == 0
    assert "Traceback" not in server.log
    assert server.stop() == 0
