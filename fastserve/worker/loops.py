"""Event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastserve.errors import SettingsError


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop for a value of `--loop`.

    Raises:
        SettingsError: uvloop is asked for and not installed.
    """
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if name == "auto":
            return asyncio.new_event_loop
        raise SettingsError("--loop: uvloop is not installed; install it with: pip install uvloop") from None
    return uvloop.new_event_loop


def loop_name(name: str) -> str:
    """Return the name of the event loop that a value of `--loop` stands for."""
    return "asyncio" if loop_factory(name) is asyncio.new_event_loop else "uvloop"
