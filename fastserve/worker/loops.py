"""Event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from fastserve.errors import AppLoadError, SettingsError
from fastserve.worker.apploader import find_top_module, import_from_string, no_module


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop for a value of `--loop`.

    Raises:
        SettingsError: uvloop is asked for and not installed, or there is nothing of the name.
    """
    if name in ("asyncio", "none"):
        return asyncio.new_event_loop
    if ":" in name:
        return _import_factory(name)
    if name == "zuvloop":
        return _import_factory("zuvloop:new_event_loop")
    try:
        import uvloop
    except ImportError:
        if name == "auto":
            return asyncio.new_event_loop
        raise SettingsError("uvloop is not installed; install it with: pip install uvloop", "--loop") from None
    return uvloop.new_event_loop


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop for a value of `--loop`.

    Raises:
        SettingsError: see `loop_factory`; or what is named fails, or makes something else.
    """
    factory = loop_factory(name)
    try:
        loop: object = factory()
    except Exception as error:
        raise SettingsError(f"{name} raises {error!r}", "--loop") from error
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise SettingsError(f"{name} makes {loop!r}, which is no event loop", "--loop")
    return loop


def check_loop(name: str) -> None:
    """Check what can be checked of a value of `--loop` without importing a module of the user's.

    Raises:
        SettingsError: uvloop is asked for and not installed, or there is no module of the name.
    """
    if ":" not in name and name != "zuvloop":
        loop_factory(name)
        return
    package = name.partition(":")[0].partition(".")[0]
    if find_top_module(package) is None:
        raise SettingsError(str(no_module(package)), "--loop")


def loop_name(name: str) -> str:
    """Return the name of the event loop that a value of `--loop` stands for."""
    if ":" in name or name == "zuvloop":
        return name
    return "asyncio" if loop_factory(name) is asyncio.new_event_loop else "uvloop"


def _import_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory = import_from_string(name)
    except AppLoadError as error:
        raise SettingsError(f"{error}", "--loop") from None
    if not callable(factory):
        raise SettingsError(f"{name} is not callable: {factory!r}", "--loop")
    return cast("Callable[[], asyncio.AbstractEventLoop]", factory)
