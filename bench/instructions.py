"""How many instructions a request costs, and where. Counted by callgrind, so the same on a busy machine.

    python -m bench.instructions [--top 30] [--scenario json-browser]
    python -m bench.instructions --scenario fastapi-body [--accelerate off]
    python -m bench.instructions --scenario websocket

A request of the scenario is read by a connection, answered by its application and written to a transport that keeps
nothing: what the kernel does is not in these figures, nor is the event loop as long as the application does not wait.
What is counted is a run less another one of fewer rounds, so that starting costs nothing. Where the application waits
for threads, the loop and the threads are counted too, and the figures vary. With `websocket` it is a message of 32
bytes that is sent back. Needs valgrind, and the compiled build.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

from bench.apps import echo, plain
from bench.load import Wrk
from bench.scenarios import SCENARIOS, Scenario
from fastserve.accel import accelerate, entrance
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

CONNECTIONS = 32
ROUNDS = 60
FIRST_ROUNDS = 20  # those that are not counted
ANSWERED_S = 60.0
_TOTAL = re.compile(r"^ *([0-9,]+) .*PROGRAM TOTALS", re.MULTILINE)
_LINE = re.compile(r"^ *([0-9,]+) .*?__pyx_(?:f|pw)_(9fastserve_\S+)")
_HANDSHAKE = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
_LENGTH = re.compile(r"[0-9]+")


class NoTransport:
    """A transport that counts what is written to it, and is taken for a native one."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        """Count."""
        self.written += 1

    def writelines(self, parts: list[bytes]) -> None:
        """Count."""
        self.written += 1

    def send_file(self, before: bytes, fd: int, offset: int, count: int, after: bytes) -> None:
        """Count."""
        self.written += 1

    def get_extra_info(self, name: str) -> Any:
        """Return an address."""
        return ("127.0.0.1", 50000)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""


def new_state(loop: asyncio.AbstractEventLoop, app: Any) -> ServerState:
    """Return what connections need, as a worker makes it."""
    settings = Settings.from_options({"app": "bench.apps:plain"})
    defaults = ResponseDefaults(server=b"fastserve", date=True)
    defaults.refresh(int(time.time()))
    parser, reader = fields_parser("auto"), head_reader("auto", settings.requests)
    scopes = ScopeBuilder("")
    application = Application(app, scopes, loop=loop, concurrency=None, observers=[Metrics().count])
    sessions = Sessions(cast(Any, echo), application, scopes, settings.websockets, settings.connections, loop=loop)
    application.open_session = sessions.open
    return ServerState(
        loop=loop,
        timeouts=settings.timeouts,
        limits=settings.connections,
        deadlines=Deadlines(loop.time()),
        new_wire=lambda: Http1(parser, settings.requests, defaults, reader),
        open_exchange=application.open_exchange,
        log_refusal=lambda client, violation, is_answered: None,
        observe_refusal=application.observe_refusal,
    )


def request_of(load: Wrk) -> bytes:
    """Return a request as wrk sends it."""
    length = [f"Content-Length: {len(load.body)}"] if load.body else []
    lines = (f"{load.method} {load.path} HTTP/1.1", "Host: 127.0.0.1:8000", *load.fields, *length, "", "")
    return "\r\n".join(lines).encode() + load.body


async def answer_requests(scenario: Scenario, mode: str, rounds: int) -> None:
    """Have each connection answer a number of requests."""
    module, _, name = scenario.app.partition(":")
    app = entrance(accelerate(getattr(importlib.import_module(module), name), mode=mode))
    assert isinstance(scenario.load, Wrk)
    request = request_of(scenario.load)
    state = new_state(asyncio.get_running_loop(), app)
    connections = [Connection(state) for _ in range(CONNECTIONS)]
    transports = [NoTransport() for _ in connections]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(transport)  # type: ignore[arg-type]
    gc.freeze()
    for number in range(rounds):
        for connection in connections:
            connection.data_received(request)
        async with asyncio.timeout(ANSWERED_S):
            while any(transport.written <= number for transport in transports):
                await asyncio.sleep(0)
    assert {transport.written for transport in transports} == {rounds}


async def answer_messages(rounds: int) -> None:
    """Have each connection send a number of messages back."""
    lines = ("GET / HTTP/1.1", "Host: 127.0.0.1:8000", "Upgrade: websocket", "Connection: Upgrade", *_HANDSHAKE, "", "")
    loop = asyncio.get_running_loop()
    state = new_state(loop, plain)
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
        for _ in range(rounds):
            for connection in connections:
                connection.data_received(b"\x81\xa0mask" + payload)
        done.set_result(None)

    loop.call_soon(send)
    await done
    assert {transport.written for transport in transports} == {rounds + 1}


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


def count(scenario: str, mode: str, rounds: int) -> tuple[int, dict[str, int]]:
    """Return the instructions of a run, and those of functions of the hot path with what they call."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        program = [sys.executable, "-m", "bench.instructions", "--scenario", scenario, "--accelerate", mode]
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        # The seed of hashes decides which of them collide.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [*valgrind, *program, "--rounds", str(rounds)]
        subprocess.run(command, check=True, stderr=subprocess.PIPE, env=environment)
        annotate = ["callgrind_annotate", "--auto=no", "--inclusive=yes", "--threshold=100", str(out)]
        text = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    total = _TOTAL.search(text)
    assert total is not None
    most: dict[str, int] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            name = readable(match[2])
            most[name] = max(most.get(name, 0), _number(match[1]))
    return _number(total[1]), most


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def for_a_request(scenario: str, mode: str) -> dict[str, int]:
    """Return the instructions for a request by function, the most first; "in all" is all of them."""
    with ThreadPoolExecutor() as pool:
        runs = pool.map(partial(count, scenario, mode), (FIRST_ROUNDS, FIRST_ROUNDS + ROUNDS))
        (before, of_first), (after, of_all) = runs
    counted = {"in all": after - before} | {name: most - of_first.get(name, 0) for name, most in of_all.items()}
    ordered = sorted(counted.items(), key=lambda item: -item[1])
    return {name: number // (CONNECTIONS * ROUNDS) for name, number in ordered if number > CONNECTIONS * ROUNDS}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    http = [name for name, scenario in SCENARIOS.items() if isinstance(scenario.load, Wrk)]
    parser.add_argument("--scenario", choices=(*http, "websocket"), default="json")
    parser.add_argument("--accelerate", choices=("auto", "off"), default="auto")
    parser.add_argument("--top", type=int, default=30, help="how many functions are shown")
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds is not None:
        if options.scenario == "websocket":
            asyncio.run(answer_messages(options.rounds))
        else:
            asyncio.run(answer_requests(SCENARIOS[options.scenario], options.accelerate, options.rounds))
        return
    print("| function | instructions for a request |\n|---|---:|")
    for name, instructions in list(for_a_request(options.scenario, options.accelerate).items())[: options.top]:
        print(f"| {name} | {instructions:,} |")


if __name__ == "__main__":
    main()
