"""The ASGI applications that are served. None of them knows which server it runs on. Those of FastAPI are in api.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MIB = 1024 * 1024
CHUNKS = 200
CHUNK = b"data: 0123456789abcdef0123456789abcdef0123456789abcdef\n\n"

_BODY = b'{"message":"Hello, World!"}'
_LARGE = b"x" * MIB


def _start(media_type: bytes, length: int | None) -> dict[str, Any]:
    headers = [(b"content-type", media_type)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


_START = _start(b"application/json", len(_BODY))


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """A constant JSON answer: what the server alone costs."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(dict(_START))
    await send({"type": "http.response.body", "body": _BODY})


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """A body of 1 MiB in one message."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(_start(b"application/octet-stream", MIB))
    await send({"type": "http.response.body", "body": _LARGE})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """A WebSocket that sends back what it receives."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive the request body, and tell its length."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    received = 0
    more = True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % received
    await send(_start(b"text/plain", len(body)))
    await send({"type": "http.response.body", "body": body})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Many small parts of a body whose length is not known ahead."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(_start(b"text/event-stream", None))
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
