"""The version, and what it runs on."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version

import pytest

import fastserve
from fastserve.version import VERSION
from fastserve.wire.http1 import protocol
from fastserve.worker.build import build, interpreter, is_compiled, library


def test_the_package_has_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+|rc\d+|\.dev\d+)?", VERSION)
    assert fastserve.__version__ == VERSION


@pytest.mark.parametrize(
    ("file", "compiled", "words"),
    [
        ("protocol.py", False, "pure Python"),
        ("protocol.cpython-313-x86_64-linux-gnu.so", True, "compiled"),
        ("protocol.abi3.so", True, "compiled"),
    ],
)
def test_the_kind_of_build_is_that_of_the_hot_path(
    file: str, compiled: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "__file__", file)
    assert (is_compiled(), build()) == (compiled, words)


def test_the_interpreter_is_named_with_its_version() -> None:
    numbers = ".".join(map(str, sys.version_info[:3]))
    assert interpreter().startswith(f"{platform.python_implementation()} {numbers}")


@pytest.mark.parametrize("name", ["uvloop", "httptools", "h11"])
def test_a_library_is_named_with_its_version(name: str) -> None:
    assert library(name) == f"{name} {version(name)}"


def test_asyncio_has_no_version() -> None:
    assert library("asyncio") == "asyncio"
