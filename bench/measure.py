"""Running a server on one CPU and the load on another, and measuring both from outside."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.servers import Server

_REPORT = Path(__file__).parent / "report.lua"
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk is to do: so many connections, so many seconds, these further fields."""

    connections: int = 256
    seconds: float = 4.0
    path: str = "/"
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one server. cpu_us: processor time of the server, user and system, for each request."""

    requests_per_s: float
    mean_us: float
    p99_us: float
    cpu_us: float
    memory_bytes: int
    errors: int


@contextlib.contextmanager
def running(server: Server, app: str, cpu: int | None) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server on one CPU; the context is its process and port."""
    port = _free_port()
    process = psutil.Popen(server.arguments(app, port), env=server.variables())
    try:
        if cpu is not None:
            process.cpu_affinity([cpu])
        _wait_for(port, process)
        yield process, port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_for(port: int, process: psutil.Process) -> None:
    ends_at = time.monotonic() + _START_S
    while time.monotonic() < ends_at:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"{process} ended while starting")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process} does not listen on port {port}")


def sample(process: psutil.Process, port: int, load: Load, cpu: int | None) -> Sample:
    """Put load on a server from another CPU, and return what was measured."""
    command = ["wrk", "--threads", "1", "--connections", str(load.connections), "--duration", f"{load.seconds:g}s"]
    command += [part for field in load.fields for part in ("--header", field)]
    command += ["--script", str(_REPORT), f"http://127.0.0.1:{port}{load.path}"]
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    before = _cpu_s(process)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used_s = _cpu_s(process) - before
    seen = json.loads(output.splitlines()[-1])
    return Sample(
        requests_per_s=seen["requests"] / seen["seconds"],
        mean_us=seen["mean_us"],
        p99_us=seen["p99_us"],
        cpu_us=used_s / seen["requests"] * 1e6,
        memory_bytes=sum(each.memory_info().rss for each in _family(process)),
        errors=seen["errors"],
    )


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in _family(process)]
    return float(sum(time.user + time.system for time in times))


def median(samples: list[Sample]) -> Sample:
    """Return the median of each figure."""
    figures = [asdict(each) for each in samples]
    return Sample(**{name: statistics.median(each[name] for each in figures) for name in figures[0]})


def paired_ratio(ours: list[Sample], theirs: list[Sample], figure: str) -> float:
    """Return the median over the rounds of theirs / ours: how many times more of this figure the other one shows."""
    ratios: list[float] = [getattr(b, figure) / getattr(a, figure) for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios)
