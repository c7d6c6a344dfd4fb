"""How many instructions a request costs, and where. Counted by callgrind, so the same on a busy machine.

    python -m bench.instructions [--top 30] [--fields browser|websocket]

A request is read by a connection, answered by a minimal application and written to a transport that keeps nothing:
what the kernel and the event loop do is not in these figures. With `websocket` it is a message of 32 bytes that is sent
back. Needs valgrind, and the compiled build.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from bench.apps import echo, plain
from bench.load import BROWSER
from fastserve.asgi.application import Application
from fastserve.asgi.metrics import Metrics
from fastserve.asgi.scope import ScopeBuilder
from fastserve.asgi.sessions import Sessions
from fastserve.net.connection import Connection
from fastserve.net.deadlines import Deadlines
from fastserve.net.state import ServerState
from fastserve.settings import Settings
from fastserve.wire.http1.parsers import fields_parser, head_reader
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults

CONNECTIONS = 64
ROUNDS = 40
_COLLECTED = "__pyx_pw_*Connection_*data_received"
_LINE = re.compile(r"^ *([0-9,]+) .*?__pyx_(?:f|pw)_(9fastserve_\S+)")
_HANDSHAKE = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
_LENGTH = re.compile(r"[0-9]+")


class NoTransport:
    """A transport that counts what is written to it."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        """Count."""
        self.written += 1

    def get_extra_info(self, name: str) -> Any:
        """Return an address."""
        return ("127.0.0.1", 50000)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""


def new_state(loop: asyncio.AbstractEventLoop) -> ServerState:
    """Return what connections need, as a worker makes it."""
    settings = Settings.from_options({"app": "bench.apps:plain"})
    defaults = ResponseDefaults(server=b"fastserve", date=True)
    defaults.refresh(int(time.time()))
    parser, reader = fields_parser("auto"), head_reader("auto", settings.requests)
    scopes = ScopeBuilder("")
    application = Application(cast(Any, plain), scopes, loop=loop, concurrency=None, observers=[Metrics().count])
    sessions = Sessions(cast(Any, echo), application, scopes, settings.websockets, settings.connections, loop=loop)
    application.open_session = sessions.open
    return ServerState(
        loop=loop,
        timeouts=settings.timeouts,
        limits=settings.connections,
        deadlines=Deadlines(loop.time()),
        new_wire=lambda: Http1(parser, settings.requests, defaults, reader),
        open_exchange=application.open_exchange,
        log_refusal=lambda client, violation: None,
    )


async def answer_requests(fields: str) -> None:
    """Have each connection answer a number of requests."""
    lines = ("Host: 127.0.0.1:8000", *(BROWSER if fields == "browser" else ()))
    request = "".join(f"{line}\r\n" for line in ("GET / HTTP/1.1", *lines, "")).encode()
    state = new_state(asyncio.get_running_loop())
    connections = [Connection(state) for _ in range(CONNECTIONS)]
    transports = [NoTransport() for _ in connections]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(transport)  # type: ignore[arg-type]
    for _ in range(ROUNDS):
        for connection in connections:
            connection.data_received(request)
    assert {transport.written for transport in transports} == {ROUNDS}


async def answer_messages() -> None:
    """Have each connection send a number of messages back."""
    lines = ("GET / HTTP/1.1", "Host: 127.0.0.1:8000", "Upgrade: websocket", "Connection: Upgrade", *_HANDSHAKE, "", "")
    loop = asyncio.get_running_loop()
    state = new_state(loop)
    connections = [Connection(state) for _ in range(CONNECTIONS)]
    transports = [NoTransport() for _ in connections]
    payload = bytes(byte ^ b"mask"[at % 4] for at, byte in enumerate(b"x" * 32))
    # As from a transport, whose calls are no task's.
    done = loop.create_future()

    def send() -> None:
        for connection, transport in zip(connections, transports, strict=True):
            connection.connection_made(transport)  # type: ignore[arg-type]
            connection.data_received("\r\n".join(lines).encode())
        loop.call_soon(send_messages)

    def send_messages() -> None:
        for _ in range(ROUNDS):
            for connection in connections:
                connection.data_received(b"\x81\xa0mask" + payload)
        done.set_result(None)

    loop.call_soon(send)
    await done
    assert {transport.written for transport in transports} == {ROUNDS + 1}


def readable(mangled: str) -> str:
    """Return the name of a function from that which Cython gives it in C: parts with their lengths, then the rest."""
    parts = []
    rest = mangled
    while match := _LENGTH.match(rest):
        rest = rest[match.end() :]
        part, after = rest[: int(match[0])], rest[int(match[0]) :]
        if not after.startswith("_"):
            break  # It is the number of a method, not a length.
        parts.append(part)
        rest = after[1:]
    return ".".join((*parts[1:], rest))


def count(fields: str) -> Iterator[tuple[str, int]]:
    """Yield functions of the hot path with the instructions for a request, theirs and of what they call."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        program = [sys.executable, "-m", "bench.instructions", "--answer", fields]
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no"]
        subprocess.run([*valgrind, f"--toggle-collect={_COLLECTED}", *program], check=True, stderr=subprocess.PIPE)
        annotate = ["callgrind_annotate", "--auto=no", "--inclusive=yes", "--threshold=100", str(out)]
        text = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    most: dict[str, int] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            name = readable(match[2])
            most[name] = max(most.get(name, 0), int(match[1].replace(",", "")))
    for name, instructions in sorted(most.items(), key=lambda item: -item[1]):
        yield name, instructions // (CONNECTIONS * ROUNDS)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--fields", choices=("few", "browser", "websocket"), default="few")
    parser.add_argument("--top", type=int, default=30, help="how many functions are shown")
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer is not None:
        asyncio.run(answer_messages() if options.answer == "websocket" else answer_requests(options.answer))
        return
    print("| function | instructions for a request |\n|---|---:|")
    for name, instructions in list(count(options.fields))[: options.top]:
        print(f"| {name} | {instructions:,} |")


if __name__ == "__main__":
    main()
