"""Run the frameworks' own test suites plain and with every application accelerated, and compare the outcomes.

python -m tests.equality.suites [--framework fastapi|starlette] [--version V] [--cache DIR]

Each suite has an environment of its own below the cache, made once from pinned versions; fastserve is the one of this
checkout. Exits with 1 upon any difference, and when hardly any request was answered by accelerated code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.equality.versions import Suite, suites

PROJECT = Path(__file__).parents[2]
PLUGIN = Path(__file__).with_name("wrapping")
CACHE = PROJECT / "build" / "equality"
ACCELERATORS = ("fastserve:accelerate", "equality_accelerators:served")
"""For any server, and as fastserve itself calls an application."""
ROUTING, ENDPOINT = "routing", "endpoint"
MOST_AGAIN = 20
"""Tests that end differently are run once more, without others beside them, unless they are more than this: on a busy
machine some run into timeouts of their own. What differs then too is a difference."""
CAN_WATCH = sys.version_info >= (3, 12)
"""Whether the plugin can tell which requests the framework's own code answered."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a suite left: outcomes by test, what failures said, and how many requests did what."""

    outcomes: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)

    def replaced(self, again: Run) -> Run:
        """Return this run with the outcomes of the tests that were run again."""
        return Run(self.outcomes | again.outcomes, self.said | again.said, self.requests)

    def total(self) -> str:
        """Return how many tests ended how."""
        return ", ".join(f"{count} {name}" for name, count in Counter(self.outcomes.values()).most_common())


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that ended otherwise when the applications were accelerated. None: there was no such test."""

    test: str
    plain: str | None
    accelerated: str | None


def differences(plain: Run, accelerated: Run) -> list[Difference]:
    """Return the tests whose outcomes differ, sorted."""
    return [
        Difference(test, plain.outcomes.get(test), accelerated.outcomes.get(test))
        for test in sorted(plain.outcomes | accelerated.outcomes)
        if plain.outcomes.get(test) != accelerated.outcomes.get(test)
    ]


class Environment:
    """The environment of one suite: its source and its virtual environment, made when they are not there."""

    def __init__(self, suite: Suite, cache: Path) -> None:
        self.suite = suite
        self._folder = cache.absolute() / f"{suite.name}-py{sys.version_info.major}.{sys.version_info.minor}"
        self.source = self._folder / suite.source
        self.python = self._folder / "venv" / "bin" / "python"

    def make(self) -> None:
        """Fetch and install what is missing, or was made from other pins."""
        stamp = self._folder / "made-from"
        made_from = f"{self.suite.sha256} {hashlib.sha256(self.suite.pins.read_bytes()).hexdigest()}"
        if stamp.exists() and stamp.read_text() == made_from:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        print(f"making the environment of {self.suite.name}", flush=True)
        venv.create(self.python.parents[1], with_pip=True)
        self._pip("install", "--requirement", self.suite.pins)
        self._fetch()
        stamp.write_text(made_from)

    def _pip(self, *arguments: str | Path) -> None:
        command = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True)

    def _fetch(self) -> None:
        wanted = self._folder / "source.txt"
        wanted.write_text(f"{self.suite.framework}=={self.suite.version} --hash=sha256:{self.suite.sha256}\n")
        self._pip(
            *("download", "--no-deps", "--no-binary", ":all:", "--require-hashes"),
            *("--dest", self._folder, "--requirement", wanted),
        )
        with tarfile.open(next(self._folder.glob("*.tar.gz"))) as archive:
            archive.extractall(self._folder, filter="data")

    def run(self, accelerator: str, tests: Sequence[str], processes: int) -> Run:
        """Run the suite, or some of its tests, with this accelerator; "" for a plain run."""
        results = self._folder / ("accelerated" if accelerator else "plain")
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        command = [
            *(str(self.python), "-m", "pytest", *(tests or ["tests"]), "-q", "--numprocesses", str(processes)),
            *("-p", "equality_plugin", "-p", "no:cacheprovider", "-o", "timeout=120", "--tb=short"),
            *(f"--ignore={path}" for path in self.suite.ignored),
        ]
        with (results / "output.txt").open("wb") as output:
            ended = subprocess.run(
                command,
                cwd=self.source,
                env=self.variables() | {"EQUALITY_RESULTS": str(results), "EQUALITY_ACCELERATOR": accelerator},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode not in (0, 1):  # pytest was interrupted, failed inside, was used wrongly, or found no test
            raise SystemExit(f"pytest ended with {ended.returncode}: see {results / 'output.txt'}")
        return read(results)

    def variables(self, *packages: str) -> dict[str, str]:
        """Return the environment variables with which fastserve is imported, and these packages of the source.

        Nothing else of this checkout: the suites have packages named `tests` of their own.
        """
        importable = self._folder / "-".join(("importable", *packages))
        shutil.rmtree(importable, ignore_errors=True)
        importable.mkdir()
        (importable / "fastserve").symlink_to(PROJECT / "fastserve")
        for package in packages:
            (importable / package).symlink_to(self.source / package)
        return os.environ | {"PYTHONPATH": os.pathsep.join((str(PLUGIN), str(importable)))}


def read(results: Path) -> Run:
    """Return what the plugin left in a folder."""
    found = json.loads((results / "outcomes.json").read_text())
    requests: Counter[str] = Counter()
    for path in results.glob("requests-*.json"):
        requests.update(json.loads(path.read_text()))
    return Run(found["outcomes"], found["said"], requests)


def spared(plain: Run, accelerated: Run, what: str) -> float:
    """Return the share of some work of the framework's own code that acceleration took over, 0 to 1."""
    return 1 - accelerated.requests[what] / plain.requests[what] if plain.requests[what] else 0.0


def describe(suite: Suite, accelerator: str, plain: Run, accelerated: Run) -> Iterable[str]:
    """Yield the lines of the report on one suite."""
    yield f"{suite.name} on Python {sys.version_info.major}.{sys.version_info.minor}, {accelerator}"
    yield f"  plain        {plain.total()}"
    yield f"  accelerated  {accelerated.total()}"
    count = accelerated.requests
    yield f"  clients      {count['apps accelerated']} with an accelerated app, {count['apps left alone']} without"
    yield f"  requests     {plain.requests['requests']} plain, {count['requests']} accelerated"
    for what in (ROUTING, ENDPOINT) if CAN_WATCH else ():
        share = spared(plain, accelerated, what)
        yield f"  own {what:<8} {plain.requests[what]} times plain, {count[what]} accelerated: {share:.1%} spared"
    found = differences(plain, accelerated)
    yield f"  differences  {len(found)}"
    for each in found:
        yield f"    {each.test}: {each.plain or 'absent'} -> {each.accelerated or 'absent'}"
        said = accelerated.said.get(each.test) or plain.said.get(each.test, "")
        yield from (f"      {line}" for line in said.splitlines()[-12:])


def prove(suite: Suite, arguments: argparse.Namespace) -> bool:
    """Run one suite plain and with each accelerator, print the reports, and tell whether they prove equality."""
    environment = Environment(suite, arguments.cache)
    environment.make()
    plain = environment.run("", arguments.tests, arguments.processes)
    accelerators = arguments.accelerator or ACCELERATORS
    proved = [_prove(suite, environment, accelerator, plain, arguments) for accelerator in accelerators]
    return all(proved)


def _prove(suite: Suite, environment: Environment, accelerator: str, plain: Run, arguments: argparse.Namespace) -> bool:
    accelerated = environment.run(accelerator, arguments.tests, arguments.processes)
    again = [each.test for each in differences(plain, accelerated)]
    if 0 < len(again) <= MOST_AGAIN:
        print(f"{suite.name}: again, one after the other: {', '.join(again)}", flush=True)
        plain = plain.replaced(environment.run("", again, 0))
        accelerated = accelerated.replaced(environment.run(accelerator, again, 0))
    print("\n".join(describe(suite, accelerator, plain, accelerated)), flush=True)
    if CAN_WATCH and spared(plain, accelerated, ENDPOINT) < arguments.least:
        print("  too few requests were accelerated: this proves nothing", flush=True)
        return False
    return not differences(plain, accelerated)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen suites. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.equality.suites", description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=("fastapi", "starlette"), help="only the suites of this one")
    parser.add_argument("--version", help="only this version")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="how many run a suite at once (%(default)s)")
    parser.add_argument(
        "--accelerator",
        action="append",
        help=f"module:function, may be given again (default: {', '.join(ACCELERATORS)})",
    )
    parser.add_argument(
        "--least", type=float, default=0.05, help="share of endpoints that must run accelerated (%(default)s)"
    )
    parser.add_argument("tests", nargs="*", help="only these tests of the suites, as for pytest")
    arguments = parser.parse_args(argv)
    chosen = suites(arguments.framework, arguments.version)
    if not chosen:
        parser.error("there is no such suite: see tests/equality/versions.py")
    proved = [prove(suite, arguments) for suite in chosen]
    return 0 if all(proved) else 1


if __name__ == "__main__":
    sys.exit(main())
