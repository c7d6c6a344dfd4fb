"""`python -m bench.allocators`: what another memory allocator changes, in processor time and memory.

The same server and load with each of them, in turns: Python's own; mimalloc as Python has it built in from 3.13 on
(PYTHONMALLOC=mimalloc); and mimalloc in place of the C library's malloc (LD_PRELOAD), which Python's own allocator uses
for what is larger than 512 bytes, and extensions in other languages for everything. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes.util
import os
import sys

from bench.measure import Sample, median, paired_ratio, running, sample
from bench.scenarios import SCENARIOS
from bench.servers import SERVERS, Server


def allocators() -> dict[str, dict[str, str]]:
    """Return the variables that choose each allocator that is here."""
    found = {"default": {}, "malloc": {"PYTHONMALLOC": "malloc"}}
    if sys.version_info >= (3, 13):
        found["mimalloc of Python"] = {"PYTHONMALLOC": "mimalloc"}
    library = ctypes.util.find_library("mimalloc")
    if library is not None:
        found["mimalloc preloaded"] = {"LD_PRELOAD": library}
        found["mimalloc preloaded, for everything"] = {"LD_PRELOAD": library, "PYTHONMALLOC": "malloc"}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.allocators")
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=["json", "fastapi-list", "upload"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args()
    server_cpu, load_cpu = sorted(os.sched_getaffinity(0))[:2]
    ours = SERVERS["fastserve"]
    for name in options.scenarios:
        scenario = SCENARIOS[name]
        samples: dict[str, list[Sample]] = {allocator: [] for allocator in allocators()}
        with contextlib.ExitStack() as stack:
            started = {}
            for allocator, variables in allocators().items():
                server = Server(allocator, ours.command, ours.options, variables)
                started[allocator] = stack.enter_context(running(server, scenario.app, server_cpu, scenario.mode))
            for _ in range(options.rounds):
                for allocator, each in started.items():
                    samples[allocator].append(sample(each, scenario.load, options.seconds, load_cpu))
        print(f"\n{scenario.title} ({name}), Python {sys.version.split()[0]}\n")
        print("| allocator | CPU µs/request | of the default | peak MB |\n|---|---:|---:|---:|")
        for allocator, of_one in samples.items():
            seen = median(of_one)
            ratio = paired_ratio(samples["default"], of_one, "cpu_us")
            print(f"| {allocator} | {seen.cpu_us:.1f} | {ratio:.2f} | {seen.memory_bytes / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
