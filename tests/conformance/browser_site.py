"""A page that opens WebSockets and an event stream, what it talks to, and what it has seen (ASGI application).

seen.jsonl has a line for each step of the page, and for each WebSocket that the browser closed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAGE = Path(__file__).with_name("browser_page.html").read_bytes()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
    elif scope["type"] == "websocket":
        await converse(scope, receive, send)
    elif scope["path"] == "/":
        await answer(send, b"text/html", PAGE)
    elif scope["path"] == "/events":
        await tell_events(scope, receive, send)
    elif scope["path"].startswith("/seen/"):
        note(scope["path"].removeprefix("/seen/"), json.loads(await read(receive)))
        await answer(send, b"text/plain", b"")
    else:
        await answer(send, b"text/plain", b"", status=404)


def note(step: str, seen: object) -> None:
    """Write down what was seen."""
    with Path("seen.jsonl").open("a") as file:
        file.write(json.dumps([step, seen]) + "\n")


async def converse(scope: Scope, receive: Receive, send: Send) -> None:
    """Do with a WebSocket what its path says."""
    await receive()
    if scope["path"] == "/denies":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": "chat" if "chat" in scope["subprotocols"] else None})
    if scope["path"] == "/closes":
        await send({"type": "websocket.close", "code": 4002, "reason": "weil es Zeit ist"})
    elif scope["path"] == "/raises":
        raise RuntimeError("on purpose")
    elif scope["path"] == "/echo":
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        note("disconnect", [message["code"], message["reason"]])


async def tell_events(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell who answers, and which event the browser has seen last, again and again."""
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    last = dict(scope["headers"]).get(b"last-event-id", b"").decode()
    number = int(last or 0)
    while True:
        number += 1
        data = json.dumps({"pid": os.getpid(), "last": last})
        event = f"retry: 100\nid: {number}\ndata: {data}\n\n"
        await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await asyncio.sleep(0.1)


async def answer(send: Send, kind: bytes, body: bytes, status: int = 200) -> None:
    """Send a response."""
    fields = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Return the body of a request."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
