"""The life of a worker, as far as it can be lived in this process. Real processes are tested elsewhere."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fastserve.settings import Settings
from fastserve.worker.worker import READY, Parent, run_worker
from tests.doubles import turns, until

SIGNAL = signal.SIGUSR2  # one that means nothing to pytest

LIVING = """
    events = []

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        await receive()
        events.append("start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("stop")
        await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Forget the modules and the signal handler of a test."""
    caplog.set_level(logging.INFO, "fastserve")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules, handler = set(sys.modules), signal.getsignal(SIGNAL)
    yield
    signal.signal(SIGNAL, handler)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


class PlayedOwner:
    """An owner that does something as soon as the worker is ready. stop: as the worker gave it."""

    stop_signals: tuple[signal.Signals, ...] = (SIGNAL,)

    def __init__(self, when_ready: Callable[[PlayedOwner], None]) -> None:
        self._when_ready = when_ready
        self.times_ready = 0

    def worker_is_ready(self) -> None:
        self.times_ready += 1
        self._when_ready(self)

    def watch(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        self.loop = loop
        self.stop = stop


def raise_signal(owner: PlayedOwner) -> None:
    signal.raise_signal(SIGNAL)


def settings(folder: Path, text: str, **options: Any) -> Settings:
    """Write a module with an application, and return the settings to serve it."""
    (folder / "mine.py").write_text(dedent(text))
    return Settings.from_options({"app": "mine:app", "app_dir": str(folder), **options})


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastserve"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_serves_until_a_signal_and_ends_with_0(
    loop: str, sock: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = PlayedOwner(raise_signal)
    assert run_worker(settings(tmp_path, LIVING, loop=loop), [sock], owner) == 0
    assert owner.times_ready == 1
    assert owner.loop.is_closed()
    assert sys.modules["mine"].events == ["start", "stop"]
    assert [line.partition(" [")[0] for line in lines(caplog)] == [
        "Started server process",
        "Waiting for application startup.",
        "Application startup complete.",
        "Shutting down",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
        "Finished server process",
    ]


def test_a_worker_stops_when_its_owner_says_so(sock: socket.socket, tmp_path: Path) -> None:
    owner = PlayedOwner(lambda owner: owner.stop())
    assert run_worker(settings(tmp_path, LIVING), [sock], owner) == 0
    assert sys.modules["mine"].events == ["start", "stop"]


def test_the_second_signal_arms_a_watchdog_that_is_gone_at_the_end(
    sock: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = LIVING.replace(
        'events.append("stop")', 'events.append("stop"); import asyncio; await asyncio.Event().wait()'
    )
    watchdog: list[Any] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *when, **how: watchdog.append((when, how)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: watchdog.append("cancelled"))

    def raise_twice(owner: PlayedOwner) -> None:
        signal.raise_signal(SIGNAL)
        assert watchdog == []
        owner.loop.call_later(0.05, signal.raise_signal, SIGNAL)

    assert run_worker(settings(tmp_path, text), [sock], PlayedOwner(raise_twice)) == 0
    assert watchdog == [((1.0,), {"exit": True}), "cancelled"]
    assert sys.modules["mine"].events == ["start", "stop"]


def test_a_signal_after_the_end_does_nothing(sock: socket.socket, tmp_path: Path) -> None:
    run_worker(settings(tmp_path, LIVING), [sock], PlayedOwner(raise_signal))
    signal.raise_signal(SIGNAL)
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "raise ValueError('no configuration')",
            'Error loading ASGI app: "mine" cannot be imported.\nTraceback (most recent call last):\n'
            '  File "{folder}/mine.py", line 1, in <module>\n'
            "    raise ValueError('no configuration')\n"
            "ValueError: no configuration",
        ),
        ("other = 1", 'Error loading ASGI app: module "mine" has no attribute "app".'),
    ],
    ids=["raises", "no attribute"],
)
def test_an_application_that_cannot_be_loaded_is_reported_and_the_status_3(
    text: str, line: str, sock: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = PlayedOwner(raise_signal)
    assert run_worker(settings(tmp_path, text), [sock], owner) == 3
    assert (lines(caplog), owner.times_ready) == ([line.format(folder=tmp_path)], 0)


def test_an_application_that_does_not_start_is_reported_and_the_status_3(
    sock: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = """
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            await receive()
    """
    owner = PlayedOwner(raise_signal)
    assert run_worker(settings(tmp_path, text), [sock], owner) == 3
    assert (lines(caplog)[-1], owner.times_ready) == ("Application startup failed: no database. Exiting.", 0)
    assert owner.loop.is_closed()


def test_what_an_application_leaves_running_is_cancelled_at_the_end(sock: socket.socket, tmp_path: Path) -> None:
    text = """
        import asyncio
        events = []
        tasks = []

        async def numbers():
            try:
                while True:
                    yield 1
            finally:
                events.append("generator closed")

        async def work():
            try:
                async for _ in numbers():
                    await asyncio.sleep(3600)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        async def app(scope, receive, send):
            await receive()
            tasks.append(asyncio.create_task(work()))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
    """
    assert run_worker(settings(tmp_path, text), [sock], PlayedOwner(lambda owner: owner.stop())) == 0
    assert sorted(sys.modules["mine"].events) == ["cancelled", "generator closed"]


# The parent process, at the other end of a socket.


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_the_parent_is_told_that_the_worker_is_ready(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    Parent(theirs).worker_is_ready()
    assert ours.recv(16) == READY


def test_a_parent_that_has_ended_need_not_be_told(channel: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channel
    ours.close()
    Parent(theirs).worker_is_ready()


@pytest.mark.usefixtures("loop_factory")
async def test_a_worker_stops_when_the_parent_has_ended_and_again_a_second_later(
    channel: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = channel
    loop = asyncio.get_running_loop()
    stops: list[float] = []
    Parent(theirs).watch(loop, lambda: stops.append(loop.time()))
    await turns()
    assert stops == []
    ours.close()
    await until(lambda: len(stops) == 2)
    assert 0.9 < stops[1] - stops[0] < 1.5
    assert lines(caplog) == ["The parent process has ended. Shutting down."]


def test_only_sigterm_stops_a_worker_that_has_a_parent(channel: tuple[socket.socket, socket.socket]) -> None:
    assert Parent(channel[1]).stop_signals == (signal.SIGTERM,)
