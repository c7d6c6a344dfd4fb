"""The life of a worker, as far as it can be lived in this process. Real processes are tested elsewhere."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fastserve.errors import AppLoadError
from fastserve.settings import Settings
from fastserve.worker import worker as worker_module
from fastserve.worker.apploader import load_app
from fastserve.worker.owner import Owner
from fastserve.worker.scoreboard import Scoreboard
from fastserve.worker.server import Place, Server
from fastserve.worker.worker import Signals, run_worker

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
    """Forget the modules, the environment and the signal handlers of a test."""
    caplog.set_level(logging.INFO, "fastserve")
    monkeypatch.setenv("FASTSERVE_WORKER_ID", "")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(worker_module, "_announce_cut", lambda: None)  # It would come while another test runs.
    modules = set(sys.modules)
    handlers = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGUSR1)}
    yield
    faulthandler.cancel_dump_traceback_later()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


class PlayedOwner:
    """An owner that does something as soon as the worker is ready. said: what the worker told it, in order."""

    signals: tuple[signal.Signals, ...] = (SIGNAL,)
    unheeded = 0  # signals, which are to have no effect

    def __init__(self, when_ready: Callable[[PlayedOwner], object]) -> None:
        self._when_ready = when_ready
        self.said: list[str] = []
        self.told: list[int] = []
        self.heard = 0

    def worker_is_ready(self) -> None:
        self.said.append("ready")
        self._when_ready(self)

    def worker_failed(self, text: str) -> None:
        self.said.append(f"failed: {text}")

    def worker_is_worn(self, reason: str) -> None:
        self.said.append(f"worn: {reason}")

    def hear(self, number: int) -> bool:
        self.heard += 1
        return self.heard > self.unheeded

    def tell(self, number: int, server: Server) -> None:
        self.told.append(number)
        server.stop()

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        self.loop = loop
        self.server = server


def raise_signal(owner: PlayedOwner) -> None:
    signal.raise_signal(SIGNAL)


def settings(folder: Path, text: str, **options: Any) -> Settings:
    """Write a module with an application, and return the settings to serve it."""
    (folder / "mine.py").write_text(dedent(text))
    return Settings.from_options({"app": "mine:app", "app_dir": str(folder), **options})


def run(given: Settings, sock: socket.socket, owner: Owner, place: Place | None = None) -> int:
    """Run a worker to its end."""
    return run_worker(given, [sock], owner, load=lambda: load_app(given.app), place=place)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastserve"]


@pytest.mark.parametrize(("policy", "is_frozen"), [("server", True), ("default", False)])
def test_a_worker_freezes_what_is_there_when_it_is_ready_if_it_is_to(
    policy: str, is_frozen: bool, sock: socket.socket, tmp_path: Path
) -> None:
    frozen: list[bool] = []

    def note(owner: PlayedOwner) -> None:
        frozen.append(gc.get_freeze_count() > 0)
        raise_signal(owner)

    assert run(settings(tmp_path, LIVING, gc=policy), sock, PlayedOwner(note)) == 0
    assert frozen == [is_frozen]
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_serves_until_a_signal_and_ends_with_0(
    loop: str, sock: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = PlayedOwner(raise_signal)
    assert run(settings(tmp_path, LIVING, loop=loop), sock, owner) == 0
    assert (owner.said, owner.told) == (["ready"], [SIGNAL])
    assert sock.fileno() == -1
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


def test_a_signal_that_the_owner_does_not_heed_has_no_effect_neither_early_nor_later(
    sock: socket.socket, tmp_path: Path
) -> None:
    def raise_twice(owner: PlayedOwner) -> None:
        signal.raise_signal(SIGNAL)
        signal.raise_signal(SIGNAL)

    owner = PlayedOwner(raise_twice)
    owner.unheeded = 2
    text = f"import signal\nsignal.raise_signal({int(SIGNAL)})\n{dedent(LIVING)}"
    assert run(settings(tmp_path, text), sock, owner) == 0
    assert (owner.said, owner.heard, owner.told) == (["ready"], 3, [SIGNAL])


def test_a_worker_stops_when_its_owner_says_so(sock: socket.socket, tmp_path: Path) -> None:
    owner = PlayedOwner(lambda owner: owner.server.stop())
    assert run(settings(tmp_path, LIVING), sock, owner) == 0
    assert sys.modules["mine"].events == ["start", "stop"]


def test_a_signal_that_forces_the_end_arms_a_watchdog_and_one_that_does_not_arms_none(
    sock: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = LIVING.replace(
        'events.append("stop")', 'events.append("stop"); import asyncio; await asyncio.Event().wait()'
    )
    watchdog: list[Any] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *when, **how: watchdog.append((when, how)))

    def raise_twice(owner: PlayedOwner) -> None:
        signal.raise_signal(SIGNAL)
        assert watchdog == []
        owner.loop.call_later(0.05, signal.raise_signal, SIGNAL)

    assert run(settings(tmp_path, text), sock, PlayedOwner(raise_twice)) == 0
    assert watchdog == [((1.0,), {"exit": True, "file": 2})]
    assert sys.modules["mine"].events == ["start", "stop"]


def test_a_signal_after_the_end_does_nothing(sock: socket.socket, tmp_path: Path) -> None:
    run(settings(tmp_path, LIVING), sock, PlayedOwner(raise_signal))
    signal.raise_signal(SIGNAL)
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "raise ValueError('no configuration')",
            'failed: Error loading ASGI app: "mine" cannot be imported.\nTraceback (most recent call last):\n'
            '  File "{folder}/mine.py", line 1, in <module>\n'
            "    raise ValueError('no configuration')\n"
            "ValueError: no configuration",
        ),
        ("other = 1", 'failed: Error loading ASGI app: module "mine" has no attribute "app".'),
    ],
    ids=["raises", "no attribute"],
)
def test_an_application_that_cannot_be_loaded_is_reported_and_the_status_3(
    text: str, line: str, sock: socket.socket, tmp_path: Path
) -> None:
    owner = PlayedOwner(raise_signal)
    assert run(settings(tmp_path, text), sock, owner) == 3
    assert owner.said == [line.format(folder=tmp_path)]


def test_an_application_that_does_not_start_is_reported_and_the_status_3(sock: socket.socket, tmp_path: Path) -> None:
    text = """
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            await receive()
    """
    owner = PlayedOwner(raise_signal)
    assert run(settings(tmp_path, text), sock, owner) == 3
    assert owner.said == ["failed: Application startup failed: no database. Exiting."]
    assert owner.loop.is_closed()


def test_an_address_that_is_taken_meanwhile_is_reported_and_the_status_3(tmp_path: Path) -> None:
    with socket.socket() as mine, socket.socket() as other:
        for sock in (mine, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind(("127.0.0.1", 0))
        other.bind(mine.getsockname())  # Linux lets both bind, and one listen.
        other.listen()
        owner = PlayedOwner(raise_signal)
        assert run(settings(tmp_path, LIVING), mine, owner) == 3
    assert owner.said[0].startswith("failed: cannot listen on 127.0.0.1:")
    assert sys.modules["mine"].events == ["start", "stop"]


def test_a_worker_tells_its_owner_when_it_is_worn(sock: socket.socket, tmp_path: Path) -> None:
    text = """
        import asyncio

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"ok"})
    """
    client = socket.socket()

    def ask(owner: PlayedOwner) -> None:
        client.connect(sock.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        owner.loop.add_reader(client, answered, owner)

    def answered(owner: PlayedOwner) -> None:
        owner.loop.remove_reader(client)
        owner.server.stop()

    with client:
        owner = PlayedOwner(ask)
        assert run(settings(tmp_path, text, lifespan="off", limit_max_requests=1), sock, owner) == 0
    assert owner.said == ["ready", "worn: it has served 1 requests or more"]


@pytest.mark.parametrize(("slot", "number"), [(None, "0"), (3, "3")], ids=["alone", "among others"])
def test_an_application_can_know_the_number_of_its_worker_when_it_is_loaded(
    slot: int | None, number: str, sock: socket.socket, tmp_path: Path
) -> None:
    scoreboard = Scoreboard(1)
    place = Place(slot, scoreboard, scoreboard.reserve(slot, 0.0)) if slot is not None else None
    text = f"import os\nnumber = os.environ['FASTSERVE_WORKER_ID']\n{dedent(LIVING)}"
    assert run(settings(tmp_path, text), sock, PlayedOwner(raise_signal), place) == 0
    assert sys.modules["mine"].number == number


# Signals.


def test_a_signal_while_the_application_is_loaded_ends_the_worker_with_0(sock: socket.socket, tmp_path: Path) -> None:
    text = f"import signal\nloading = True\nsignal.raise_signal({int(SIGNAL)})\nloading = False"
    owner = PlayedOwner(raise_signal)
    assert run(settings(tmp_path, text), sock, owner) == 0
    assert (owner.said, owner.told) == ([], [])
    assert "mine" not in sys.modules


def test_a_signal_that_was_blocked_is_taken_when_signals_are_caught(sock: socket.socket, tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
    try:
        signal.raise_signal(SIGNAL)

        def load() -> Any:
            raise AppLoadError("the signal is lost")

        given = settings(tmp_path, LIVING)
        assert run_worker(given, [sock], PlayedOwner(raise_signal), load=load, place=None) == 0
        assert SIGNAL not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})


@pytest.mark.parametrize("serves", [False, True], ids=["while it starts", "while it serves"])
def test_sigusr1_opens_the_log_files_anew(serves: bool, sock: socket.socket, tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "moved"
    handler = logging.FileHandler(log)
    logger = logging.getLogger("tests.rotated")
    logger.addHandler(handler)

    def rotate() -> None:
        log.rename(moved)
        signal.raise_signal(signal.SIGUSR1)

    def rotate_and_stop(owner: PlayedOwner) -> None:
        rotate()
        owner.loop.call_soon(signal.raise_signal, SIGNAL)

    try:
        owner = PlayedOwner(rotate_and_stop)
        if serves:
            assert run(settings(tmp_path, LIVING), sock, owner) == 0
        else:
            Signals(owner).catch()
            rotate()
        logger.error("x")
        assert (log.read_text(), moved.read_text()) == ("x\n", "")
    finally:
        logger.removeHandler(handler)
        handler.close()


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
    assert run(settings(tmp_path, text), sock, PlayedOwner(lambda owner: owner.server.stop())) == 0
    assert sorted(sys.modules["mine"].events) == ["cancelled", "generator closed"]


def test_a_generator_that_does_not_end_does_not_keep_the_worker(sock: socket.socket, tmp_path: Path) -> None:
    text = """
        import asyncio
        events = []
        kept = []

        async def stubborn():
            try:
                yield 1
            finally:
                events.append("is being closed")
                await asyncio.sleep(3600)

        async def app(scope, receive, send):
            await receive()
            kept.append(stubborn())
            await kept[0].__anext__()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
    """
    assert run(settings(tmp_path, text), sock, PlayedOwner(lambda owner: owner.server.stop())) == 0
    assert sys.modules["mine"].events == ["is being closed"]
