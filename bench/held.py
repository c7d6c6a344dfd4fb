"""`python -m bench.held`: thousands of WebSockets and event streams that one worker holds, and print a table.

Each round opens them, lets them rest while the server sends its pings, sends one message to all, and closes all. From
outside: the memory that the server has gained for each, the processor time that it takes while they rest, how long it
takes until the last client has the message, and until the application has heard that the last client is gone. The
server runs on one CPU, the clients on another.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import select
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, fields
from typing import Any

import psutil

from bench.herd import allow_descriptors, resident_bytes
from bench.measure import running
from bench.servers import SERVERS, Mode, Server

PING_S = 2
MESSAGE = "x" * 100
_AT_ONCE = 256
_OTHER_FDS = 200
_WITHIN_S = 120.0
# Its clients have this long to be gone, in the eyes of the application.
_GONE_S = 30.0
_PING, _PONG, _TEXT = 0x89, 0x8A, 0x81
_SERVERS = {
    "fastserve": (),
    "uvicorn": ("--ws", "websockets"),  # By itself it takes another one, which sends no pings.
}
_HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One round. Bytes are resident memory; after_mb: that of the server when all are gone again."""

    websocket_bytes: float
    stream_bytes: float
    idle_percent: float
    pings_per_s: float
    broadcast_s: float
    broadcast_cpu_s: float
    gone_s: float
    after_mb: float


class Crowd:
    """Clients of one server, which answer pings and count messages."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._is_websocket: dict[int, bool] = {}
        self._opening: set[int] = set()
        self._unread: dict[int, bytes] = {}
        self.pings = 0
        self.messages = 0

    def open(self, count: int, path: str, *, is_websocket: bool) -> None:
        """Open so many, and wait until the server has accepted them."""
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{_HANDSHAKE if is_websocket else ''}\r\n".encode()
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self._port))
            sock.sendall(request)
            sock.setblocking(False)
            fd = sock.fileno()
            self._socks[fd] = sock
            self._is_websocket[fd] = is_websocket
            self._opening.add(fd)
            self._poll.register(fd, select.EPOLLIN)
            if len(self._opening) >= _AT_ONCE:
                self.run(lambda: len(self._opening) < _AT_ONCE // 2, _WITHIN_S)
        self.run(lambda: not self._opening, _WITHIN_S)

    def run(self, until: Callable[[], bool], within_s: float) -> None:
        """Serve what comes until this is true.

        Raises:
            TimeoutError: it is not in time.
        """
        ends_at = time.monotonic() + within_s
        while not until():
            if time.monotonic() > ends_at:
                raise TimeoutError(f"{len(self._opening)} are not open, {self.messages} messages came")
            for fd, _ in self._poll.poll(0.05):
                self._take(fd, self._socks[fd].recv(65536))

    def rest(self, seconds: float) -> None:
        """Serve what comes for so long."""
        ends_at = time.monotonic() + seconds
        self.run(lambda: time.monotonic() >= ends_at, _WITHIN_S)

    def _take(self, fd: int, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the server has closed a connection")
        if fd in self._opening:
            head, found, data = (self._unread.pop(fd, b"") + data).partition(b"\r\n\r\n")
            if not found:
                self._unread[fd] = head
                return
            if int(head.split()[1]) not in (101, 200):
                raise RuntimeError(head.decode("latin-1"))
            self._opening.discard(fd)
        if self._is_websocket[fd]:
            self._take_frames(fd, data)
        else:
            self.messages += data.count(b"data: ")

    def _take_frames(self, fd: int, data: bytes) -> None:
        """Take frames, which are small."""
        data = self._unread.pop(fd, b"") + data
        while len(data) >= 2 and len(data) >= 2 + data[1]:
            if data[0] == _PING:
                self.pings += 1
                self._socks[fd].send(bytes((_PONG, 0x80 | data[1])) + bytes(4) + data[2 : 2 + data[1]])
            elif data[0] == _TEXT:
                self.messages += 1
            else:
                raise RuntimeError(f"unexpected frame {data[:20]!r}")
            data = data[2 + data[1] :]
        if data:
            self._unread[fd] = data

    def close(self) -> None:
        """Close all, without a word."""
        for sock in self._socks.values():
            sock.close()
        self._poll.close()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.held", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--servers", nargs="+", choices=list(_SERVERS), default=list(_SERVERS))
    parser.add_argument("--clients", type=int, default=5000, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="to rest in each round")
    options = parser.parse_args()
    allow_descriptors(2 * options.clients + _OTHER_FDS)
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    measured = {}
    for name in options.servers:
        with running(with_pings(SERVERS[name]), "bench.held:app", cpus[0]) as server:
            measure(server.port, server.process, 100, 0.1)  # what is done only once
            measured[name] = [
                measure(server.port, server.process, options.clients, options.seconds) for _ in range(options.rounds)
            ]
    print(f"{options.clients} WebSockets and {options.clients} event streams, pings every {PING_S} s\n")
    print(table(measured))
    return 0


def with_pings(server: Server) -> Server:
    """Return a server that sends pings often."""
    command = (*server.command, *_SERVERS[server.name], "--ws-ping-interval", str(PING_S))
    return Server(server.name, command, {Mode.QUIET: server.options[Mode.QUIET]})


def measure(port: int, process: psutil.Process, clients: int, rest_s: float) -> Figures:
    """Do one round."""
    crowd = Crowd(port)
    empty = resident_bytes(process.pid)
    crowd.open(clients, "/", is_websocket=True)
    with_websockets = resident_bytes(process.pid)
    crowd.open(clients, "/", is_websocket=False)
    with_all = resident_bytes(process.pid)
    crowd.rest(PING_S)
    pings, spent = crowd.pings, cpu_s(process)
    crowd.rest(rest_s)
    pings, spent = crowd.pings - pings, cpu_s(process) - spent
    broadcast_s, broadcast_cpu_s = broadcast(crowd, port, process, 2 * clients)
    closing_at = time.monotonic()
    crowd.close()
    gone_s = wait_gone(port) - closing_at
    return Figures(
        websocket_bytes=(with_websockets - empty) / clients,
        stream_bytes=(with_all - with_websockets) / clients,
        idle_percent=spent / rest_s * 100,
        pings_per_s=pings / rest_s,
        broadcast_s=broadcast_s,
        broadcast_cpu_s=broadcast_cpu_s,
        gone_s=gone_s,
        after_mb=resident_bytes(process.pid) / 1e6,
    )


def broadcast(crowd: Crowd, port: int, process: psutil.Process, clients: int) -> tuple[float, float]:
    """Have the application send a message to all; return how long that took for the last of them, and the CPU time."""
    spent, began = cpu_s(process), time.monotonic()
    expected = crowd.messages + clients
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/broadcast")
    crowd.run(lambda: crowd.messages >= expected, _WITHIN_S)
    took = time.monotonic() - began
    connection.getresponse().read()
    connection.close()
    return took, cpu_s(process) - spent


def wait_gone(port: int) -> float:
    """Wait until the application knows that all are gone, and return when it knew (time.monotonic, of the machine)."""
    ends_at = time.monotonic() + _GONE_S
    while (seen := ask(port))["open"]:
        if time.monotonic() > ends_at:
            raise TimeoutError(f"the application still sees {seen['open']}")
        time.sleep(0.05)
    return float(seen["gone_at"])


def ask(port: int) -> dict[str, Any]:
    """Return what the application knows."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN_S)
    connection.request("GET", "/seen")
    seen: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return seen


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time of a server with its children."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


_COLUMNS: dict[str, tuple[str, str]] = {
    "websocket_bytes": ("bytes/WebSocket", ",.0f"),
    "stream_bytes": ("bytes/stream", ",.0f"),
    "idle_percent": ("CPU at rest", ".1f"),
    "pings_per_s": ("pings/s", ",.0f"),
    "broadcast_s": ("to all, s", ".2f"),
    "broadcast_cpu_s": ("to all, CPU s", ".2f"),
    "gone_s": ("all gone, s", ".2f"),
    "after_mb": ("MB after each round", ".1f"),
}


def table(measured: dict[str, list[Figures]]) -> str:
    """Return the first round's memory, the medians of the rest, and the memory after each round."""
    heads = [head for head, _ in _COLUMNS.values()]
    lines = ["| server | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, rounds in measured.items():
        cells = []
        for field in fields(Figures):
            values = [getattr(each, field.name) for each in rounds]
            shown = _COLUMNS[field.name][1]
            if field.name == "after_mb":
                cells.append(", ".join(format(value, shown) for value in values))
            else:
                # In later rounds a part of the memory is that which the first one has left.
                value = values[0] if field.name.endswith("_bytes") else statistics.median(values)
                cells.append(format(value, shown) + (" %" if field.name == "idle_percent" else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# The application.

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
_websockets: set[Send] = set()
_streams: set[Send] = set()
_gone_at = 0.0


async def app(scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    """Hold WebSockets and event streams, and send to all."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await hold(_websockets, receive, send, "websocket.disconnect")
    elif scope["path"] == "/":
        await start(send, b"text/event-stream")
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        await hold(_streams, receive, send, "http.disconnect")
    else:
        if scope["path"] == "/broadcast":
            await send_to_all()
        await start(send, b"application/json")
        seen = {"open": len(_websockets) + len(_streams), "gone_at": _gone_at}
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def start(send: Send, kind: bytes) -> None:
    """Start a response."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def hold(held: set[Send], receive: Callable[[], Awaitable[Message]], send: Send, until: str) -> None:
    """Wait until the client is gone."""
    global _gone_at
    held.add(send)
    while (await receive())["type"] != until:
        pass
    held.discard(send)
    _gone_at = time.monotonic()


async def send_to_all() -> None:
    """Send a message to every client, as an application does that is not in a hurry with any of them."""
    event = f"data: {MESSAGE}\n\n".encode()
    for number, send in enumerate(list(_websockets)):
        await send({"type": "websocket.send", "text": MESSAGE})
        if not number % 100:
            await asyncio.sleep(0)
    for number, send in enumerate(list(_streams)):
        await send({"type": "http.response.body", "body": event, "more_body": True})
        if not number % 100:
            await asyncio.sleep(0)


if __name__ == "__main__":
    sys.exit(main())
