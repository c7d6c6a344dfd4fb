"""Event loops."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
import uvloop

from fastserve.errors import SettingsError
from fastserve.worker.loops import check_loop, loop_factory, loop_name, new_loop


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


@pytest.mark.parametrize("name", ["auto", "none", "asyncio", "uvloop", "asyncio:new_event_loop", "asyncio.absent:x"])
def test_what_may_be_an_event_loop_passes_the_check(name: str) -> None:
    check_loop(name)


@pytest.mark.parametrize("name", ["absent:new_event_loop", "absent.loops:new_event_loop"])
def test_a_loop_of_a_module_that_there_is_not_does_not(name: str) -> None:
    with pytest.raises(SettingsError, match=r'^--loop: there is no module "absent" in '):
        check_loop(name)


def test_the_check_of_a_loop_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_loop.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    check_loop("own_loop:new_event_loop")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:sep", "os:sep is not callable: '/'"),
        ("math:nan", "math:nan is not callable: nan"),
        ("os:cpu_count", "os:cpu_count makes {}, which is no event loop"),
        ("math:sqrt", "math:sqrt raises TypeError('math.sqrt() takes exactly one argument (0 given)')"),
    ],
)
def test_what_makes_no_event_loop_is_an_error_that_says_so(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        new_loop(name)
    assert str(raised.value) == f"--loop: {message.format(os.cpu_count())}"
