"""`fastserve.Server`, `serve` and `testing.serving`: a server inside of a program."""

from __future__ import annotations

import asyncio
import http.client
import inspect
import logging
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest

import fastserve
from fastserve import Config, Server
from fastserve.errors import LifespanError, SettingsError, StartupError
from fastserve.testing import serving
from tests.certificates import client_context, write_pair

pytestmark = pytest.mark.usefixtures("own_logging")

_PATIENCE_S = 10.0


class App:
    """An application that notes its life, and answers with a constant; on /wait, when it is cancelled."""

    def __init__(self) -> None:
        self.life: list[str] = []
        self.is_waiting = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                self.life.append(event)
                await send({"type": f"lifespan.{event}.complete"})
            return
        if scope["path"] == "/wait":
            self.is_waiting.set()
            await asyncio.sleep(3600)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """Fail to start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as response:
        body: bytes = response.read()
        return body


def wait_until(what: Callable[[], object]) -> None:
    ends_at = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < ends_at, "it does not become so"
        time.sleep(0.005)


def config(app: Any, **options: Any) -> Config:
    return Config(app, **{"port": 0, "log_config": None, **options})


def port_of(server: Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


# In a thread, which is how tests and notebooks do it.


def test_a_server_in_a_thread_serves_until_it_should_exit() -> None:
    app = App()
    server = Server(config(app))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    assert get(f"http://127.0.0.1:{port_of(server)}/") == b"hello"
    assert server.server_state.total_requests == 1
    server.should_exit = True
    thread.join(_PATIENCE_S)
    assert not thread.is_alive()
    assert app.life == ["startup", "shutdown"]
    assert not server.servers[0].is_serving()


def test_what_is_running_is_shown_and_can_be_ended_at_once() -> None:
    app = App()
    server = Server(config(app))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    client = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=_PATIENCE_S)
    client.request("GET", "/wait")
    app.is_waiting.wait(_PATIENCE_S)
    assert (len(server.server_state.connections), len(server.server_state.tasks)) == (1, 1)
    server.should_exit = True
    server.force_exit = True
    thread.join(_PATIENCE_S)
    client.close()
    assert not thread.is_alive()


def test_a_server_that_should_exit_while_the_application_starts_does() -> None:
    starting = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        starting.set()
        await asyncio.sleep(3600)

    server = Server(config(slow))
    thread = threading.Thread(target=server.run)
    thread.start()
    starting.wait(_PATIENCE_S)
    server.should_exit = True
    thread.join(_PATIENCE_S)
    assert not thread.is_alive()
    assert not server.started


# In the loop of the program.


async def test_serving_is_a_coroutine_function_that_can_be_mocked(loop_factory: object) -> None:
    assert inspect.iscoroutinefunction(Server.serve)
    assert inspect.iscoroutinefunction(fastserve.serve)
    with mock.patch.object(Server, "serve") as replaced:
        await Server(config(App())).serve()
        await fastserve.serve(App(), log_config=None)
    assert replaced.await_count == 2


async def test_a_program_serves_in_its_own_loop_and_cancels(loop_factory: object) -> None:
    app = App()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    task = asyncio.create_task(fastserve.serve(app, port=port, log_config=None))
    while app.life != ["startup"]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert await asyncio.to_thread(get, f"http://127.0.0.1:{port}/") == b"hello"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.life == ["startup", "shutdown"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_sockets_of_the_program_are_served_on_and_closed(
    loop_factory: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fastserve")
    sock = socket.create_server(("127.0.0.1", 0))
    server = Server(config(App()))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    assert await asyncio.to_thread(get, url) == b"hello"
    server.should_exit = True
    await task
    assert sock.fileno() == -1
    assert not [text for text in caplog.messages if "running on" in text]


async def test_a_server_ends_after_so_many_requests(loop_factory: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")
    server = Server(config(App(), limit_max_requests=2))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    for _ in range(2):
        await asyncio.to_thread(get, f"http://127.0.0.1:{port_of(server)}/")
    await task
    assert "Maximum request limit of 2 exceeded. Terminating process." in caplog.messages


async def test_the_number_of_requests_after_which_a_server_ends_is_shown(loop_factory: object) -> None:
    assert Server(config(App())).limit_max_requests is None
    server = Server(config(App(), limit_max_requests=1, limit_max_requests_jitter=2))
    most = server.limit_max_requests
    assert most in (1, 2, 3)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    for _ in range(most):
        assert not server.should_exit
        await asyncio.to_thread(get, f"http://127.0.0.1:{port_of(server)}/")
    await serving


async def test_the_program_is_called_back(loop_factory: object) -> None:
    calls: list[float] = []
    server = Server(config(App(), timeout_notify=0, callback_notify=lambda: note(calls)))
    task = asyncio.create_task(server.serve())
    while len(calls) < 2:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await task


async def note(calls: list[float]) -> None:
    calls.append(time.monotonic())


# What programs override.


async def test_methods_that_are_overridden_are_called(loop_factory: object) -> None:
    calls: list[str] = []

    class Mine(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            calls.append("startup")
            await super().startup(sockets=sockets)

        async def on_tick(self, counter: int) -> bool:
            calls.append("tick")
            return await super().on_tick(counter) or counter == 1

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            calls.append("shutdown")
            await super().shutdown(sockets=sockets)

    await Mine(config(App())).serve()
    assert calls == ["startup", "tick", "tick", "shutdown"]


async def test_a_signal_is_handled_by_the_method_and_has_its_effect_afterwards(
    loop_factory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    class Mine(Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            order.append("handled")
            super().handle_exit(sig, frame)

    before = signal.signal(signal.SIGTERM, lambda number, frame: order.append("before"))
    try:
        server = Mine(config(App()))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)
        await task
        assert order == ["handled", "before"]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([signal.SIGTERM], (True, False)),
        ([signal.SIGINT], (True, False)),
        ([signal.SIGTERM, signal.SIGTERM], (True, False)),
        ([signal.SIGTERM, signal.SIGINT], (True, True)),
        ([signal.SIGINT, signal.SIGINT], (True, True)),
    ],
)
def test_the_second_interrupt_is_urgent(signals: list[int], expected: tuple[bool, bool]) -> None:
    server = Server(config(App()))
    for number in signals:
        server.handle_exit(number, None)
    assert (server.should_exit, server.force_exit) == expected


# Failures.


@pytest.mark.parametrize("options", [{}, {"lifespan": "on"}])
def test_an_application_that_does_not_start_ends_the_program_with_3(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(config(failing, **options))
    with pytest.raises(SystemExit) as left:
        server.run()
    assert left.value.code == 3
    assert not server.started
    assert caplog.messages == ["Application startup failed: no database. Exiting."]


def test_a_port_in_use_ends_the_program_with_3(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = App()
        with pytest.raises(SystemExit) as left:
            Server(config(app, port=port)).run()
    assert left.value.code == 3
    assert app.life == []
    assert caplog.messages == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


SUPERVISED: list[tuple[dict[str, Any], str]] = [
    ({"workers": 2}, "'workers'"),
    ({"reload": True}, "'reload'"),
    ({"limit_lifetime": 60}, "'limit_lifetime'"),
    ({"limit_memory": "1G", "hooks": "mine", "preload": True}, "'preload', 'hooks' and 'limit_memory'"),
]


@pytest.mark.parametrize(("options", "named"), SUPERVISED, ids=[named for _, named in SUPERVISED])
def test_an_application_object_cannot_be_served_by_other_processes(
    options: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as left:
        fastserve.run(App(), log_config=None, **options)
    assert left.value.code == 3
    assert caplog.messages == [f"You must pass the application as an import string to enable {named}."]


def test_a_thread_cannot_have_other_processes(caplog: pytest.LogCaptureFixture) -> None:
    left: list[object] = []

    def run() -> None:
        try:
            fastserve.run("main:app", log_config=None, workers=2)
        except SystemExit as error:
            left.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert left == [3]
    assert caplog.messages == ["You must call fastserve.run in the main thread to enable 'workers'."]


@pytest.mark.parametrize(("options", "named"), SUPERVISED, ids=[named for _, named in SUPERVISED])
def test_a_server_says_which_options_it_does_not_use(
    options: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(App(), **options) as url:
        assert get(f"{url}/") == b"hello"
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"Server is one process, and does not use {named}: fastserve.run does."]


def test_a_server_says_which_options_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    with serving(App(), timeout_worker=5):
        pass
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["--timeout-worker has no effect in one process without a supervisor."]


async def test_a_running_loop_is_told_of_the_coroutine_to_await() -> None:
    with pytest.raises(RuntimeError, match=r"^fastserve\.run\(\) runs .*: use await fastserve\.serve\(\.\.\.\)$"):
        fastserve.run("main:app", log_config=None)
    with pytest.raises(RuntimeError, match=r"^Server\.run\(\) runs .*: use await Server\.serve\(\)$"):
        Server(config(App())).run()


def test_a_server_writes_its_process_id_where_it_is_to(tmp_path: Path) -> None:
    with serving(App(), pid=tmp_path / "server.pid"):
        assert int((tmp_path / "server.pid").read_text()) == os.getpid()
    assert not (tmp_path / "server.pid").exists()
    with pytest.raises(StartupError, match="cannot write"), serving(App(), pid=tmp_path / "absent" / "server.pid"):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin threads")
def test_a_server_runs_where_it_is_to_and_no_longer_than_it_serves() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    seen: list[set[int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(os.sched_getaffinity(0))
            server.should_exit = True
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    def ask() -> None:
        wait_until(lambda: server.started)
        get(server.urls[0])

    server = Server(config(app, affinity=str(cpu), lifespan="off"))
    client = threading.Thread(target=ask)
    client.start()
    server.run()
    client.join()
    assert seen == [{cpu}]
    assert os.sched_getaffinity(0) == before
    with pytest.raises(SettingsError, match="may not use CPU 9999"):
        Server(config(app, affinity="9999")).run()


# For tests.


def test_a_test_gets_a_url_and_the_application_its_whole_life() -> None:
    app = App()
    with serving(app) as url:
        assert app.life == ["startup"]
        assert get(f"{url}/") == b"hello"
    assert app.life == ["startup", "shutdown"]
    assert not [thread for thread in threading.enumerate() if thread.name == "fastserve.testing"]


def test_several_servers_run_side_by_side() -> None:
    with serving(App()) as first, serving(App(), root_path="/api") as second:
        assert first != second
        assert get(f"{first}/") == get(f"{second}/") == b"hello"


def test_a_server_with_a_certificate_is_at_an_https_url(tmp_path: Path) -> None:
    with serving(App(), **write_pair(tmp_path)) as url:
        assert url.startswith("https://127.0.0.1:")
        context = client_context()
        with urllib.request.urlopen(f"{url}/", timeout=_PATIENCE_S, context=context) as answer:
            assert answer.read() == b"hello"


def test_a_test_sees_why_the_application_does_not_start() -> None:
    with pytest.raises(LifespanError, match="no database"), serving(failing):
        pass


def test_a_request_that_hangs_does_not_hold_up_the_end_of_a_test() -> None:
    app = App()
    began = time.monotonic()
    with serving(app, timeout_graceful_shutdown=0.3) as url:
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_PATIENCE_S)
        client.request("GET", "/wait")
        app.is_waiting.wait(_PATIENCE_S)
    client.close()
    assert time.monotonic() - began < 5
    assert logging.getLogger("fastserve").handlers == []


async def test_a_server_may_be_driven_by_hand_as_that_of_uvicorn() -> None:
    app = App()
    options = config(app, lifespan="on")
    options.load()
    server = Server(options)
    server.lifespan = options.lifespan_class(options)
    await server.startup()
    assert app.life == ["startup"]
    assert await asyncio.to_thread(get, server.urls[0]) == b"hello"
    await server.shutdown()
    assert app.life == ["startup", "shutdown"]


async def test_a_lifespan_may_be_run_by_itself() -> None:
    app = App()
    options = config(app, lifespan="on")
    options.load()
    lifespan = options.lifespan_class(options)
    await lifespan.start()
    await lifespan.stop()
    assert app.life == ["startup", "shutdown"]
