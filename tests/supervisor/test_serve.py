"""`serve` as far as it needs no process of its own: what is opened, said and closed around the work."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastserve.errors import BindError, SettingsError
from fastserve.settings import Settings
from fastserve.supervisor import serve as serve_module
from fastserve.supervisor.cpus import CpuPlan
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.serve import Person, serve


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look for applications in the folder of the test."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)


def settings(app: str = "no_such_module:app", **options: Any) -> Settings:
    return Settings.from_options({"app": app, **options})


class Supervision:
    """Stands in for the parent process: notes what it is given, and does what the test wants meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[ListeningSockets], int]) -> None:
        self._meanwhile = meanwhile
        monkeypatch.setattr(serve_module, "Master", self)

    def __call__(self, settings: Settings, plan: CpuPlan, sockets: ListeningSockets) -> Supervision:
        self.plan = plan
        self.sockets = sockets
        return self

    def run(self) -> int:
        return self._meanwhile(self.sockets)


def test_an_application_that_cannot_be_loaded_is_status_3_and_leaves_nothing_open(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    fds = psutil.Process().num_fds()
    assert serve(settings(bind=(f"unix:{tmp_path}/sock", "127.0.0.1:0"))) == 3
    assert psutil.Process().num_fds() == fds
    assert not (tmp_path / "sock").exists()


@pytest.mark.parametrize("workers", [1, 2, "auto"])
def test_a_port_that_is_taken_is_noticed_before_the_application_is_imported(
    tmp_path: Path, workers: int | str, said: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "imported_too_early.py").write_text("raise AssertionError('imported')")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BindError):
        serve(settings("imported_too_early:app", port=taken.getsockname()[1], workers=workers))
    assert "imported_too_early" not in sys.modules


@pytest.mark.parametrize("workers", [1, 2])
def test_an_event_loop_that_is_not_installed_is_noticed_before_a_socket_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(SettingsError, match="pip install uvloop"):
        serve(settings(loop="uvloop", workers=workers, bind=(f"unix:{tmp_path}/sock",)))
    assert not (tmp_path / "sock").exists()


def test_the_parent_process_gets_sockets_that_can_be_connected_to(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    def connect(sockets: ListeningSockets) -> int:
        port = int(sockets.urls[0].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
        return 0

    supervision = Supervision(monkeypatch, connect)
    assert serve(settings(port=0, workers=2)) == 0
    assert supervision.plan.workers == 2
    assert f"Fastserve running on {supervision.sockets.urls[0]} (Press CTRL+C to quit)" in said.messages


@pytest.mark.parametrize("status", [0, 3])
def test_the_exit_status_is_that_of_the_parent_process(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, status: int
) -> None:
    Supervision(monkeypatch, lambda sockets: status)
    assert serve(settings(port=0, workers=2)) == status


def test_sockets_are_closed_when_the_parent_process_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    def fail(sockets: ListeningSockets) -> int:
        raise BlockingIOError("fork: no more processes")

    Supervision(monkeypatch, fail)
    fds = psutil.Process().num_fds()
    with pytest.raises(BlockingIOError):
        serve(settings(workers=2, bind=(f"unix:{tmp_path}/sock", "127.0.0.1:0")))
    assert psutil.Process().num_fds() == fds
    assert not (tmp_path / "sock").exists()


def test_auto_has_a_parent_process_also_for_one_worker(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    supervision = Supervision(monkeypatch, lambda sockets: 0)
    assert serve(settings(port=0, workers="auto")) == 0
    assert supervision.plan.workers == 1


@pytest.mark.parametrize(
    ("workers", "says"),
    [pytest.param(1, "1 worker", id="one"), pytest.param(3, "3 workers (as asked)", id="several")],
)
def test_the_first_line_says_what_is_served_by_what(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, workers: int, says: str
) -> None:
    Supervision(monkeypatch, lambda sockets: 0)
    serve(settings("no_such_module:app", port=0, workers=workers, loop="asyncio", http="h11"))
    first = said.messages[0]
    assert first.startswith("fastserve ")
    assert f": no_such_module:app, {says}, asyncio, h11, " in first


# The owner of a worker that has no parent process.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("http://127.0.0.1:8000", "http://127.0.0.1:8000", id="TCP"),
        pytest.param("unix:/run/app.sock", "unix socket /run/app.sock", id="unix"),
    ],
)
def test_a_person_is_told_where_the_server_runs(said: pytest.LogCaptureFixture, url: str, shown: str) -> None:
    Person([url, "http://localhost:80"]).worker_is_ready()
    assert said.messages == [
        f"Fastserve running on {shown} (Press CTRL+C to quit)",
        "Fastserve running on http://localhost:80 (Press CTRL+C to quit)",
    ]


def test_a_person_stops_the_server_with_ctrl_c_or_sigterm() -> None:
    assert set(Person([]).stop_signals) == {signal.SIGINT, signal.SIGTERM}


async def test_a_person_is_not_watched() -> None:
    Person([]).watch(asyncio.get_running_loop(), pytest.fail)
