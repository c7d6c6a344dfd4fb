"""The parts of a request, each as a function that does it so many times and returns the seconds that it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from bench.apps import plain
from bench.instructions import NoTransport, new_state
from bench.load import BROWSER
from fastserve.asgi.scope import ScopeBuilder
from fastserve.net.connection import Connection
from fastserve.net.stream import Stream
from fastserve.settings import RequestLimits
from fastserve.wire.events import RequestHead
from fastserve.wire.http1.head import HeadReader
from fastserve.wire.http1.parsers import fields_parser
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults, ResponseEncoder

Timed = Callable[[int], float]
"""Does something so many times, and returns the seconds."""

_HOST = "Host: 127.0.0.1:8000"


def _request(line: str, fields: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    return "".join(f"{part}\r\n" for part in (line, _HOST, *fields, "")).encode() + body


_BODY = b'{"name": "A thing", "price": 12.5}'
REQUESTS = {
    "wrk": _request("GET / HTTP/1.1"),
    "browser": _request("GET /items/42?q=some+words&limit=20 HTTP/1.1", BROWSER),
    "json": _request(
        "POST /items HTTP/1.1", ("Content-Type: application/json", f"Content-Length: {len(_BODY)}"), _BODY
    ),
}
"""What clients send, by who sends it."""


def cases() -> Iterator[tuple[str, Timed]]:
    """Yield what is measured, each with its name."""
    for name, request in REQUESTS.items():
        # Two requests in turn, which differ in a field: else the wire would know the field section from the one before.
        other = request.replace(b"127.0.0.1:8000", b"127.0.0.1:8001")
        yield f"head by the own reader, {name}", _reading("own", request, other)
        yield f"head by httptools, {name}", _reading("httptools", request, other)
        yield f"head by h11, {name}", _reading("h11", request, other)
        yield f"head as before, {name}", _reading("own", request, request)
    yield "scope", _building_scopes()
    yield "response in one part", _encoding([b'{"message":"Hello, World!"}'], length=27)
    yield "response of 20 chunks", _encoding([b"data: 0123456789abcdef\n\n"] * 20, length=None)
    for name, request in REQUESTS.items():
        yield f"whole request, {name}", _answering(request)


def _reading(parser: str, *requests: bytes) -> Timed:
    limits = RequestLimits()
    reader = HeadReader(limits) if parser == "own" else None
    library = fields_parser("httptools" if parser == "own" else parser)
    wire = Http1(library, limits, ResponseDefaults(server=None, date=False), reader)

    def read(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            for request in requests:
                wire.receive_data(request)
                while not wire.is_complete:
                    assert wire.next_event() is not None
                wire.start_next_message()
        return (time.perf_counter() - began) / len(requests)

    return read


def _building_scopes() -> Timed:
    builder = ScopeBuilder("")
    stream = Stream()
    stream.client, stream.server = ("127.0.0.1", 50000), ("127.0.0.1", 8000)
    fields = [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*")]
    head = RequestHead("GET", b"/items/42", b"q=some+words", "1.1", None, fields)

    def build(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            builder.build(head, stream)
        return time.perf_counter() - began

    return build


def _encoding(parts: list[bytes], length: int | None) -> Timed:
    defaults = ResponseDefaults(server=b"fastserve", date=True)
    defaults.refresh(0)
    encoder = ResponseEncoder(defaults)
    head = RequestHead("GET", b"/", b"", "1.1", None, [])
    fields = [(b"content-type", b"application/json")]
    if length is not None:
        fields.append((b"content-length", b"%d" % length))

    def encode(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            encoder.begin(head)
            encoder.start(200, fields)
            for part in parts[:-1]:
                encoder.encode_body(part, last=False)
            encoder.encode_body(parts[-1], last=True)
        return time.perf_counter() - began

    return encode


def _answering(request: bytes) -> Timed:
    async def answer(count: int) -> float:
        connection = Connection(new_state(asyncio.get_running_loop(), plain))
        transport = NoTransport()
        connection.connection_made(cast(Any, transport))
        began = time.perf_counter()
        for done in range(1, count + 1):
            connection.data_received(request)
            while transport.written < done:
                await asyncio.sleep(0)
        return time.perf_counter() - began

    return lambda count: asyncio.run(answer(count))
