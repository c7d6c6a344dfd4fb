"""Applications of other interfaces than ASGI 3, from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import Start, new_client

WSGI = """
def app(environ, start_response):
    body = environ["wsgi.input"].read() + environ["PATH_INFO"].encode() + environ["wsgi.url_scheme"].encode()
    start_response("200 OK", [("content-type", "text/plain")])
    return [body[:3], body[3:]]
"""
ASGI2 = """
def app(scope):
    async def serve(receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        body = (await receive())["body"] + scope["path"].encode() + scope["scheme"].encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
    return serve
"""


@pytest.mark.parametrize(
    ("code", "options"),
    [(WSGI, ()), (WSGI, ("--interface", "wsgi")), (ASGI2, ()), (ASGI2, ("--interface", "asgi2"))],
    ids=["WSGI, found out", "WSGI, as said", "ASGI 2, found out", "ASGI 2, as said"],
)
def test_it_is_served(code: str, options: tuple[str, ...], start: Start, folder: Path) -> None:
    (folder / "other.py").write_text(code)
    server = start("other:app", "--port", "0", *options).wait_ready()
    with new_client(server) as client:
        for _ in range(3):
            assert client.post("/path", content=b"body").text == "body/pathhttp"
    assert server.stop() == 0
