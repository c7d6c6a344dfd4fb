"""fastserve: a multi-process ASGI server."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fastserve.sources import prefer_sources

if os.environ.get("FASTSERVE_PURE", "") not in ("", "0"):
    prefer_sources()  # before anything that may be compiled is imported

from fastserve.version import VERSION

if TYPE_CHECKING:
    from fastserve.accel import accelerate
    from fastserve.cli import leave as main
    from fastserve.config import Config
    from fastserve.server import Server, run, serve

__version__ = VERSION

__all__ = ["Config", "Server", "__version__", "accelerate", "main", "run", "serve"]

# What programs use is imported when it is asked for: workers and tools import parts of this package only.
_PLACES = {
    "accelerate": ("accel", "accelerate"),
    "Config": ("config", "Config"),
    "Server": ("server", "Server"),
    "main": ("cli", "leave"),
    "run": ("server", "run"),
    "serve": ("server", "serve"),
}
_MODULES = ("config", "logging", "server", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fastserve.{name}")
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(importlib.import_module(f"fastserve.{module}"), attribute)
    raise AttributeError(f"module 'fastserve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES, *_MODULES})
