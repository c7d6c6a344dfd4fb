"""`python -m bench.files`: what a large file costs the server when it is sent by `http.response.pathsend`.

Beside it: Starlette's FileResponse for servers without that extension, and an application that reads the file and
sends its parts. Processor time of the server, in turns, the client on another CPU. Ratios are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import tempfile
from pathlib import Path

import click
import psutil

from bench.measure import running
from bench.servers import SERVERS

WAYS = ("pathsend", "starlette", "parts")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.files")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = options.mebibytes << 20
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    used: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for _ in range(options.mebibytes):
                file.write(os.urandom(1 << 20))
        with running(SERVERS["fastserve"], "bench.files:app", cpus[0]) as server:
            for _ in range(options.rounds):
                for way in WAYS:
                    used[way].append(cost_s(server.process, server.port, f"/{way}?{path}", size))
    for way, seconds in used.items():
        ratio = statistics.median(each / base for each, base in zip(seconds, used["pathsend"], strict=True))
        click.echo(f"{way}: {statistics.median(seconds):.2f} s of CPU for {options.mebibytes} MiB, {ratio:.1f}x")


def cost_s(process: psutil.Process, port: int, target: str, size: int) -> float:
    """Return the processor time that the server takes to send a file."""
    before = process.cpu_times()
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        received = 0
        while data := sock.recv(1 << 20):
            received += len(data)
    if received < size:
        raise RuntimeError(f"{target} gave {received} bytes instead of {size}")
    after = process.cpu_times()
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
