"""The applications that are served. None of them knows which server it runs on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_BODY = b'{"message":"Hello, World!"}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """A constant JSON answer: what the server alone costs."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(dict(_START))
    await send({"type": "http.response.body", "body": _BODY})


def _fastapi() -> Any:
    from fastapi import FastAPI

    api = FastAPI()

    @api.get("/")
    async def read() -> dict[str, str]:
        return {"message": "Hello, World!"}

    return api


def __getattr__(name: str) -> Any:
    # FastAPI is imported only for who serves it.
    if name == "fastapi_json":
        return _fastapi()
    raise AttributeError(name)
