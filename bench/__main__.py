"""`python -m bench`: measure servers in turns, and print a table.

The server runs on one CPU and wrk on another. In each round every server is measured once, so that what the machine
does meanwhile hits all of them; the ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from bench.measure import Load, Sample, median, paired_ratio, running, sample
from bench.servers import SERVERS

BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="140", "Not A Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: none",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-User: ?1",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
)
"""With Host, the fourteen fields of a page that is opened in Chromium."""


def main() -> int:
    """Measure and print."""
    options = _options()
    if shutil.which("wrk") is None:
        print("wrk is not installed; Debian has it: apt-get install wrk", file=sys.stderr)
        return 1
    fields = (*options.header, *(BROWSER if options.browser else ()))
    load = Load(connections=options.connections, seconds=options.seconds, fields=fields)
    samples = measure(options.servers, options.app, load, options.rounds)
    print(
        f"{options.app}, {load.connections} connections, {options.rounds} rounds of {load.seconds:g} s, "
        f"CPython {platform.python_version()}\n"
    )
    print(table(samples))
    if options.json:
        content = {name: [asdict(each) for each in of_one] for name, of_one in samples.items()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=["fastserve", "uvicorn"])
    parser.add_argument("--app", default="bench.apps:plain", help="the application to serve")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--browser", action="store_true", help="send the fields that a browser sends")
    parser.add_argument("--header", action="append", default=[], help="send this field, as NAME: VALUE")
    parser.add_argument("--json", type=Path, help="also write all samples to this file")
    return parser.parse_args()


def measure(servers: list[str], app: str, load: Load, rounds: int) -> dict[str, list[Sample]]:
    """Return the samples of each server, one for each round."""
    server_cpu, load_cpu = _cpus()
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(running(SERVERS[name], app, server_cpu)) for name in servers}
        for _ in range(rounds):
            for name, (process, port) in started.items():
                samples[name].append(sample(process, port, load, load_cpu))
    return samples


def _cpus() -> tuple[int | None, int | None]:
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2:
        print("Only one CPU: server and load share it, the figures say little.", file=sys.stderr)
        return None, None
    return allowed[0], allowed[1]


def table(samples: dict[str, list[Sample]]) -> str:
    """Return the medians as a Markdown table; the last columns compare each server with the first one."""
    first = next(iter(samples))
    names = ["server", "requests/s", "CPU µs/request", "mean ms", "p99 ms", "memory MB", "errors"]
    names += [f"{first}: requests/s", f"{first}: CPU"]
    lines = [f"| {' | '.join(names)} |", "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name, of_one in samples.items():
        seen = median(of_one)
        faster = 1 / paired_ratio(samples[first], of_one, "requests_per_s")
        leaner = paired_ratio(samples[first], of_one, "cpu_us")
        lines.append(
            f"| {name} | {seen.requests_per_s:,.0f} | {seen.cpu_us:.1f} | {seen.mean_us / 1000:.1f} "
            f"| {seen.p99_us / 1000:.1f} | {seen.memory_bytes / 1e6:.0f} | {seen.errors:.0f} "
            f"| {faster:.2f}x | {leaner:.2f}x |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
