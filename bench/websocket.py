"""`python -m bench.websocket`: what an echoed WebSocket message costs each server, and print a table.

The server runs on one CPU and the load, a program in C that is compiled for this, on another. Each connection waits for
the echo of its message before it sends the next one. Servers are measured in turns; ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from bench.measure import running
from bench.servers import SERVERS

_SOURCE = Path(__file__).parent / "websocket_load.c"
_APP = "bench.apps:echo"


@dataclass(frozen=True, slots=True)
class Echoes:
    """One measurement.

    per_cpu_s: messages for each second of the server's processor time, user and system. user_us, kernel_us: that time
    for each message. The kernel's is for receiving, sending and waking the load: nearly the same for all servers.
    """

    per_s: float
    per_cpu_s: float
    user_us: float
    kernel_us: float
    mean_us: float
    p99_us: float
    errors: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.websocket", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument(
        "--servers", nargs="+", choices=list(SERVERS), default=["fastserve", "uvicorn", "granian", "gunicorn"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64 * 1024], help="of the messages, in bytes")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args()
    if shutil.which("cc") is None:
        print("there is no C compiler for the load", file=sys.stderr)
        return 1
    cpus = sorted(os.sched_getaffinity(0))
    server_cpu, load_cpu = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    print(f"{options.connections} connections, {options.rounds} rounds, CPython {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        load = compile_load(Path(folder))
        started = {name: stack.enter_context(running(SERVERS[name], _APP, server_cpu)) for name in options.servers}
        for size in options.sizes:
            samples: dict[str, list[Echoes]] = {name: [] for name in started}
            for _ in range(options.rounds):
                for name, server in started.items():
                    command = [
                        str(load),
                        str(server.port),
                        "/",
                        str(options.connections),
                        str(size),
                        str(options.seconds),
                    ]
                    samples[name].append(measure(server.process, command, load_cpu))
            print(table(size, samples))
    return 0


def compile_load(folder: Path) -> Path:
    """Return the program that puts load on a server."""
    program = folder / "websocket_load"
    subprocess.run(["cc", "-O2", "-o", str(program), str(_SOURCE)], check=True)
    return program


def measure(process: psutil.Process, command: list[str], cpu: int | None) -> Echoes:
    """Put load on a server from another CPU, and return what was measured."""
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    user_s, kernel_s = _cpu_s(process)
    seen = json.loads(subprocess.run([*command, "text"], check=True, capture_output=True, text=True).stdout)
    after = _cpu_s(process)
    user_s, kernel_s = after[0] - user_s, after[1] - kernel_s
    return Echoes(
        per_s=seen["messages"] / seen["seconds"],
        per_cpu_s=seen["messages"] / (user_s + kernel_s),
        user_us=user_s / seen["messages"] * 1e6,
        kernel_us=kernel_s / seen["messages"] * 1e6,
        mean_us=seen["mean_us"],
        p99_us=seen["p99_us"],
        errors=seen["errors"],
    )


def _cpu_s(process: psutil.Process) -> tuple[float, float]:
    """Return the processor time of a server with its children: its own, and the kernel's."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(time.user for time in times)), float(sum(time.system for time in times))


def table(size: int, samples: dict[str, list[Echoes]]) -> str:
    """Return the medians as a Markdown table; one column compares each server with the first one."""
    first = next(iter(samples))
    lines = [
        f"| {size} bytes | messages/s | messages per CPU s | {first}: per CPU s | user µs | kernel µs | mean ms "
        "| p99 ms | errors |",
        "|---|" + "---:|" * 8,
    ]
    for name, of_one in samples.items():
        seen = {field.name: statistics.median(getattr(each, field.name) for each in of_one) for field in fields(Echoes)}
        more = statistics.median(
            ours.per_cpu_s / theirs.per_cpu_s for ours, theirs in zip(samples[first], of_one, strict=True)
        )
        lines.append(
            f"| {name} | {seen['per_s']:,.0f} | {seen['per_cpu_s']:,.0f} | {more:.2f}x | {seen['user_us']:.1f} "
            f"| {seen['kernel_us']:.1f} | {seen['mean_us'] / 1000:.1f} | {seen['p99_us'] / 1000:.1f} "
            f"| {seen['errors']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
