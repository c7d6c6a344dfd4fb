"""`python -m bench.transports`: measure transports alone, with a protocol that sends a constant response.

The server runs on one CPU and wrk on another. baseline is bench/baseline.c, which says how to build it. With "task" the
constant response is that of an ASGI application in a task of its own for each request, which no ASGI server can do
without. fastserve and granian also read the request, make its scope, and write the response.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable
from typing import Any, cast

import uvloop

from bench.apps import plain
from bench.load import Wrk
from bench.measure import Sample, median, running, sample
from bench.servers import BASELINE, SERVERS, Server
from fastserve.asgi.awaitables import SENT
from fastserve.net.epoll import Poller

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!"
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}


class Constant(asyncio.Protocol):
    """Sends the response for whatever it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(RESPONSE)


class ConstantParts(Constant):
    """Sends the response as head and body."""

    def data_received(self, data: bytes) -> None:
        self._transport.writelines([RESPONSE[:-13], RESPONSE[-13:]])


class ConstantByTask(Constant):
    """Calls an ASGI application in a task for whatever it receives, and sends the response for its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._options: dict[str, Any] = {"loop": asyncio.get_running_loop(), "eager_start": True}

    def data_received(self, data: bytes) -> None:
        asyncio.Task(plain(SCOPE.copy(), self.receive, self.send), **self._options)

    def receive(self) -> Any:
        raise NotImplementedError

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """Do what ASGI asks for in the least time."""
        if message["type"] == "http.response.body":
            self._transport.write(RESPONSE)
        return SENT


async def _serve(kind: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    protocol = ConstantParts if "parts" in kind else ConstantByTask if "task" in kind else Constant
    if "native" not in kind:
        await loop.create_server(protocol, "127.0.0.1", port, backlog=1024)
    else:
        listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        listening.setblocking(False)
        poller = Poller(loop, protocol)

        def accept() -> None:
            for _ in range(64):
                if not poller.accept(listening):
                    break

        loop.add_reader(listening, accept)
    await asyncio.Event().wait()


def _servers() -> dict[str, Server]:
    kinds = ["uvloop", "asyncio", "native on uvloop", "native on asyncio", "uvloop parts", "native parts on uvloop"]
    if sys.version_info >= (3, 12):  # where tasks start eagerly
        kinds.append("native on uvloop, task")
    servers = [Server(kind, (sys.executable, "-m", "bench.transports", "--serve", kind, "{port}")) for kind in kinds]
    servers += [each for each in (SERVERS["fastserve"], SERVERS["granian"]) if each.is_installed()]
    if BASELINE.exists():
        servers.insert(0, Server("baseline", (str(BASELINE), "{port}")))
    return {server.name: server for server in servers}


def main() -> int:
    """Serve, or measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.transports")
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "PORT"), help="serve until killed")
    parser.add_argument("--kinds", nargs="+", default=list(_servers()))
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.serve:
        kind, port = options.serve
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if "uvloop" in kind else None) as runner:
            runner.run(_serve(kind, int(port)))
    load = Wrk(connections=options.connections)
    samples: dict[str, list[Sample]] = {kind: [] for kind in options.kinds}
    with contextlib.ExitStack() as stack:
        started = {
            kind: stack.enter_context(running(_servers()[kind], "bench.apps:plain", 0)) for kind in options.kinds
        }
        for _ in range(options.rounds):
            for kind, each in started.items():
                samples[kind].append(sample(each, load, options.seconds, 1))
    print(f"{'':24}{'requests/s':>12}{'CPU us each':>14}{'p99 ms':>10}")
    for kind, of_one in samples.items():
        middle = median(of_one)
        print(f"{kind:24}{middle.requests_per_s:12.0f}{middle.cpu_us:14.2f}{middle.p99_us / 1000:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
