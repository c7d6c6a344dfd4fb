"""The functions of `--hooks`, called when workers come and go.

    pre_fork(worker_id)                   in the supervisor, before a worker is forked
    post_fork(worker_id)                  in the worker, before the application is loaded
    worker_ready(worker_id, pid)          in the supervisor, when it serves
    worker_exit(worker_id, pid, status)   in the supervisor, when it is gone; a negative status is a signal

`worker_id` is the number of the slot: it stays the same for a successor.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fastserve.errors import AppLoadError, StartupError
from fastserve.worker.apploader import import_module

_log = logging.getLogger("fastserve")

_NAMES = ("pre_fork", "post_fork", "worker_ready", "worker_exit")


class Hooks:
    """The hooks of a module. One that raises is logged, and changes nothing."""

    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self._functions = functions

    def call(self, name: str, *arguments: object) -> None:
        """Call a hook, if there is one."""
        function = self._functions.get(name)
        if function is not None:
            try:
                function(*arguments)
            except (Exception, SystemExit):
                _log.exception("The hook %s failed", name)


def load_hooks(where: str | None) -> Hooks:
    """Return the hooks of a module, by name, or a file, by path; none when there is neither.

    Raises:
        StartupError: it cannot be imported, or has no hooks.
    """
    if where is None:
        return Hooks({})
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    functions = {name: getattr(module, name) for name in _NAMES if callable(getattr(module, name, None))}
    if not functions:
        raise StartupError(f"{where} has none of the hooks {', '.join(_NAMES)}")
    return Hooks(functions)


def _load_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except AppLoadError as error:
        raise StartupError(f"cannot load the hooks: {error}\n{error.trace}".rstrip()) from None


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fastserve_hooks_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise StartupError(f"cannot load the hooks: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise StartupError(f"cannot load the hooks: {path}: {error!r}") from None
    return module
