"""The application of the process tests. It runs in a folder of its own, where it leaves files for the test to see.

life.txt has a line for each start and end of a process, and for each request that was cancelled. A path that waits is
called with a name as its query: it makes a file NAME.reached, and waits for a file NAME.open.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PART = bytes(64 * 1024)
FOREVER_S = 3600


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Serve one connection (ASGI)."""
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(scope, receive, send)
    else:
        await PATHS.get(scope["path"], missing)(scope, receive, send)


async def live(receive: Receive, send: Send) -> None:
    """Write down the start and the end."""
    while True:
        event = (await receive())["type"]
        write_down(event.removeprefix("lifespan."))
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def echo_messages(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Accept a WebSocket, say where it is from, and send messages back."""
    await receive()
    await send({"type": "websocket.accept"})
    shown = {name: scope[name] for name in ("client", "scheme")}
    await send({"type": "websocket.send", "text": json.dumps(shown)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


def write_down(what: str) -> None:
    """Add a line to life.txt."""
    with Path("life.txt").open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


async def answer(send: Send, body: bytes, status: int = 200, kind: bytes = b"text/plain") -> None:
    """Send a whole response."""
    fields = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, content: object) -> None:
    """Send a whole response."""
    await answer(send, json.dumps(content).encode(), kind=b"application/json")


async def missing(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await answer(send, b"missing", 404)


async def hello(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await answer(send, b"hello")


async def pid(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % os.getpid())


async def body_parts(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, as far as it does."""
    while (message := await receive())["type"] == "http.request":
        yield message["body"]
        if not message["more_body"]:
            return


async def echo(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Send the body back."""
    await answer(send, b"".join([part async for part in body_parts(receive)]))


async def show_scope(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Send what a server knows of a request."""
    names = ("client", "server", "scheme", "http_version", "method", "root_path", "path")
    shown = {name: scope[name] for name in names}
    shown["query_string"] = scope["query_string"].decode()
    await answer_json(send, shown)


async def swallow(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Take a body slower than it arrives, and tell how large it and its largest part were."""
    size = largest = 0
    async for part in body_parts(receive):
        size += len(part)
        largest = max(largest, len(part))
        await asyncio.sleep(0.0005)
    await answer_json(send, {"size": size, "largest": largest})


async def parts(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Send so many parts, without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["query_string"])):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    await send({"type": "http.response.body"})


def reach(scope: MutableMapping[str, Any]) -> Path:
    """Tell that a request has come, and return what opens the gate."""
    name = scope["query_string"].decode()
    Path(f"{name}.reached").touch()
    return Path(f"{name}.open")


async def gate(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Wait until the test lets it answer."""
    opened = reach(scope)
    try:
        while not opened.exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        write_down("cancelled")
        raise
    await answer(send, b"through")


async def stubborn(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Wait, also when cancelled."""
    opened = reach(scope)
    while not opened.exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            write_down("cancelled")


async def block(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Block the event loop."""
    reach(scope)
    time.sleep(FOREVER_S)


async def thread(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Wait for a thread that does not end."""
    reach(scope)
    await asyncio.to_thread(time.sleep, FOREVER_S)


async def leave_thread(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Start a thread that does not end, and answer."""
    threading.Thread(target=time.sleep, args=(FOREVER_S,), name="left-behind").start()
    await answer(send, b"started")


async def leave(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """End the process, with everything in it."""
    os._exit(7)


_KEPT: list[bytes] = []


async def grow(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Take so many MiB of memory, for ever."""
    _KEPT.append(b"x" * (int(scope["query_string"]) << 20))
    await answer(send, b"grown")


async def fail(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Raise an exception."""
    raise RuntimeError("the application failed on purpose")


PATHS: dict[str, Handler] = {
    "/": hello,
    "/pid": pid,
    "/echo": echo,
    "/scope": show_scope,
    "/swallow": swallow,
    "/parts": parts,
    "/gate": gate,
    "/stubborn": stubborn,
    "/block": block,
    "/thread": thread,
    "/leave-thread": leave_thread,
    "/leave": leave,
    "/grow": grow,
    "/fail": fail,
}
