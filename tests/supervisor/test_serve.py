"""`serve` as far as it needs no process of its own: what is opened, said and closed around the work."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastserve.errors import AppLoadError, BindError, SettingsError
from fastserve.settings import Settings
from fastserve.supervisor import serve as serve_module
from fastserve.supervisor.cpus import CpuPlan
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.serve import serve
from fastserve.supervisor.upgrade import Inheritance

from .listening import Open, listen


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look for applications in the folder of the test."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)


def settings(app: str = "no_such_module:app", **options: Any) -> Settings:
    return Settings.from_options({"app": app, **options})


class Supervision:
    """Stands in for the parent process: notes what it is given, and does what the test wants meanwhile."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[ListeningSockets], int] = lambda sockets: 0
    ) -> None:
        self._meanwhile = meanwhile
        monkeypatch.setattr(serve_module, "Master", self)

    def __call__(self, settings: Settings, plan: CpuPlan, sockets: ListeningSockets, **given: Any) -> Supervision:
        self.plan = plan
        self.sockets = sockets
        self.given = given
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
        sockets.listen()
        port = int(sockets.urls[0].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
        return 0

    supervision = Supervision(monkeypatch, connect)
    assert serve(settings(port=0, workers=2)) == 0
    assert supervision.plan.workers == 2


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
    supervision = Supervision(monkeypatch)
    assert serve(settings(port=0, workers="auto")) == 0
    assert supervision.plan.workers == 1


@pytest.mark.parametrize(
    ("workers", "says"),
    [pytest.param(1, "1 worker", id="one"), pytest.param(3, "3 workers (as asked)", id="several")],
)
def test_the_first_line_says_what_is_served_by_what(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, workers: int, says: str
) -> None:
    Supervision(monkeypatch)
    serve(settings("no_such_module:app", port=0, workers=workers, loop="asyncio", http="h11"))
    first = said.messages[0]
    assert first.startswith("fastserve ")
    assert f": no_such_module:app, {says}, asyncio, h11, " in first


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reload": True, "workers": 2}, "1 worker (and a supervisor, for --reload)"),
        ({"limit_memory": 2**30, "hooks": None, "preload": False}, "1 worker (and a supervisor, for --limit-memory)"),
        (
            {"limit_max_requests": 9, "limit_lifetime": 9.0},
            "(and a supervisor, for --limit-max-requests, --limit-lifetime)",
        ),
    ],
    ids=["reload", "one", "two"],
)
def test_the_first_line_says_what_a_single_worker_has_a_supervisor_for(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, options: dict[str, Any], says: str
) -> None:
    Supervision(monkeypatch)
    serve(settings("no_such_module:app", port=0, **options))
    assert says in next(line for line in said.messages if line.startswith("fastserve "))


@pytest.mark.parametrize("workers", [1, 2])
def test_cpus_that_may_not_be_used_are_noticed_before_a_socket_is_opened(tmp_path: Path, workers: int) -> None:
    with pytest.raises(SettingsError, match="may not use CPU 9999"):
        serve(settings(workers=workers, affinity="9999", bind=(f"unix:{tmp_path}/sock",)))
    assert not (tmp_path / "sock").exists()


# The application.


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An application that counts how often it is imported, in a file."""
    (tmp_path / "counted.py").write_text(
        "import pathlib\n"
        "imports = pathlib.Path('imports')\n"
        "imports.write_text((imports.read_text() if imports.exists() else '') + 'x')\n"
        "async def app(scope, receive, send): ...\n"
    )
    monkeypatch.delitem(sys.modules, "counted", raising=False)
    return "counted:app"


def test_the_application_is_imported_by_workers(
    monkeypatch: pytest.MonkeyPatch, counted: str, said: pytest.LogCaptureFixture
) -> None:
    supervision = Supervision(monkeypatch)
    serve(settings(counted, port=0, workers=2))
    assert not Path("imports").exists()
    assert supervision.given["load"]() is sys.modules["counted"].app
    assert Path("imports").read_text() == "x"


def test_with_preload_the_application_is_imported_before(
    monkeypatch: pytest.MonkeyPatch, counted: str, said: pytest.LogCaptureFixture
) -> None:
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(Path("imports").read_text()))
    supervision = Supervision(monkeypatch)
    serve(settings(counted, port=0, preload=True))
    assert frozen == ["x"]
    assert supervision.given["load"]() is supervision.given["load"]() is sys.modules["counted"].app
    assert Path("imports").read_text() == "x"


def test_with_preload_an_application_that_cannot_be_loaded_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    Supervision(monkeypatch, lambda sockets: pytest.fail("there is nothing to serve"))
    fds = psutil.Process().num_fds()
    with pytest.raises(AppLoadError):
        serve(settings(preload=True, bind=(f"unix:{tmp_path}/sock", "127.0.0.1:0")))
    assert psutil.Process().num_fds() == fds
    assert not (tmp_path / "sock").exists()


# What it is given by others.


@pytest.mark.parametrize("workers", [1, 2])
def test_sockets_of_a_service_manager_are_taken_when_nothing_else_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        url = f"http://127.0.0.1:{theirs.getsockname()[1]}"
        monkeypatch.setattr(serve_module, "listen_fds", lambda environ: [os.dup(theirs.fileno())])
        supervision = Supervision(monkeypatch)
        assert serve(settings(workers=workers)) == (3 if workers == 1 else 0)
        if workers > 1:
            assert supervision.sockets.urls == [url]


def test_sockets_of_a_service_manager_are_left_alone_when_addresses_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve_module, "listen_fds", lambda environ: [99999])
    supervision = Supervision(monkeypatch)
    assert serve(settings(workers=2, bind=("127.0.0.1:0",))) == 0
    assert supervision.sockets.urls[0].startswith("http://127.0.0.1:")


def test_a_server_that_another_one_has_started_takes_its_sockets_and_has_a_parent_process(
    monkeypatch: pytest.MonkeyPatch, listening: Open, said: pytest.LogCaptureFixture
) -> None:
    first = listening("127.0.0.1:0", balance="shared")
    listen(first)
    description = first.describe()
    for opened in description.values():
        opened["shared"] = [os.dup(fd) for fd in opened["shared"]]
    ours, theirs = socket.socketpair()
    inheritance = Inheritance(77, ours, description, [99999])
    monkeypatch.setattr(serve_module, "inherit", lambda environ: inheritance)
    supervision = Supervision(monkeypatch)
    with ours, theirs:
        assert serve(settings(bind=("127.0.0.1:0",))) == 0
    assert supervision.given["inheritance"] is inheritance
    assert supervision.sockets.urls == first.urls


def test_a_successor_gets_the_sockets_and_starts_where_this_server_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {}

    def heir(addresses: dict[str, Any], fds: list[int], **more: Any) -> None:
        given.update(more, addresses=addresses, fds=fds)

    def upgrade(sockets: ListeningSockets) -> int:
        listen(sockets, slots=2)
        monkeypatch.chdir("/")
        supervision.given["new_heir"]()
        assert (given["addresses"], given["fds"]) == (sockets.describe(), sockets.fds())
        return 0

    monkeypatch.setattr(serve_module, "Heir", heir)
    supervision = Supervision(monkeypatch, upgrade)
    assert serve(settings(port=0, workers=2)) == 0
    assert (given["folder"], given["listen_fds"]) == (str(tmp_path), [])


def test_the_file_of_the_process_id_is_there_while_the_server_runs(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    def look(sockets: ListeningSockets) -> int:
        assert Path("server.pid").read_text().strip() == str(os.getpid())
        return 0

    Supervision(monkeypatch, look)
    assert serve(settings(port=0, workers=2, pid="server.pid")) == 0
    assert not Path("server.pid").exists()


# Without a parent process, the service manager is told by the worker.


def test_a_service_manager_is_told_when_the_only_process_is_ready_and_when_it_stops(
    monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    class Ended:
        is_stopping = False

        def stop(self) -> None:
            self.is_stopping = True

    class Manager:
        watchdog_s = None

        def __init__(self, environ: Mapping[str, str]) -> None:
            self.ready = lambda: told.append("ready")
            self.stopping = lambda: told.append("stopping")

    def run_worker(settings: Settings, sockets: list[socket.socket], owner: Any, **more: Any) -> int:
        assert told == []
        owner.worker_is_ready()
        assert told == ["ready"]
        server = Ended()
        owner.tell(signal.SIGTERM, server)
        owner.tell(signal.SIGTERM, server)
        assert told == ["ready", "stopping"]
        return 0

    told: list[str] = []
    monkeypatch.setattr(serve_module, "Notifier", Manager)
    monkeypatch.setattr(serve_module, "run_worker", run_worker)
    assert serve(settings(port=0)) == 0
    assert told
