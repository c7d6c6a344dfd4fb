"""`python -m bench.collector`: what Python's cyclic garbage collector costs each request, by its thresholds.

No server and no sockets: applications are called over and over, many at the same time, each policy in a process of its
own. Measured is the time in which the collector ran, for each request, its longest pause, and how far the memory grew.
The applications are FastAPI's routes, which wait once as if for a database, and one that leaves cyclic garbage behind
with each request, which nothing but the collector frees.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench import apps

POLICIES: dict[str, tuple[bool, tuple[int, int, int] | None]] = {
    "default": (False, None),
    "frozen": (True, None),
    "frozen, 5,000": (True, (5_000, 10, 10)),
    "frozen, 10,000": (True, (10_000, 10, 10)),
    "frozen, 25,000": (True, (25_000, 10, 10)),
    "frozen, 50,000": (True, (50_000, 10, 10)),
    "frozen, 100,000": (True, (100_000, 10, 10)),
    "frozen, none": (True, (0, 0, 0)),
}
"""By name: whether what is there at the start is frozen, and the thresholds; None for those of Python."""

_OBJECTS = 40
_AT_ONCE = 200
_KEPT = 200_000


class _Node:
    """An object of a graph in which all know their neighbours, such as an object-relational mapper makes."""

    def __init__(self, before: _Node | None) -> None:
        self.before = before
        self.after: _Node | None = None
        self.values = {"name": "value", "text": b"x" * 200}
        if before is not None:
            before.after = self


async def cycles(scope: apps.Scope, receive: apps.Receive, send: apps.Send) -> None:
    """Leave a cyclic graph behind."""
    node: _Node | None = None
    for _ in range(_OBJECTS):
        node = _Node(node)
    await apps.plain(scope, receive, send)


def _app(name: str) -> Any:
    if name in ("cycles", "plain"):
        return cycles if name == "cycles" else apps.plain
    from bench import api

    return api.app


_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"authorization", b"Bearer abcdef")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}
_PATHS = {"cycles": "/", "fastapi": "/", "fastapi-header": "/me", "fastapi-list": "/users", "plain": "/"}


@dataclass(frozen=True, slots=True)
class Cost:
    """collector_us: for each request. collections: of each generation. grown_bytes: resident memory."""

    request_us: float
    collector_us: float
    longest_ms: float
    collections: tuple[int, ...]
    grown_bytes: int


def measure(app: str, policy: str, requests: int) -> Cost:
    """Measure in this process."""
    is_frozen, thresholds = POLICIES[policy]
    called = _app(app)
    kept = [{"number": number} for number in range(_KEPT)]  # what an application has loaded: it makes full runs long
    if is_frozen:
        gc.collect()
        gc.freeze()
    if thresholds is not None:
        gc.set_threshold(*thresholds)
    pauses: list[tuple[int, float]] = []
    began = [0.0]

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            began[0] = time.process_time()
        else:
            pauses.append((info["generation"], time.process_time() - began[0]))

    with asyncio.Runner() as runner:
        runner.run(_call(called, app, requests // 10))
        resident = _peak_bytes()
        gc.callbacks.append(note)
        before = time.process_time()
        runner.run(_call(called, app, requests))
        spent_s = time.process_time() - before
        gc.callbacks.remove(note)
    del kept
    return Cost(
        request_us=spent_s / requests * 1e6,
        collector_us=sum(pause for _, pause in pauses) / requests * 1e6,
        longest_ms=max((pause for _, pause in pauses), default=0.0) * 1e3,
        collections=tuple(sum(generation == each for each, _ in pauses) for generation in range(3)),
        grown_bytes=_peak_bytes() - resident,
    )


async def _call(app: Any, name: str, requests: int) -> None:
    """Call the application so many times, _AT_ONCE calls at the same time."""
    path = _PATHS[name]
    call: Callable[..., Awaitable[None]] = app

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(0)

    async def client() -> None:
        for _ in range(requests // _AT_ONCE):
            await asyncio.create_task(_one(call({**_SCOPE, "path": path, "raw_path": path.encode()}, receive, send)))

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))


async def _one(call: Awaitable[None]) -> None:
    await call


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each policy in a process of its own, and print a table for each application."""
    parser = argparse.ArgumentParser(prog="python -m bench.collector")
    parser.add_argument("--apps", nargs="+", choices=list(_PATHS), default=["fastapi", "fastapi-header", "cycles"])
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--one", action="store_true", help="measure one policy here, and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(measure(options.apps[0], options.policies[0], options.requests))))
        return
    for app in options.apps:
        print(f"\n{app}, {options.requests:,} requests, Python {sys.version.split()[0]}\n")
        print("| policy | µs/request | collector, µs/request | longest, ms | collections | grown by, MB |")
        print("|---|---:|---:|---:|---:|---:|")
        for policy in options.policies:
            own = ["--one", "--apps", app, "--policies", policy, "--requests", str(options.requests)]
            done = subprocess.run(
                [sys.executable, "-m", "bench.collector", *own], capture_output=True, text=True, check=True
            )
            cost = Cost(**json.loads(done.stdout))
            print(
                f"| {policy} | {cost.request_us:.1f} | {cost.collector_us:.2f} | {cost.longest_ms:.1f} "
                f"| {'/'.join(map(str, cost.collections))} | {cost.grown_bytes / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
