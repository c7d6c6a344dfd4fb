"""`python -m bench.files`: what a large file costs the server when it is sent by `http.response.pathsend`.

Beside it: Starlette's FileResponse for servers without that extension, and an application that reads the file and
sends its parts; and the least that this machine needs, a bare loop over sendfile(2). By TCP, where the sender's
processor also does much of the receiver's work when both are on one machine, and by a Unix socket. Processor time of
the server, in turns, the client on another CPU. Ratios are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench.measure import Running, running
from bench.servers import SERVERS, Mode, Server

WAYS = ("pathsend", "starlette", "parts", "bare sendfile")
_STEP_BYTES = 1 << 20
Address = tuple[str, int] | str
"""Of TCP, or the path of a Unix socket."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.files")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = options.mebibytes << 20
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for _ in range(options.mebibytes):
                file.write(os.urandom(1 << 20))
        unix = str(Path(folder) / "socket")
        with running(listening_on(unix), "bench.files:app", cpus[0]) as server:
            addresses: dict[str, Address] = {"TCP": ("127.0.0.1", server.port), "Unix socket": unix}
            for name, address in addresses.items():
                used: dict[str, list[float]] = {way: [] for way in WAYS}
                for _ in range(options.rounds):
                    for way in WAYS:
                        cost = bare_cost_s if way == "bare sendfile" else cost_s
                        used[way].append(cost(server, way, address, path, size))
                click.echo(f"{name}, {options.mebibytes} MiB:\n{table(used)}\n")


def listening_on(unix: str) -> Server:
    """Return the server, which also listens on a Unix socket."""
    ours = SERVERS["fastserve"]
    at = ours.command.index("--port")
    command = (*ours.command[:at], "--bind", "127.0.0.1:{port}", "--bind", f"unix:{unix}")
    return Server(ours.name, command, {Mode.QUIET: ours.options[Mode.QUIET]})


def table(used: dict[str, list[float]]) -> str:
    """Return the medians as a Markdown table."""
    lines = ["| way | CPU s | as much as pathsend |", "|---|---:|---:|"]
    for way, seconds in used.items():
        ratio = statistics.median(each / base for each, base in zip(seconds, used["pathsend"], strict=True))
        lines.append(f"| {way} | {statistics.median(seconds):.2f} | {ratio:.1f}x |")
    return "\n".join(lines)


def cost_s(server: Running, way: str, address: Address, path: Path, size: int) -> float:
    """Return the processor time that the server takes to send a file."""
    before = server.process.cpu_times()
    with contextlib.closing(connect(address)) as sock:
        sock.sendall(f"GET /{way}?{path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        received = drain(sock)
    if received < size:
        raise RuntimeError(f"{way} gave {received} bytes instead of {size}")
    return spent_s(before, server.process.cpu_times())


def bare_cost_s(server: Running, way: str, address: Address, path: Path, size: int) -> float:
    """Return the processor time that a loop takes which does nothing else, on the server's CPU."""
    with listener(address) as listening:
        pid = os.fork()
        if not pid:
            if server.cpu is not None:
                os.sched_setaffinity(0, [server.cpu])
            send_bare(listening, path, size)
            os._exit(0)
        with contextlib.closing(connect(listening.getsockname())) as sock:
            drain(sock)
        usage = os.wait4(pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def listener(address: Address) -> Iterator[socket.socket]:
    """Listen beside an address, in the same way."""
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as sock, contextlib.ExitStack() as stack:
            path = f"{address}-bare"
            sock.bind(path)
            stack.callback(os.unlink, path)
            sock.listen()
            yield sock
    else:
        with socket.create_server((address[0], 0)) as sock:
            yield sock


def send_bare(listening: socket.socket, path: Path, size: int) -> None:
    """Send a file to the first who connects, as the server does: the socket never blocks."""
    sock, _ = listening.accept()
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STEP_BYTES)
    poll = select.epoll()
    poll.register(sock, select.EPOLLOUT)
    at = 0
    with path.open("rb") as file:
        while at < size:
            poll.poll()
            with contextlib.suppress(BlockingIOError):
                at += os.sendfile(sock.fileno(), file.fileno(), at, _STEP_BYTES)


def connect(address: Address) -> socket.socket:
    """Connect to an address of either kind."""
    if not isinstance(address, str):
        return socket.create_connection(address)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address)
    return sock


def drain(sock: socket.socket) -> int:
    """Receive all that comes, and return how much that was."""
    received = 0
    buffer = bytearray(_STEP_BYTES)
    while size := sock.recv_into(buffer):
        received += size
    return received


def spent_s(before: Any, after: Any) -> float:
    """Return the processor time between two looks."""
    return float(after.user + after.system - before.user - before.system)


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    """Send a file in the way that the path says."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["query_string"].decode()
    length = str(Path(path).stat().st_size).encode()
    if scope["path"] == "/starlette":
        from starlette.responses import FileResponse

        scope["extensions"].clear()
        await FileResponse(path)(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    if scope["path"] == "/pathsend":
        await send({"type": "http.response.pathsend", "path": path})
        return
    with Path(path).open("rb") as file:
        while part := file.read(64 * 1024):
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


if __name__ == "__main__":
    main()
