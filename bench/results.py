"""What was measured: as a table, and in a file."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.measure import Sample, median, paired_ratio

_MOST_FOREIGN_SHARE = 0.05

Samples = dict[str, list[Sample]]
"""Those of each server, one for each round; the first server is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """How a figure of Sample is shown. more_is_better: None when nobody is compared by it."""

    title: str
    unit: float
    digits: int
    more_is_better: bool | None

    def show(self, value: float) -> str:
        return f"{value / self.unit:,.{self.digits}f}"


FIGURES = {
    "requests_per_s": _Figure("requests/s", 1, 0, True),
    "cpu_us": _Figure("CPU µs/request", 1, 1, False),
    "mean_us": _Figure("mean ms", 1000, 1, False),
    "p99_us": _Figure("p99 ms", 1000, 1, False),
    "memory_bytes": _Figure("peak MB", 1e6, 0, None),
    "connection_bytes": _Figure("bytes/connection", 1, 0, False),
    "errors": _Figure("errors", 1, 0, None),
}


def table(samples: Samples, figures: Sequence[str]) -> str:
    """Return the medians as a Markdown table; behind each figure, how many times better the first server is in it."""
    if not samples:
        return "No server could be measured."
    first = next(iter(samples))
    shown = {name: figure for name, figure in FIGURES.items() if name in figures}
    lines = [f"| server | {' | '.join(figure.title for figure in shown.values())} |", f"|---|{'---:|' * len(shown)}"]
    for server, of_one in samples.items():
        middle = median(of_one)
        cells = []
        for name, figure in shown.items():
            cell = figure.show(getattr(middle, name))
            if figure.more_is_better is not None and server != first:
                cell += f" ({times_better(samples[first], of_one, name):.2f}x)"
            cells.append(cell)
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison(measured: Mapping[str, Samples], ours: str, theirs: str) -> str:
    """Return how many times better one server is than another in each of several scenarios, and in all of them."""
    names = ("requests_per_s", "cpu_us", "mean_us", "p99_us")
    rows = {
        title: [times_better(samples[ours], samples[theirs], name) for name in names]
        for title, samples in measured.items()
    }
    rows["**geometric mean**"] = [statistics.geometric_mean(column) for column in zip(*rows.values(), strict=True)]
    lines = [
        f"| {ours} against {theirs} | requests/s | CPU/request | mean latency | p99 latency |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {title} | {' | '.join(f'{ratio:.2f}x' for ratio in ratios)} |" for title, ratios in rows.items()]
    return "\n".join(lines)


def disturbance(samples: Samples) -> str | None:
    """Return a warning when others used the server's CPU meanwhile; None when they hardly did.

    Then a server with several threads gets a larger part of it than one with a single thread, which makes requests per
    second and latencies incomparable. The processor time for each request still says something.
    """
    shares = [each.foreign_share for of_one in samples.values() for each in of_one]
    share = statistics.median(shares) if shares else 0.0
    if share < _MOST_FOREIGN_SHARE:
        return None
    return f"Others used {share:.0%} of the server's CPU: only the processor time for each request says something."


def times_better(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> float:
    """Return how many times better we are in a figure: the median of the ratios in each round."""
    ratio = paired_ratio(ours, theirs, figure)
    return 1 / ratio if FIGURES[figure].more_is_better else ratio


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({_optimisations()})",
        "node": _output_of("node", "--version"),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


_PACKAGES = ("uvicorn", "granian", "hypercorn", "gunicorn", "uvloop", "httptools", "fastapi", "starlette", "pydantic")


def _optimisations() -> str:
    """Return what the interpreter was built with. Distributions and images have both, what pyenv builds has none."""
    options = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
    built_with = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return " and ".join(name for name, option in options.items() if option in built_with) or "neither PGO nor LTO"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output_of(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_model() -> str:
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor()


def write(path: Path, about: Mapping[str, Any], measured: Mapping[str, Samples]) -> None:
    """Write all samples to a file. about: how they were measured."""
    scenarios = {
        scenario: {server: [asdict(each) for each in of_one] for server, of_one in samples.items()}
        for scenario, samples in measured.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "scenarios": scenarios}, indent=1) + "\n")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Samples]]:
    """Return what `write` was given."""
    about = json.loads(path.read_text())
    scenarios = about.pop("scenarios")
    return about, {
        scenario: {server: [Sample(**each) for each in of_one] for server, of_one in samples.items()}
        for scenario, samples in scenarios.items()
    }
