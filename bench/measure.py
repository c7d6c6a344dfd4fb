"""Running a server on one CPU and the load on another, and measuring both from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.load import Load
from bench.servers import Mode, Server

_START_S = 30.0
_peak_kilobytes = re.compile(r"^VmHWM:\s+([0-9]+) kB$", re.MULTILINE).search


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one server.

    cpu_us: processor time of the server, user and system, for each request. memory_bytes: the most resident memory that
    it had up to then, with all its processes. connection_bytes: resident memory for each resting connection, where that
    is what was measured. foreign_share: how much of the server's CPU others used meanwhile, of the time it took.
    """

    requests_per_s: float
    mean_us: float
    p99_us: float
    cpu_us: float
    memory_bytes: float
    errors: float
    connection_bytes: float = 0.0
    foreign_share: float = 0.0


class MeasurementFailed(Exception):
    """The program that makes the load did not come to its end."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    server: Server
    process: psutil.Process
    port: int
    cpu: int | None


@contextlib.contextmanager
def running(server: Server, app: str, cpu: int | None, mode: Mode = Mode.QUIET) -> Iterator[Running]:
    """Run a server on one CPU. What it logs goes to a file, as it does for most servers."""
    port = _free_port()
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(
            [*_on(cpu), *server.arguments(app, port, mode)],
            env=server.variables(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            try:
                _wait_for(port, process)
            except RuntimeError as error:
                log.seek(0)
                raise RuntimeError(f"{error}:\n{log.read().decode(errors='replace')[-2000:]}") from None
            yield Running(server, process, port, cpu)
        finally:
            workers = process.children(recursive=True)
            process.terminate()
            psutil.wait_procs([process, *workers], timeout=10)
            for each in (process, *workers):  # Some leave workers behind that still have connections.
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


def _on(cpu: int | None) -> list[str]:
    return [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]


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


def answer_of(of: Running, load: Load) -> bytes:
    """Return the body of the response to one request of a load.

    Raises:
        RuntimeError: it is not answered with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", of.port, timeout=30)
    fields = dict(field.split(": ", 1) for field in load.fields)
    connection.request(load.method, load.path, load.body or None, fields)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{of.server.name} answers {load.method} {load.path} with {response.status}: {body[:200]!r}")
    return body


def sample(of: Running, load: Load, seconds: float, cpu: int | None) -> Sample:
    """Put load on a server from another CPU, and return what was measured."""
    with tempfile.NamedTemporaryFile() as body_file:
        body_file.write(load.body)
        body_file.flush()
        command = load.command(of.port, of.process.pid, seconds, Path(body_file.name))
        began, busy_before, before = time.monotonic(), _busy_s(of.cpu), _cpu_s(of.process)
        done = subprocess.run([*_on(cpu), *command], capture_output=True, text=True, check=False)
        used_s = _cpu_s(of.process) - before
        foreign_s = _busy_s(of.cpu) - busy_before - used_s if of.cpu is not None else 0.0
        spent_s = time.monotonic() - began
    if done.returncode or not done.stdout:
        raise MeasurementFailed(f"{of.server.name}, {' '.join(command)}:\n{done.stdout}{done.stderr}")
    seen = json.loads(done.stdout.splitlines()[-1])
    return Sample(
        requests_per_s=seen["requests"] / seen["seconds"],
        mean_us=seen["mean_us"],
        p99_us=seen["p99_us"],
        cpu_us=used_s / max(seen["requests"], 1) * 1e6,
        memory_bytes=sum(map(_peak_bytes, _family(of.process))),
        errors=seen["errors"],
        connection_bytes=seen.get("connection_bytes", 0.0),
        foreign_share=max(0.0, foreign_s / spent_s),
    )


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in _family(process)]
    return float(sum(time.user + time.system for time in times))


def _busy_s(cpu: int | None) -> float:
    """Return for how long a CPU has not been idle."""
    if cpu is None:
        return 0.0
    times = psutil.cpu_times(percpu=True)[cpu]
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _peak_bytes(process: psutil.Process) -> int:
    try:
        match = _peak_kilobytes(Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        match = None
    return int(match[1]) * 1024 if match else int(process.memory_info().rss)


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure."""
    figures = [asdict(each) for each in samples]
    return Sample(**{name: statistics.median(each[name] for each in figures) for name in figures[0]})


def paired_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> float:
    """Return the median over the rounds of theirs / ours: how many times more of this figure the other one shows."""
    ratios: list[float] = [
        getattr(b, figure) / getattr(a, figure) if getattr(a, figure) else float("nan")
        for a, b in zip(ours, theirs, strict=True)
    ]
    return statistics.median(ratios)
