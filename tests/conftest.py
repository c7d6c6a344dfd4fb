"""What the tests of all layers share: tests that are coroutines, both event loops, and logging put back as it was."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from hypothesis import settings

import fastserve
from fastserve import logs
from fastserve.worker.build import build, is_compiled

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# A test that waits for something that never happens fails after this time.
_TEST_S = 20.0


_PACKAGE = Path(fastserve.__file__).parent


# No test says how fast something has to be: machines that run tests are busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run what is not to be tested (see `_check_build`), and hear of signals in the background too.

    A shell starts what runs in its background with SIGINT ignored, and nohup what it starts with SIGHUP, which the
    programs that tests start would inherit.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    _check_build()


def _check_build() -> None:
    """Refuse to run with a compiled module that is older than its source, or without one that must be there."""
    is_pure = os.environ.get("FASTSERVE_PURE", "") not in ("", "0")
    outdated = [path.name for path in _PACKAGE.rglob(f"*{EXTENSION_SUFFIXES[0]}") if _is_outdated(path)]
    if outdated and not is_pure:
        pytest.exit(f"compiled from older sources: {', '.join(outdated)}; build them anew", returncode=3)
    if os.environ.get("FASTSERVE_EXTENSIONS") == "require" and is_compiled() is is_pure:
        pytest.exit(f"this is not the build that was asked for, but {build()}", returncode=3)


def pytest_report_header() -> str:
    """Tell which build is tested."""
    return f"fastserve: {build()}"


def _is_outdated(compiled: Path) -> bool:
    base = compiled.with_name(compiled.name.removesuffix(EXTENSION_SUFFIXES[0]))
    sources = [base.with_suffix(suffix) for suffix in (".py", ".pyx", ".pxd")]
    return any(source.exists() and source.stat().st_mtime > compiled.stat().st_mtime for source in sources)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """Run a coroutine test in each event loop. Without this fixture it runs in asyncio's."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return factories[request.param]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function; one that leaves an exception to the event loop fails."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    unhandled: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        async with asyncio.timeout(_TEST_S):
            await pyfuncitem.obj(**arguments)

    factory = cast(LoopFactory, pyfuncitem.funcargs.get("loop_factory", asyncio.new_event_loop))
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
    assert not unhandled
    return True


_LOGGERS = (None, "fastserve", "fastserve.access", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Put logging back as it was after a test that configures it."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate, logger.handlers[:], logger.filters[:]) for logger in loggers]
    trace_name = logging.getLevelName(5)
    yield
    for logger, (level, propagate, handlers, filters) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers
        logger.filters[:] = filters
        logger.disabled = False
    logging.addLevelName(5, trace_name)
    logs._seen.clear()
