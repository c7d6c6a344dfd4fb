"""Drive every example application of FastAPI's documentation, plain and accelerated, and compare everything observable.

python -m tests.equality.examples [--version V] [--cache DIR] [--most N] [NAME ...]

The examples come from FastAPI's source distribution and run in the environment that suites.py makes for it. Each is
asked what its OpenAPI document leads to. It is driven plain twice: what differs between these two, such as a time in a
header field, is counted as unstable and not compared. Exits with 1 upon any other difference.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.equality import driving
from tests.equality.comparing import Difference, differences, plain, report
from tests.equality.driving import Accelerator, Outcome, Request, Trace
from tests.equality.generating import generated

INSIDE = "EQUALITY_EXAMPLES_INSIDE"
"""Set in the process that runs in the environment of the suite."""

LEFT_OUT = {
    "docs_src.server_sent_events": "streams without an end are compared by FastAPI's own tests",
    "docs_src.stream_data": "sleeps between parts: compared by FastAPI's own tests",
    "docs_src.stream_json_lines": "sleeps between parts: compared by FastAPI's own tests",
}
"""Packages and modules that are not driven, and why."""


def names(source: Path) -> list[str]:
    """Return the modules of the documentation's examples, sorted."""
    found = [".".join(path.relative_to(source).with_suffix("").parts) for path in source.glob("docs_src/**/*.py")]
    return sorted(name for name in found if not name.endswith("__init__"))


def is_left_out(name: str) -> bool:
    """Tell whether a module is in LEFT_OUT, or in a package that is."""
    return any(name == each or name.startswith(f"{each}.") for each in LEFT_OUT)


class Example:
    """One example application."""

    def __init__(self, name: str, folder: Path, most: int) -> None:
        self._name = name
        self._folder = folder
        self._most = most
        self._count = 0

    def build(self, trace: Trace) -> Any:
        """Import the module anew, in a folder of its own, and return its application; None if it has none.

        Raises what the import raises.
        """
        self._count += 1
        place = self._folder / f"{self._name}-{self._count}"
        for needed in ("static", "templates", "dist"):
            (place / needed).mkdir(parents=True)
        os.chdir(place)
        for page in ("index.html", "404.html"):
            (place / "dist" / page).write_text(page)
        random.seed(7)
        time.perf_counter = lambda: 7.0  # one example tells in a field how long it took
        for module in [each for each in sys.modules if each.split(".")[0] in ("docs_src", "sqlmodel")]:
            del sys.modules[module]
        return getattr(importlib.import_module(self._name), "app", None)

    def asked(self) -> list[Request]:
        """Return the requests to it, at most so many: some of all kinds."""
        app = self.build(Trace())
        if not hasattr(app, "openapi"):
            return []
        every = generated(app.openapi())
        return every[:: max(1, -(-len(every) // self._most))]

    def differences(self, accelerator: Accelerator, asked: Sequence[Request]) -> tuple[list[Difference], int]:
        """Return what differs, and how many requests are unstable."""
        one, other, accelerated = (driving.outcomes(self.build, each, asked) for each in (plain, plain, accelerator))
        stable = [at for at in range(len(one)) if not list(differences([one[at]], [other[at]]))]
        return list(differences(_chosen(one, stable), _chosen(accelerated, stable))), len(one) - len(stable)


def _chosen(outcomes: Sequence[Outcome], indices: Sequence[int]) -> list[Outcome]:
    return [outcomes[at] for at in indices]


def inside(arguments: argparse.Namespace) -> int:
    """Drive the examples in this process. Return the exit code."""
    import fastserve

    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names:
            if is_left_out(name):
                count["left out"] += 1
                continue
            count.update(_drive(Example(name, Path(folder), arguments.most), name, fastserve.accelerate))
        os.chdir(Path(folder).parent)
    print(", ".join(f"{number} {what}" for what, number in count.items()))
    return 1 if count["different"] or not count["requests"] else 0


def _drive(example: Example, name: str, accelerator: Accelerator) -> dict[str, int]:
    try:
        asked = example.asked()
    except Exception as raised:  # of whatever kind: some examples show what does not work
        print(f"{name} cannot be imported: {type(raised).__name__}: {str(raised)[:100]}", flush=True)
        return {"not importable": 1}
    if not asked:
        return {"without an application": 1}
    found, unstable = example.differences(accelerator, asked)
    if found:
        print(f"{name}: {report(found, most=3)}", flush=True)
    if unstable:
        print(f"{name}: {unstable} of {len(asked)} requests are unstable", flush=True)
    return {"applications": 1, "requests": len(asked), "unstable": unstable, "different": len(found)}


def outside(arguments: argparse.Namespace) -> int:
    """Make the environment and run this module in it. Return the exit code."""
    from tests.equality.suites import PROJECT, Environment
    from tests.equality.versions import suites

    codes = []
    for suite in suites("fastapi", arguments.version):
        environment = Environment(suite, arguments.cache)
        environment.make()
        chosen = arguments.names or names(environment.source)
        command = [str(environment.python), "-m", "tests.equality.examples", "--most", str(arguments.most), *chosen]
        variables = environment.variables("docs_src") | {INSIDE: "1"}
        codes.append(subprocess.run(command, cwd=PROJECT, env=variables, check=False).returncode)
    return max(codes, default=2)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    from tests.equality.suites import CACHE

    parser = argparse.ArgumentParser(prog="python -m tests.equality.examples", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", help="only this version of FastAPI")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept (%(default)s)")
    parser.add_argument("--most", type=int, default=300, help="requests to each example (%(default)s)")
    parser.add_argument("names", nargs="*", help="only these modules, as docs_src.first_steps.tutorial001_py310")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Drive the chosen examples. Return the exit code."""
    arguments = parsed(argv)
    return inside(arguments) if os.environ.get(INSIDE) else outside(arguments)


if __name__ == "__main__":
    sys.exit(main())
