"""Which versions of the frameworks the accelerator was verified with: with others it does nothing.

Verified means that the frameworks' own test suites give the same results with and without it (tests/equality).

It stands in for code of FastAPI and Starlette, so their versions count exactly. What it takes of pydantic and anyio are
the validators, the serializers and the threads that the framework takes, and it calls them as the framework does: there
a range counts, of which both ends were verified.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import metadata
from typing import Any

_two_numbers = re.compile(r"(?:[0-9]+!)?([0-9]+)(?:\.([0-9]+))?").match

VERIFIED = {
    "fastapi": ("0.161.1", "0.162.7", "0.163.2", "0.164.0", "0.165.0"),
    "starlette": ("1.7.0", "1.8.0", "1.9.0", "1.10.0"),
}
"""The versions of the frameworks: each of FastAPI tried with the first and the last Starlette, the last with all."""

RANGES = {"anyio": ((4, 10), (5, 0)), "pydantic": ((2, 12), (3, 0))}
"""Of other packages: the first version, and the first that is too new, each as its first two numbers."""


def is_of_a_framework(app: Any) -> bool:
    """Tell whether this is an application of FastAPI or Starlette."""
    starlette = sys.modules.get("starlette.applications")
    return starlette is not None and isinstance(app, starlette.Starlette)


def why_not(app: Any) -> str | None:
    """Return why an application cannot be accelerated at all, or None."""
    if not is_of_a_framework(app):
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
    if package in RANGES:
        first, too_new = RANGES[package]
        is_verified = first <= _numbers(version) < too_new
    else:
        is_verified = version in VERIFIED[package]
    return (
        None if is_verified else f"{package} {version} is not a version that this was verified with ({_known(package)})"
    )


def _known(package: str) -> str:
    if package in VERIFIED:
        return ", ".join(VERIFIED[package])
    first, too_new = (".".join(map(str, numbers)) for numbers in RANGES[package])
    return f"from {first} on, before {too_new}"


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version (PEP 440); zeros where it begins otherwise."""
    match = _two_numbers(version)
    return (int(match[1]), int(match[2] or 0)) if match is not None else (0, 0)


@cache
def _version(package: str) -> str:
    return metadata.version(package)
