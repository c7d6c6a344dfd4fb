"""A pytest plugin: every application of a framework's own test suite goes through an accelerator.

It lies in a folder of its own, outside the package `tests`: the suites have packages of that name. suites.py loads it
with -p into the environment of a suite, and says in environment variables what it is to do:

EQUALITY_ACCELERATOR  `module:function` of the accelerator; empty for a plain run
EQUALITY_RESULTS      the folder in which to leave outcomes.json and one requests-*.json for each process

The applications are caught where the test clients are constructed. How often the framework's own functions run is seen
by sys.monitoring, plain as well as accelerated, which changes neither the functions nor their code: guards against
patched internals see nothing. Before Python 3.12 there is no such thing, and nothing is counted.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROUTING = "routing"
ENDPOINT = "endpoint"
"""What is seen of the framework's own work: its choice of a route, and its run of an endpoint."""

_counters: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)


def count(what: str) -> None:
    """Count one more of something, from any thread."""
    next(_counters[what])


def counts() -> dict[str, int]:
    """Return how many there were of each thing. To be called once, at the end."""
    return {what: next(counter) for what, counter in _counters.items()}


def _inner(function: Any, name: str) -> CodeType:
    """Return the code of a function that is defined in another one."""
    return next(each for each in function.__code__.co_consts if isinstance(each, CodeType) and each.co_name == name)


def framework_code() -> dict[CodeType, str]:
    """Return what to watch: the code of the frameworks that an accelerated request does not run."""
    from starlette import routing

    found = {routing.Router.app.__code__: ROUTING, _inner(routing.request_response, "app"): ENDPOINT}
    try:
        from fastapi.routing import APIRouter, get_request_handler
    except ImportError:
        return found
    return found | {APIRouter.app.__code__: ROUTING, _inner(get_request_handler, "app"): ENDPOINT}


def watch(code: dict[CodeType, str]) -> None:
    """Count how often each of these starts, if this Python can tell."""
    if sys.version_info < (3, 12):
        return
    monitoring = sys.monitoring
    tool = next(number for number in (4, 3, 5) if monitoring.get_tool(number) is None)
    monitoring.use_tool_id(tool, "equality")
    monitoring.register_callback(tool, monitoring.events.PY_START, lambda started, offset: count(code[started]))
    for each in code:
        monitoring.set_local_events(tool, each, monitoring.events.PY_START)


def load(name: str) -> Callable[[Any], Any]:
    """Import `module:function`."""
    module, _, attribute = name.partition(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), attribute)
    return found


def wrapped(app: Any, accelerator: Callable[[Any], Any]) -> Any:
    """Return what the accelerator makes of an app, and count it."""
    accelerated = accelerator(app)
    count("apps left alone" if accelerated is app else "apps accelerated")
    return accelerated


def _wrap_constructor(client: type, accelerator: Callable[[Any], Any]) -> None:
    original = client.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def construct(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        original(self, wrapped(app, accelerator), *args, **kwargs)

    client.__init__ = construct  # type: ignore[misc]


def _count_calls(transport: type, method: str) -> None:
    original = getattr(transport, method)

    @functools.wraps(original)
    def counted(self: Any, request: Any) -> Any:
        if request.url.scheme in ("http", "https"):
            count("requests")
        return original(self, request)

    setattr(transport, method, counted)


def _test_clients() -> Iterator[tuple[type, type, str]]:
    """Yield what is given an application, and what sends requests to it by which method."""
    from starlette import testclient

    yield testclient.TestClient, testclient._TestClientTransport, "handle_request"
    for name in ("httpx", "httpx2"):
        with contextlib.suppress(ImportError):
            transport = importlib.import_module(name).ASGITransport
            yield transport, transport, "handle_async_request"


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
        (self._folder / f"requests-{os.getpid()}.json").write_text(json.dumps(counts()))
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
    """Wrap the clients in this process, if that is asked for, and count in any case."""
    config.pluginmanager.register(
        Outcomes(Path(os.environ["EQUALITY_RESULTS"]), is_worker=hasattr(config, "workerinput"))
    )
    watch(framework_code())
    name = os.environ.get("EQUALITY_ACCELERATOR")
    for client, transport, method in _test_clients():
        _count_calls(transport, method)
        if name:
            _wrap_constructor(client, load(name))
