"""Which versions of the frameworks the accelerator was verified with: with others it does nothing.

Verified means that the frameworks' own test suites give the same results with and without it (tests/equality).
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata
from typing import Any

VERIFIED = {
    "fastapi": ("0.165.0",),
    "starlette": ("1.10.0",),
    "pydantic": ("2.14.3",),
    "anyio": ("4.16.0",),
}
"""The versions of each package. What an application does not use need not be there."""


def why_not(app: Any) -> str | None:
    """Return why an application cannot be accelerated at all, or None."""
    if "starlette.applications" not in sys.modules:
        return "it is not an application of FastAPI or Starlette"
    from starlette.applications import Starlette

    if not isinstance(app, Starlette):
        return "it is not an application of FastAPI or Starlette"
    needed = ["starlette", "anyio"]
    if framework(app) == "fastapi":
        needed += ["fastapi", "pydantic"]
    return next((reason for reason in map(_unverified, needed) if reason is not None), None)


def framework(app: Any) -> str:
    """Return of which framework an application is: "fastapi" or "starlette"."""
    fastapi = sys.modules.get("fastapi.applications")
    return "fastapi" if fastapi is not None and isinstance(app, fastapi.FastAPI) else "starlette"


def describe(app: Any) -> str:
    """Return the framework of an application with its version."""
    name = framework(app)
    return f"{name} {_version(name)}"


def _unverified(package: str) -> str | None:
    version = _version(package)
    if version in VERIFIED[package]:
        return None
    return f"{package} {version} is not a version that this was verified with ({', '.join(VERIFIED[package])})"


@cache
def _version(package: str) -> str:
    return metadata.version(package)
