"""A pytest plugin that writes down how every test of a suite ended. suites.py loads it with -p."""

from __future__ import annotations

import json
import os
from pathlib import Path

import equality_wrapping
import pytest


class Outcomes:
    """How every test ended: by node id, the outcomes of its phases joined, and what was said of failures."""

    def __init__(self, folder: Path, *, is_worker: bool) -> None:
        self._folder = folder
        self._is_worker = is_worker
        self._phases: dict[str, dict[str, str]] = {}
        self._said: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest: of the process that collects the reports."""
        outcome = f"x{report.outcome}" if hasattr(report, "wasxfail") else report.outcome
        self._phases.setdefault(report.nodeid, {})[str(report.when)] = outcome
        if report.failed:
            self._said[report.nodeid] = report.longreprtext

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """See pytest: modules that cannot be collected, or that skip themselves."""
        if not report.passed:
            self._phases.setdefault(report.nodeid, {})["collect"] = report.outcome
            self._said[report.nodeid] = report.longreprtext

    def pytest_sessionfinish(self) -> None:
        """Write down what was seen in this process."""
        equality_wrapping.write_counts()  # a process of xdist may end without its exit functions
        if not self._is_worker:
            found = {"outcomes": {key: joined(phases) for key, phases in self._phases.items()}, "said": self._said}
            (self._folder / "outcomes.json").write_text(json.dumps(found))


def joined(phases: dict[str, str]) -> str:
    """Return one word for a test: the first outcome of its phases that is not `passed`, and where it was."""
    for when in ("collect", "setup", "call", "teardown"):
        if phases.get(when, "passed") != "passed":
            return phases[when] if when == "call" else f"{phases[when]} in {when}"
    return "passed"


def pytest_configure(config: pytest.Config) -> None:
    """Register what notes the outcomes."""
    folder = Path(os.environ["EQUALITY_RESULTS"])
    config.pluginmanager.register(Outcomes(folder, is_worker=hasattr(config, "workerinput")))
