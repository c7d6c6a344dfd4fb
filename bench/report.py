"""`python -m bench.report`: put measurements into docs/performance.md, and draw the charts beside it.

The page has places for tables: what stands between `<!-- bench: NAME -->` and `<!-- end -->` is written anew, for each
scenario of bench/scenarios.py by its name, and for `about`, which says on what machine, when and with which versions.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt

from bench import results
from bench.measure import Sample, median
from bench.results import FIGURES, Samples
from bench.scenarios import ROUTES, SCENARIOS, SUMMARIES

PAGE = Path("docs/performance.md")
RESULTS = Path("docs/performance.json")

_OURS, _OTHERS = "#d9480f", "#868e96"
_SHADES = ("#d9480f", "#ffa94d", "#1c7ed6", "#37b24d", "#ae3ec9", "#868e96")
_places = re.compile(r"(<!-- bench: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write the page and the charts."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help=f"what was measured, {RESULTS}")
    options = parser.parse_args()
    about, measured = results.read(options.results)
    PAGE.write_text(filled(PAGE.read_text("utf-8"), about, measured), "utf-8")
    chart("json", "A constant JSON answer, no access log", measured)
    chart("fastapi-json", "FastAPI and other frameworks: plain JSON", measured)
    if all(name in measured for name in ROUTES):
        chart_of_routes(measured)
    return 0


def filled(page: str, about: dict[str, Any], measured: dict[str, Samples]) -> str:
    """Return the page with all that was measured. Places for what was not measured say so."""

    def fill(place: re.Match[str]) -> str:
        return f"{place[1]}\n{_content(place[2], about, measured)}\n\n{place[3]}"

    return _places.sub(fill, page)


def _content(name: str, about: dict[str, Any], measured: dict[str, Samples]) -> str:
    if name == "about":
        return describe(about)
    if name in SUMMARIES:
        return _summary(SUMMARIES[name], measured)
    if name not in measured:
        return "Not measured."
    warning = results.disturbance(measured[name])
    return results.table(measured[name], SCENARIOS[name].figures) + (f"\n\n{warning}" if warning else "")


def _summary(scenarios: Sequence[str], measured: dict[str, Samples]) -> str:
    found = [name for name in scenarios if {"fastserve", "uvicorn"} <= measured.get(name, {}).keys()]
    if not found:
        return "Not measured."
    titles = {name: SCENARIOS[name].title.removeprefix("FastAPI: ").partition(", each server")[0] for name in found}
    return results.comparison({titles[name]: measured[name] for name in found}, "fastserve", "uvicorn")


def describe(about: dict[str, Any]) -> str:
    """Return in words how it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    node = f", Node.js {about['node']}" if about["node"] else ""
    lines = [
        f"Measured {about['at']} on {about['cpus']} CPUs ({about['cpu']}), {about['system']}, {about['python']}{node}; "
        f"{versions}; {about['rounds']} rounds of {about['seconds']:g} s."
    ]
    if about["quick"]:
        lines.append("**This was a quick run** (`--quick`): the figures show the order of things, and no more.")
    return "\n".join(lines)


def chart(scenario: str, title: str, measured: dict[str, Samples]) -> None:
    """Draw what the servers did in one scenario: throughput, mean and 99th percentile of the latency."""
    if scenario not in measured:
        return
    medians = {name: median(of_one) for name, of_one in measured[scenario].items()}
    figure, axes = plt.subplots(1, 3, figsize=(12, 0.45 * len(medians) + 1.2), sharey=True)
    panels: Sequence[tuple[str, str, Callable[[Sample], float]]] = (
        ("Requests per second (more is better)", "requests_per_s", lambda seen: seen.requests_per_s),
        ("Mean latency, ms (less is better)", "mean_us", lambda seen: seen.mean_us / 1000),
        ("99th percentile, ms (less is better)", "p99_us", lambda seen: seen.p99_us / 1000),
    )
    for axis, (heading, name, value) in zip(axes, panels, strict=True):
        values = [value(seen) for seen in medians.values()]
        colors = [_OURS if server.startswith("fastserve") else _OTHERS for server in medians]
        bars = axis.barh(list(medians), values, color=colors)
        axis.bar_label(bars, [FIGURES[name].show(getattr(seen, name)) for seen in medians.values()], padding=3)
        axis.set_title(heading, fontsize=10)
        axis.set_xlim(0, max(values) * 1.3)
        axis.xaxis.set_visible(False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.suptitle(title)
    _save(figure, scenario)


def chart_of_routes(measured: dict[str, Samples]) -> None:
    """Draw the requests per second of all servers for Python on each route of the FastAPI application."""
    servers = [name for name in measured[ROUTES[0]] if all(name in measured[route] for route in ROUTES)]
    figure, axis = plt.subplots(figsize=(12, 5))
    width = 0.8 / len(servers)
    for index, server in enumerate(servers):
        values = [median(measured[route][server]).requests_per_s for route in ROUTES]
        places = [place + index * width for place in range(len(ROUTES))]
        bars = axis.bar(places, values, width, label=server, color=_SHADES[index % len(_SHADES)])
        axis.bar_label(bars, [f"{value / 1000:.1f}k" for value in values], fontsize=7, padding=2)
    titles = [SCENARIOS[route].title.removeprefix("FastAPI: ") for route in ROUTES]
    axis.set_xticks([place + 0.4 - width / 2 for place in range(len(ROUTES))], [_wrapped(title) for title in titles])
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("FastAPI routes: requests per second (more is better)")
    axis.legend(frameon=False, loc="upper right", bbox_to_anchor=(0.8, 1))
    _save(figure, "fastapi-routes")


def _wrapped(title: str) -> str:
    words = title.split(" ")
    half = len(words) // 2
    return title if len(words) < 3 else f"{' '.join(words[:half])}\n{' '.join(words[half:])}"


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(PAGE.with_name(f"performance-{name}.png"), dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
