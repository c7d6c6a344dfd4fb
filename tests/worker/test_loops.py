"""Event loops."""

from __future__ import annotations

import asyncio
import sys

import pytest
import uvloop

from fastserve.errors import SettingsError
from fastserve.worker.loops import loop_factory, loop_name


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("asyncio", asyncio.SelectorEventLoop, "asyncio"),
        ("uvloop", uvloop.Loop, "uvloop"),
        ("auto", uvloop.Loop, "uvloop"),
    ],
)
def test_each_name_makes_its_event_loop(name: str, kind: type[object], shown: str) -> None:
    loop = loop_factory(name)()
    loop.close()
    assert isinstance(loop, kind)
    assert loop_name(name) == shown


def test_each_call_makes_a_new_event_loop() -> None:
    first, second = loop_factory("auto")(), loop_factory("auto")()
    first.close()
    second.close()
    assert first is not second


def test_auto_is_asyncio_where_uvloop_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = loop_factory("auto")()
    loop.close()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert loop_name("auto") == "asyncio"


def test_uvloop_that_is_asked_for_and_not_installed_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(SettingsError, match=r"^--loop: uvloop is not installed; install it with: pip install uvloop$"):
        loop_factory("uvloop")
