"""What fastserve runs on: the kind of build, the interpreter, the libraries."""

from __future__ import annotations

import platform
from importlib.metadata import version

from fastserve.wire.http1 import protocol


def is_compiled() -> bool:
    """Tell whether the hot path runs compiled."""
    return not protocol.__file__.endswith(".py")


def build() -> str:
    """Return the kind of build in words."""
    return "compiled" if is_compiled() else "pure Python"


def interpreter() -> str:
    """Return the name and version of the interpreter."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def library(name: str) -> str:
    """Return a library with its version, as in "uvloop 0.23.0". asyncio has none."""
    return name if name == "asyncio" else f"{name} {version(name)}"
