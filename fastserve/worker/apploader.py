"""Importing the application that an import string names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from functools import reduce
from types import ModuleType
from typing import Any, cast

from fastserve.asgi.types import ASGIApp
from fastserve.errors import AppLoadError
from fastserve.settings import AppSettings


def load_app(settings: AppSettings) -> ASGIApp:
    """Return the application.

    Raises:
        AppLoadError: it cannot be imported or made, or is not an ASGI application.
    """
    if settings.app is None:
        raise AppLoadError("no application is named")
    put_first_on_path(settings.app_dir)
    found = import_from_string(settings.app)
    app = _make(found, settings.app) if settings.factory else found
    if not callable(app):
        raise AppLoadError(f'"{settings.app}" is not callable: {app!r}')
    if not settings.factory and _is_factory(app):
        raise AppLoadError(f'"{settings.app}" takes no arguments, so it is not an application. Is it a --factory?')
    return cast(ASGIApp, app)


def put_first_on_path(folder: str) -> None:
    """Have modules looked for in this folder first, "" is the current one."""
    path = os.path.abspath(folder or os.curdir)
    if path != sys.path[0]:
        sys.path.insert(0, path)


def import_from_string(name: str) -> Any:
    """Return what `module:attribute[.attribute]` names.

    Raises:
        AppLoadError: there is no such thing, or its module fails to import.
    """
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        raise AppLoadError(f'"{name}" is not of the form "module:attribute", for example "main:app"')
    module = import_module(module_name)
    try:
        return reduce(getattr, attributes.split("."), module)
    except AttributeError:
        raise AppLoadError(f'module "{module_name}" has no attribute "{attributes}"') from None


def import_module(name: str) -> ModuleType:
    """Return a module.

    Raises:
        AppLoadError: there is none of this name, or it fails to import.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise AppLoadError(f'there is no module "{error.name}" in {sys.path[0]} or elsewhere on sys.path') from None
        raise AppLoadError(f'"{name}" cannot be imported', _own_trace(error)) from None
    except (Exception, SystemExit) as error:
        raise AppLoadError(f'"{name}" cannot be imported', _own_trace(error)) from None


def _make(factory: Any, name: str) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise AppLoadError(f'the factory "{name}" failed', _own_trace(error)) from None


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
