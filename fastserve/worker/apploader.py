"""Importing the application that an import string names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Collection, Iterator
from functools import reduce
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from fastserve.asgi.types import ASGIApp
from fastserve.errors import AppLoadError, NestedServer
from fastserve.settings import AppSettings
from fastserve.worker.interfaces import adapt

_log = logging.getLogger("fastserve")

_GUARD = 'put that under: if __name__ == "__main__"'


def load_app(settings: AppSettings) -> ASGIApp:
    """Return the application.

    Raises:
        AppLoadError: it cannot be imported or made, or is not an ASGI application.
    """
    if settings.app is None:
        raise AppLoadError("no application is named")
    if settings.app_dir is not None:
        put_first_on_path(settings.app_dir)
    with _loading(settings.app):
        app = import_from_string(settings.app)
        return check_app(app, settings.app, factory=settings.factory, interface=settings.interface)


class _Loading(threading.local):
    """What a thread is loading. app: its name; None when there is nothing."""

    app: str | None = None


_current = _Loading()


@contextlib.contextmanager
def _loading(app: str) -> Iterator[None]:
    before, _current.app = _current.app, app
    try:
        yield
    finally:
        _current.app = before


def refuse_nested() -> None:
    """Do nothing, unless this thread is loading an application for a server: that would wait for this one to end.

    Raises:
        NestedServer: it is.
    """
    if _current.app is not None:
        raise NestedServer(f'"{_current.app}" starts a server while it is loaded; {_GUARD}')


def check_app(app: Any, name: str, *, factory: bool, interface: str = "auto") -> ASGIApp:
    """Return the application that this is, or makes, as one of ASGI 3. name: to say what is wrong with.

    Raises:
        AppLoadError: it cannot be made, is not an application, or is one of WSGI without what those need.
    """
    if factory:
        app = _make(app, name)
    elif _is_factory(app):
        _log.warning("ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly.")
        app = _make(app, name)
    if not callable(app):
        raise AppLoadError(f'"{name}" is not callable: {app!r}')
    return adapt(app, name, interface)


def put_first_on_path(folder: str) -> None:
    """Have modules looked for in this folder first, "" is the current one."""
    path = os.path.abspath(folder or os.curdir)
    if path != sys.path[0]:
        sys.path.insert(0, path)


def forget_modules(folders: Collection[str]) -> None:
    """Have modules of these folders imported anew: a program may have imported them before it was the server's parent.

    Those of a Python environment in there stay, as do extension modules, which cannot be imported twice.
    """
    libraries = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    inside = tuple(f"{folder}{os.sep}" for folder in folders)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        is_ours = name == "__main__" or name.partition(".")[0] == "fastserve"
        if file.startswith(inside) and file.endswith(".py") and not file.startswith(libraries) and not is_ours:
            del sys.modules[name]
    importlib.invalidate_caches()


def import_from_string(name: str) -> Any:
    """Return what `module:attribute[.attribute]` names.

    Raises:
        AppLoadError: there is no such thing, or its module fails to import.
    """
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        hint = _hint(name) or ', for example "main:app"'
        raise AppLoadError(f'"{name}" is not of the form "module:attribute"{hint}')
    if "/" in module_name or module_name.endswith(".py"):
        raise AppLoadError(f'"{name}" names a file, not a module{_hint(name)}')
    module = import_module(module_name)
    try:
        return reduce(getattr, attributes.split("."), module)
    except AttributeError:
        found = [name for name, value in vars(module).items() if _looks_like_app(value)]
        hint = f'; is it "{module_name}:{found[0]}"?' if found else ""
        raise AppLoadError(f'module "{module_name}" has no attribute "{attributes}"{hint}') from None


def _hint(name: str) -> str:
    """Return what someone may have meant who has named a file, or has put no colon; nothing without such a module."""
    path, _, attributes = name.partition(":")
    module = path.removesuffix(".py").strip("./").replace("/", ".")
    guesses = [(module, attributes or "app")]
    if not attributes and path == module:
        before, _, last = module.rpartition(".")
        guesses.append((before, last))
    found = next((f"{module}:{attribute}" for module, attribute in guesses if _is_module(module)), None)
    return f'; is it "{found}"?' if found is not None else ""


def _is_module(name: str) -> bool:
    """Tell whether a module of this name has a file. Nothing is imported."""
    first, *others = name.split(".")
    spec = find_top_module(first)
    path = first
    for part in others:
        path = f"{path}.{part}"
        inside = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(path, inside) if inside is not None and part else None
    return spec is not None and spec.has_location


def find_top_module(name: str) -> ModuleSpec | None:
    """Return where a module that is in no package would be imported from, None when there is none of this name."""
    try:
        return importlib.util.find_spec(name) if name else None
    except ValueError:
        return None  # It was made by hand, as __main__ may be.


def _looks_like_app(value: Any) -> bool:
    """Tell whether this is an ASGI application as frameworks make them: a coroutine function of three arguments."""
    if inspect.isclass(value):
        return False
    function = value if inspect.isfunction(value) else type(value).__call__ if callable(value) else None
    return inspect.iscoroutinefunction(function) and _parameters(value) == 3


def _parameters(value: Any) -> int:
    try:
        return len(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return 0


def import_module(name: str) -> ModuleType:
    """Return a module.

    Raises:
        AppLoadError: there is none of this name, or it fails to import.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise no_module(error.name) from None
        raise AppLoadError(f'"{name}" cannot be imported', _own_trace(error)) from None
    except NestedServer:
        raise
    except (Exception, SystemExit) as error:
        raise AppLoadError(_why_not_imported(name, error), _own_trace(error)) from None


def no_module(name: str) -> AppLoadError:
    """Return the error for a module that there is not."""
    place = sys.path[0] or os.getcwd()  # it is empty for `python -c`
    return AppLoadError(f'there is no module "{name}" in {place} or elsewhere on sys.path')


def _why_not_imported(name: str, error: BaseException) -> str:
    # That of `asyncio.run` and others like it, when the server runs in an event loop that the program has.
    if isinstance(error, RuntimeError) and str(error).endswith("cannot be called from a running event loop"):
        return f'"{name}" runs an event loop while it is loaded; {_GUARD}'
    return f'"{name}" cannot be imported'


def _make(factory: Any, name: str) -> Any:
    try:
        made = factory()
    except NestedServer:
        raise
    except (Exception, SystemExit) as error:
        raise AppLoadError(f'the factory "{name}" failed', _own_trace(error)) from None
    if inspect.iscoroutine(made):
        made.close()
        raise AppLoadError(f'the factory "{name}" is a coroutine function; it must be a plain one')
    return made


def _is_factory(app: Any) -> bool:
    """Tell whether this cannot be an application because it takes no argument."""
    if not inspect.isfunction(app):
        return False
    return not inspect.signature(app).parameters


def _own_trace(error: BaseException) -> str:
    """Return the traceback without the frames of this module and of the import machinery."""
    trace = traceback.TracebackException.from_exception(error)
    _drop_frames(trace)
    return "".join(trace.format())


def _drop_frames(trace: traceback.TracebackException) -> None:
    hidden = (__file__, importlib.__file__)
    kept = [
        frame for frame in trace.stack if frame.filename not in hidden and "importlib._bootstrap" not in frame.filename
    ]
    trace.stack = traceback.StackSummary.from_list(kept)
    for chained in (trace.__cause__, trace.__context__):
        if chained is not None:
            _drop_frames(chained)
