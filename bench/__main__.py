"""`python -m bench`: measure servers in turns, and print tables.

The server runs on one CPU and the load on another. In each round every server is measured once, so that what the
machine does meanwhile hits all of them; what stands in brackets is how many times better the first server is: the
median of the ratios in each round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench import results
from bench.load import BROWSER, Wrk
from bench.measure import MeasurementFailed, Running, answer_of, running, sample
from bench.results import Samples
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import SERVERS, Mode, Server

_Cpus: TypeAlias = tuple[int | None, int | None]
"""The one for the server, and the one for the load."""

_QUICK_SERVERS = ("fastserve", "fastserve-unaccelerated", "uvicorn", "granian", "baseline")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long it is measured."""

    rounds: int
    seconds: float
    quick: bool = False


def main() -> int:
    """Measure and print."""
    options = _options()
    missing = [program for program in ("wrk", "taskset") if shutil.which(program) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; Debian has them in wrk and util-linux", file=sys.stderr)
        return 1
    effort = Effort(
        options.rounds or (2 if options.quick else 5), options.seconds or (1 if options.quick else 4), options.quick
    )
    measured: dict[str, Samples] = {}
    about = {
        **results.describe_machine(),
        "rounds": effort.rounds,
        "seconds": effort.seconds,
        "quick": effort.quick,
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    for scenario in _scenarios(options):
        samples = measure(scenario, options.servers, effort)
        measured[scenario.name] = samples
        print(f"\n{scenario.title} ({scenario.name}), {effort.rounds} rounds of {effort.seconds:g} s\n")
        print(results.table(samples, scenario.figures), flush=True)
        if warning := results.disturbance(samples):
            print(f"\n{warning}", flush=True)
        if options.json:
            results.write(options.json, about, measured)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), help="the default are those of the scenario")
    parser.add_argument("--scenarios", nargs="+", choices=[*SCENARIOS, "all"], help="the default is one by --app")
    parser.add_argument("--quick", action="store_true", help="short rounds, and fewer servers: all in some minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of each measurement")
    parser.add_argument("--json", type=Path, help="also write all samples to this file")
    own = parser.add_argument_group("instead of --scenarios")
    own.add_argument("--app", default="bench.apps:plain", help="the application to serve")
    own.add_argument("--path", default="/")
    own.add_argument("--connections", type=int, default=256)
    own.add_argument("--browser", action="store_true", help="send the fields that a browser sends")
    own.add_argument("--header", action="append", default=[], help="send this field, as NAME: VALUE")
    own.add_argument(
        "--mode",
        type=lambda text: Mode[text.upper().replace("-", "_")],
        default=Mode.QUIET,
        help=f"what servers are told besides: {', '.join(each.name.lower().replace('_', '-') for each in Mode)}",
    )
    return parser.parse_args()


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    if options.scenarios:
        names = list(SCENARIOS) if "all" in options.scenarios else options.scenarios
        return [SCENARIOS[name] for name in names]
    fields = (*options.header, *(BROWSER if options.browser else ()))
    load = Wrk(connections=options.connections, path=options.path, fields=fields)
    servers = ("fastserve", "uvicorn")
    return [Scenario(name="own", title=options.app, app=options.app, load=load, mode=options.mode, servers=servers)]


def measure(scenario: Scenario, servers: list[str] | None, effort: Effort) -> Samples:
    """Return the samples of each server, one for each round. A server that fails is left out, which is said."""
    cpus = _cpus()
    names = servers or [name for name in scenario.servers if not effort.quick or name in _QUICK_SERVERS]
    chosen = [SERVERS[name] for name in names if scenario.takes(SERVERS[name])]
    samples: Samples = {server.name: [] for server in chosen}
    turns = [1] * effort.rounds if scenario.is_fresh else [effort.rounds]
    for rounds in turns:
        _measure_rounds(
            scenario, [each for each in chosen if each.name in samples], rounds, effort.seconds, cpus, samples
        )
    return samples


def _measure_rounds(
    scenario: Scenario, servers: list[Server], rounds: int, seconds: float, cpus: _Cpus, samples: Samples
) -> None:
    server_cpu, load_cpu = cpus
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(running(each, scenario.app, server_cpu, scenario.mode)) for each in servers]
        _check_answers(scenario, started)
        for _ in range(rounds):
            for each in list(started):
                try:
                    samples[each.server.name].append(sample(each, scenario.load, seconds, load_cpu))
                except MeasurementFailed as failure:
                    print(f"left out of {scenario.name}: {failure}", file=sys.stderr)
                    started.remove(each)
                    del samples[each.server.name]


def _check_answers(scenario: Scenario, started: list[Running]) -> None:
    """Fail unless all servers of one application give the same answer."""
    answers = {each.server.name: answer_of(each, scenario.load) for each in started if each.server.scenarios is None}
    if len(set(answers.values())) > 1:
        raise RuntimeError(f"the servers of {scenario.name} answer differently: {answers}")


def _cpus() -> _Cpus:
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2:
        print("Only one CPU: server and load share it, the figures say little.", file=sys.stderr)
        return None, None
    return allowed[0], allowed[1]


if __name__ == "__main__":
    sys.exit(main())
