"""Let every application that a test client is given go through an accelerator, in whichever process it is.

These modules lie in a folder of their own, outside the package `tests`: the suites have packages of that name. The
folder is on PYTHONPATH, so that sitecustomize.py installs all this in every Python process of a suite: some of the
tests run in processes of their own, those of telemetry above all. Environment variables say what is to be done:

EQUALITY_ACCELERATOR  `module:function` of the accelerator; empty for a plain run
EQUALITY_RESULTS      the folder in which each process leaves requests-*.json

The applications are caught where the test clients are constructed. How often the framework's own functions run is seen
by sys.monitoring, plain as well as accelerated, which changes neither the functions nor their code: guards against
patched internals see nothing. Before Python 3.12 there is no such thing, and nothing is counted.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROUTING = "routing"
ENDPOINT = "endpoint"
"""What is seen of the framework's own work: its choice of a route, and its run of an endpoint."""

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(what: str) -> None:
    """Count one more of something, from any thread."""
    with _lock:
        _counts[what] += 1


def write_counts() -> None:
    """Leave what was counted in this process."""
    if folder := os.environ.get("EQUALITY_RESULTS"):
        (Path(folder) / f"requests-{os.getpid()}.json").write_text(json.dumps(_counts))


# What is watched.


def _inner(function: Any, name: str) -> CodeType:
    """Return the code of a function that is defined in another one."""
    return next(each for each in function.__code__.co_consts if isinstance(each, CodeType) and each.co_name == name)


_watched: dict[CodeType, str] = {}


def _watch(code: CodeType, what: str) -> None:
    if sys.version_info < (3, 12):
        return
    monitoring = sys.monitoring
    if not _watched:
        monitoring.use_tool_id(4, "equality")
        monitoring.register_callback(4, monitoring.events.PY_START, lambda started, offset: count(_watched[started]))
    _watched[code] = what
    monitoring.set_local_events(4, code, monitoring.events.PY_START)


def _watch_starlette(module: ModuleType) -> None:
    _watch(module.Router.app.__code__, ROUTING)
    _watch(_inner(module.request_response, "app"), ENDPOINT)


def _watch_fastapi(module: ModuleType) -> None:
    if "app" in vars(module.APIRouter):
        _watch(module.APIRouter.app.__code__, ROUTING)
    _watch(_inner(module.get_request_handler, "app"), ENDPOINT)


# What is wrapped.


def accelerator() -> Callable[[Any], Any] | None:
    """Return the accelerator that is asked for; None for a plain run."""
    module, _, attribute = os.environ.get("EQUALITY_ACCELERATOR", "").partition(":")
    if not module:
        return None
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), attribute)
    return found


def wrapped(app: Any) -> Any:
    """Return what the accelerator makes of an app, and count it."""
    accelerate = accelerator()
    made = app if accelerate is None else accelerate(app)
    count("apps left alone" if made is app else "apps accelerated")
    return made


def _wrap(client: type, transport: type, method: str) -> None:
    """Wrap the application that a client is constructed with, and count the requests of its transport."""
    original: Any = client.__init__  # type: ignore[misc]
    send = getattr(transport, method)

    @functools.wraps(original)
    def construct(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        original(self, wrapped(app), *args, **kwargs)

    @functools.wraps(send)
    def counted(self: Any, request: Any) -> Any:
        if request.url.scheme in ("http", "https"):
            count("requests")
        return send(self, request)

    client.__init__ = construct  # type: ignore[misc]
    setattr(transport, method, counted)


def _wrap_test_client(module: ModuleType) -> None:
    _wrap(module.TestClient, module._TestClientTransport, "handle_request")


def _wrap_transport(module: ModuleType) -> None:
    _wrap(module.ASGITransport, module.ASGITransport, "handle_async_request")


CHANGED: dict[str, Callable[[ModuleType], None]] = {
    "starlette.routing": _watch_starlette,
    "fastapi.routing": _watch_fastapi,
    "starlette.testclient": _wrap_test_client,
    "httpx": _wrap_transport,
    "httpx2": _wrap_transport,
}
"""What is done to modules when they have been imported. Nothing is imported for it: some tests depend on the order."""


class _Afterwards(Loader):
    """Loads a module as its own loader does, and then does something to it."""

    def __init__(self, loader: Loader, change: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class _Finder(MetaPathFinder):
    """Finds the modules that are to be changed, by the other finders."""

    def __init__(self) -> None:
        self._searching: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in CHANGED or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._searching.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Afterwards(spec.loader, CHANGED[name])
        return spec


def install() -> None:
    """Change the modules of this process when they are imported, and leave counts when it ends."""
    sys.meta_path.insert(0, _Finder())
    atexit.register(write_counts)
