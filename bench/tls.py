"""`python -m bench.tls`: small JSON answers over TLS, on connections that are kept, from each server in turns.

One worker on one CPU, wrk on another. The certificate is made for the run. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import trustme

from bench.measure import Running, running
from bench.servers import SERVERS, Mode, Server

_TLS = {
    "fastserve": ("--ssl-certfile", "{certificate}", "--ssl-keyfile", "{key}"),
    "uvicorn": ("--ssl-certfile", "{certificate}", "--ssl-keyfile", "{key}"),
    "granian": ("--ssl-certificate", "{certificate}", "--ssl-keyfile", "{key}", "--http", "1"),
    "hypercorn": ("--certfile", "{certificate}", "--keyfile", "{key}"),
}
_find_requests = re.compile(r"([0-9]+) requests in ([0-9.]+)s").search


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls")
    parser.add_argument("--servers", nargs="+", choices=list(_TLS), default=list(_TLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {name: [] for name in options.servers}
    costs: dict[str, list[float]] = {name: [] for name in options.servers}
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(certificate_files())
        started = [
            stack.enter_context(running(with_tls(SERVERS[name], files), "bench.apps:plain", cpus[0]))
            for name in options.servers
        ]
        for _ in range(options.rounds):
            for of in started:
                rate, cost_us = measure(of, options.connections, options.seconds, cpus[-1])
                rates[of.server.name].append(rate)
                costs[of.server.name].append(cost_us)
    first = options.servers[0]
    for name in options.servers:
        faster = statistics.median(a / b for a, b in zip(rates[first], rates[name], strict=True))
        leaner = statistics.median(b / a for a, b in zip(costs[first], costs[name], strict=True))
        click.echo(
            f"{name}: {statistics.median(rates[name]):,.0f} requests/s, {statistics.median(costs[name]):.1f} µs of CPU"
            f" each; {first} has {faster:.2f}x the requests/s, for 1/{leaner:.2f} of the CPU"
        )


@contextlib.contextmanager
def certificate_files() -> Iterator[dict[str, str]]:
    """Make a certificate and its key, in the form that all servers read (PKCS #8)."""
    leaf = trustme.CA().issue_cert("localhost", "127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        certificate, plain, key = (Path(folder) / name for name in ("certificate.pem", "plain.pem", "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(certificate)
        leaf.private_key_pem.write_to_path(plain)
        command = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", str(plain), "-out", str(key)]
        subprocess.run(command, check=True)
        yield {"certificate": str(certificate), "key": str(key)}


def with_tls(server: Server, files: dict[str, str]) -> Server:
    """Return a server that speaks TLS."""
    options = tuple(part.format(**files) for part in _TLS[server.name])
    return Server(server.name, (*server.command, *options), {Mode.QUIET: server.options[Mode.QUIET]})


def measure(of: Running, connections: int, seconds: int, cpu: int) -> tuple[float, float]:
    """Return the requests in a second, and the processor time of the server for each in microseconds."""
    command = ["taskset", "--cpu-list", str(cpu), "wrk", "--threads", "1", "--connections", str(connections)]
    before = cpu_s(of.process)
    done = subprocess.run(
        [*command, "--duration", f"{seconds}s", f"https://127.0.0.1:{of.port}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    used_s = cpu_s(of.process) - before
    found = _find_requests(done.stdout)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{of.server.name}:\n{done.stdout}")
    return int(found[1]) / float(found[2]), used_s / int(found[1]) * 1e6


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time of a server with all its processes."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


if __name__ == "__main__":
    main()
