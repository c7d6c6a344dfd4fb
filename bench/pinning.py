"""`python -m bench.pinning`: what pinning workers to CPUs gains, on all CPUs of this machine.

Two servers, one with `--affinity auto` and one with `off`, one worker for each CPU, measured in turns. The load runs on
the same CPUs. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os

import click

from bench.load import Wrk
from bench.measure import Sample, median, paired_ratio, running, sample
from bench.servers import SERVERS, Mode, Server


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pinning")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options = parser.parse_args()
    load = Wrk()
    workers = str(len(os.sched_getaffinity(0)))
    samples: dict[str, list[Sample]] = {"auto": [], "off": []}
    with contextlib.ExitStack() as stack:
        started = {}
        for affinity in samples:
            command = (*SERVERS["fastserve"].command, "--workers", workers, "--affinity", affinity)
            server = Server(affinity, command, SERVERS["fastserve"].options)
            started[affinity] = stack.enter_context(running(server, "bench.apps:plain", None, Mode.QUIET))
        for _ in range(options.rounds):
            for affinity, each in started.items():
                samples[affinity].append(sample(each, load, options.seconds, None))
    for affinity, of_one in samples.items():
        seen = median(of_one)
        click.echo(f"--affinity {affinity}: {seen.requests_per_s:,.0f} requests/s, {seen.cpu_us:.1f} µs of CPU each")
    gain = 1 / paired_ratio(samples["auto"], samples["off"], "requests_per_s")
    cpu = paired_ratio(samples["auto"], samples["off"], "cpu_us")
    click.echo(f"pinned against not: {gain:.2f}x the requests/s, {1 / cpu:.2f}x the CPU time for each")


if __name__ == "__main__":
    main()
