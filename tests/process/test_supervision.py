"""What the parent process does besides keeping workers: signals, hooks, the service manager, a shared scoreboard."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import SERVED, Gate, RawClient, RunningServer, Start, new_client, wait_until

TWO_WORKERS = (SERVED, "--port", "0", "--workers", "2")


def pids(server: RunningServer) -> set[int]:
    return {worker.pid for worker in server.workers}


def reload(server: RunningServer) -> None:
    before = pids(server)
    server.send_signal(signal.SIGHUP)
    server.wait_for(lambda: not before & pids(server) and len(pids(server)) == len(before), "it is not reloaded")


# Replacing.


def test_a_reload_serves_the_application_as_it_is_now(start: Start, folder: Path) -> None:
    module = folder / "version.py"
    source = "import served\n\nserved.PATHS['/version'] = lambda scope, receive, send: served.answer(send, b'{}')\n"
    module.write_text(source.format("1") + "app = served.app\n")
    server = start("version:app", *TWO_WORKERS[1:]).wait_ready()
    with new_client(server) as client:
        assert client.get("/version").text == "1"
        module.write_text(source.format("second") + "app = served.app\n")
        reload(server)
        assert client.get("/version").text == "second"


def test_an_idle_connection_gets_one_more_answer_from_a_worker_that_is_replaced(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    before = pids(server)
    with RawClient(server.address) as client:
        client.get("/pid").answer()
        server.send_signal(signal.SIGHUP)
        server.wait_log("Shutting down", times=2)
        last = client.get("/pid").answer()
        assert int(last.body) in before
        assert last.fields["connection"] == "close"
        assert client.rest() == b""


def test_a_running_request_is_finished_by_the_worker_that_is_replaced(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    before = pids(server)
    gate = Gate(folder, "held")
    with RawClient(server.address) as client:
        client.get("/gate?held")
        gate.wait_reached()
        server.send_signal(signal.SIGHUP)
        server.wait_log("Waiting for connections to close.")
        gate.open()
        answer = client.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
    server.wait_for(lambda: not pids(server) & before, "an old worker is still there")


def test_reloads_leave_no_file_descriptors_and_no_processes_behind(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    reload(server)

    wait_until(lambda: len(server.process.children()) == 2)  # also of those that are not waited for yet
    before = server.process.num_fds()
    for _ in range(3):
        reload(server)
    # One that was just waited for may still have been counted before; a leak would be three at least.
    wait_until(lambda: server.process.num_fds() <= before)
    assert len(server.process.children(recursive=True)) == 2


def test_a_worker_that_does_not_start_in_time_is_ended_and_the_reload_given_up(start: Start, folder: Path) -> None:
    (folder / "sometimes.py").write_text(
        "import os, time\nif os.path.exists('slow'):\n    time.sleep(3600)\nfrom served import app\n"
    )
    server = start("sometimes:app", *TWO_WORKERS[1:], "--timeout-worker-boot", "2").wait_ready()
    before = pids(server)
    (folder / "slow").touch()
    server.send_signal(signal.SIGHUP)
    server.wait_log("The reload is given up")
    assert "it did not become ready within 2 seconds" in server.log
    assert "sometimes.py" in server.log, "the stack is shown"
    server.wait_for(lambda: pids(server) == before, "the old workers are not what is left")


HANGS = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI

async def connect():
    await asyncio.sleep(3600)

@asynccontextmanager
async def lifespan(app):
    await connect()
    yield

app = FastAPI(lifespan=lifespan)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_start_up_that_waits_too_long_shows_where_it_waits(loop: str, start: Start, folder: Path) -> None:
    (folder / "hangs.py").write_text(HANGS)
    server = start("hangs:app", *TWO_WORKERS[1:], "--timeout-worker-boot", "5", "--loop", loop)
    assert server.wait_exit() == 3
    assert (
        server.log.count("Application startup failed: it has not started within 5 seconds. Exiting.\nIt waits here")
        == 1
    )
    assert server.log.count(f'File "{folder / "hangs.py"}", line 7, in connect\n    await asyncio.sleep(3600)\n') == 1
    assert "Abort" not in server.log
    assert "died" not in server.log


def test_sigwinch_ends_the_workers_and_sighup_brings_them_back(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    server.send_signal(signal.SIGWINCH)
    server.wait_for(lambda: not pids(server), "there are still workers")
    with RawClient(server.address) as waiting:  # in the queue
        waiting.get("/")
        server.send_signal(signal.SIGHUP)
        assert waiting.answer().status == 200
    server.wait_for(lambda: len(pids(server)) == 2, "the workers are not back")
    assert server.stop() == 0


def test_the_last_worker_is_not_taken_away(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    for _ in range(3):
        server.send_signal(signal.SIGTTOU)
    server.wait_for(lambda: len(pids(server)) == 1, "there are still two")
    with new_client(server) as client:
        assert client.get("/").text == "hello"


# A blocked event loop.


def test_a_blocked_event_loop_is_warned_of_and_forgotten_when_it_goes_on(start: Start, folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import time\nimport served\n\nasync def pause(scope, receive, send):\n"
        "    time.sleep(3)\n    await served.answer(send, b'through')\n\n"
        "served.PATHS['/pause'] = pause\napp = served.app\n"
    )
    server = start("slow:app", *TWO_WORKERS[1:], "--timeout-worker", "10").wait_ready()
    before = pids(server)
    with RawClient(server.address) as client:
        client.get("/pause")
        server.wait_log("has been blocked for 1.")
        assert client.answer().body == b"through"
    assert server.log.count("has been blocked for") == 1
    assert "slow.py" in server.log
    assert pids(server) == before
    assert server.stop() == 0


def test_new_connections_do_not_go_to_a_worker_that_is_blocked(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS, "--timeout-worker", "10").wait_ready()
    with RawClient(server.address) as client:
        client.get("/block?held")
        Gate(folder, "held").wait_reached()
        server.wait_log("has been blocked for")
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(RawClient(server.address)).get("/") for _ in range(20)]
            assert {other.answer().status for other in others} == {200}
    server.send_signal(signal.SIGQUIT)
    server.wait_exit(within_s=10)


# The scoreboard.


def test_the_status_path_tells_of_all_workers(start: Start) -> None:
    server = start(*TWO_WORKERS, "--status-path", "/status").wait_ready()
    with new_client(server) as client:
        for _ in range(5):
            client.get("/")

        def status() -> dict[str, object]:
            with new_client(server) as other:
                content: dict[str, object] = other.get("/status").json()
            return content

        wait_until(lambda: status()["total"]["requests"] >= 5)  # type: ignore[index]
        workers = status()["workers"]
        assert isinstance(workers, list)
        assert {worker["pid"] for worker in workers} == pids(server)
        assert [worker["worker"] for worker in workers] == [0, 1]
        assert {worker["state"] for worker in workers} == {"ready"}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("bind", "trusted"), [("unix:app.sock", "127.0.0.1"), ("unix:app.sock", "*"), ("127.0.0.1:0", "*")]
)
def test_the_status_path_is_not_for_those_who_say_to_be_on_this_machine(
    start: Start, folder: Path, bind: str, trusted: str, workers: str
) -> None:
    options = ("--workers", workers, "--status-path", "/status", "--forwarded-allow-ips", trusted)
    server = start(SERVED, "--bind", bind, *options).wait_ready()
    address = str(folder / "app.sock") if bind.startswith("unix:") else server.address
    with RawClient(address) as client:
        status = "GET /status HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {}\r\n\r\n"
        assert client.send(status.format("127.0.0.1, 203.0.113.9").encode()).answer().status == 404
        assert client.send(status.format("127.0.0.1").encode()).answer().status == 200
        assert client.get("/status").answer().status == 200


def test_the_status_path_is_not_for_a_peer_elsewhere_that_is_trusted_to_say_who_the_client_is(start: Start) -> None:
    options = ("--status-path", "/status", "--forwarded-allow-ips", "*", "--proxy-protocol", "on")
    server = start(SERVED, "--port", "0", *options).wait_ready()
    with RawClient(server.address) as client:
        client.send(b"PROXY TCP4 192.0.2.2 127.0.0.1 40000 80\r\n")
        request = b"GET /status HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
        assert client.send(request).answer().status == 404
    wait_until(lambda: '127.0.0.1:0 - "GET /status HTTP/1.1" 404' in server.output)


def test_the_ready_path_of_a_single_process_says_no_during_the_drain_delay(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--ready-path", "/ready", "--drain-delay", "1").wait_ready()
    with new_client(server) as client:
        assert client.get("/ready").status_code == 200
        server.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        wait_until(lambda: client.get("/ready").status_code == 503)
        assert client.get("/").status_code == 200
    assert server.wait_exit() == 0
    assert time.monotonic() - told_at >= 0.9


# Preloading, hooks and what a worker knows of itself.

HOOKS = """\
import os

def note(*words):
    with open("hooks.txt", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def pre_fork(worker_id):
    note("pre_fork", worker_id, os.getpid())

def post_fork(worker_id):
    note("post_fork", worker_id, os.environ["FASTSERVE_WORKER_ID"])

def worker_ready(worker_id, pid):
    note("worker_ready", worker_id, pid)

def worker_exit(worker_id, pid, status):
    note("worker_exit", worker_id, pid, status)
"""


@pytest.mark.parametrize("where", ["hooks_of_mine", "./hooks_of_mine.py"])
def test_hooks_are_called_when_workers_come_and_go(start: Start, folder: Path, where: str) -> None:
    (folder / "hooks_of_mine.py").write_text(HOOKS)
    server = start(*TWO_WORKERS, "--hooks", where).wait_ready()
    workers = {str(pid) for pid in pids(server)}
    assert server.stop() == 0
    calls = [line.split() for line in (folder / "hooks.txt").read_text().splitlines()]
    by_name = {name: sorted(call[1:] for call in calls if call[0] == name) for name in {call[0] for call in calls}}
    assert by_name["pre_fork"] == [["0", str(server.pid)], ["1", str(server.pid)]]
    assert by_name["post_fork"] == [["0", "0"], ["1", "1"]]
    assert {pid for _, pid in by_name["worker_ready"]} == workers
    assert {pid for _, pid, status in by_name["worker_exit"] if status == "0"} == workers


def test_hooks_that_cannot_be_loaded_are_one_message_and_status_3(start: Start) -> None:
    server = start(*TWO_WORKERS, "--hooks", "missing.py")
    assert server.wait_exit() == 3
    assert server.log.endswith("ERROR:    cannot load the hooks: there is no file missing.py\n")


def test_a_successor_has_the_worker_id_of_the_one_before(start: Start, folder: Path) -> None:
    (folder / "named.py").write_text(
        "import os\nimport served\n\nasync def name(scope, receive, send):\n"
        "    await served.answer(send, f\"{os.getpid()} {os.environ['FASTSERVE_WORKER_ID']}\".encode())\n\n"
        "served.PATHS['/name'] = name\napp = served.app\n"
    )
    server = start("named:app", *TWO_WORKERS[1:]).wait_ready()

    def names() -> dict[str, str]:
        found: dict[str, str] = {}
        while len(found) < 2:
            with RawClient(server.address) as client:
                pid, name = client.get("/name").answer().body.decode().split()
                found[pid] = name
        return found

    before = names()
    assert sorted(before.values()) == ["0", "1"]
    victim = next(pid for pid, name in before.items() if name == "1")
    os.kill(int(victim), signal.SIGKILL)
    server.wait_log("Application startup complete.", times=3)
    after = names()
    assert victim not in after
    assert sorted(after.values()) == ["0", "1"]


def test_a_preloaded_application_is_imported_once(start: Start, folder: Path) -> None:
    (folder / "counted.py").write_text(
        "import os\nopen('imports', 'a').write(f'{os.getpid()}\\n')\nfrom served import app\n"
    )
    server = start("counted:app", *TWO_WORKERS[1:], "--preload").wait_ready()
    reload(server)
    assert (folder / "imports").read_text() == f"{server.pid}\n"
    assert "the same code, because of --preload" in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_preloaded_application_that_cannot_be_imported_is_status_3(start: Start, folder: Path, workers: str) -> None:
    (folder / "raising.py").write_text("1 / 0\n")
    server = start("raising:app", "--port", "0", "--workers", workers, "--preload")
    assert server.wait_exit() == 3
    assert server.log.count("ZeroDivisionError: division by zero") == 1
    assert str(folder / "raising.py") in server.log


# Files.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_process_id_is_in_a_file_while_the_server_runs(start: Start, folder: Path, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers, "--pid", "server.pid").wait_ready()
    assert (folder / "server.pid").read_text() == f"{server.pid}\n"
    second = start(SERVED, "--port", "0", "--pid", "server.pid")
    assert second.wait_exit() == 3
    assert f"server.pid names process {server.pid}, which is running" in second.log
    assert server.stop() == 0
    assert not (folder / "server.pid").exists()


def test_the_file_has_the_id_of_the_server_after_an_upgrade(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS, "--pid", "server.pid").wait_ready()
    server.send_signal(signal.SIGUSR2)
    assert server.wait_exit() == 0
    heir = int((folder / "server.pid").read_text())
    assert heir != server.pid
    os.kill(heir, signal.SIGTERM)
    wait_until(lambda: not (folder / "server.pid").exists())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_log_files_are_opened_again(start: Start, folder: Path, workers: str) -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s:     %(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": "access.log"},
            "console": {"class": "logging.StreamHandler", "formatter": "plain"},
        },
        "loggers": {
            "fastserve.access": {"handlers": ["file"], "level": "INFO", "propagate": False},
            "fastserve": {"handlers": ["console"], "level": "INFO"},
        },
    }
    (folder / "log.json").write_text(json.dumps(config))
    server = start(SERVED, "--port", "0", "--workers", workers, "--log-config", "log.json").wait_ready()

    def logged(target: str) -> bool:
        """Have a request to this target logged, and tell whether it is in the file."""
        with RawClient(server.address) as client:
            client.get(target).answer()
        file = folder / "access.log"
        return file.exists() and target in file.read_text()

    wait_until(lambda: logged("/first"))
    (folder / "access.log").rename(folder / "access.log.1")
    server.send_signal(signal.SIGUSR1)
    wait_until(lambda: logged("/second"))
    assert "/first" not in (folder / "access.log").read_text()


# The service manager.


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket to which services tell how they are."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


def said(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_manager_is_told_of_the_start_and_the_end(
    start: Start, manager: socket.socket, workers: str
) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname()}
    server = start(SERVED, "--port", "0", "--workers", workers, environment=environment)
    assert said(manager) == f"READY=1\nMAINPID={server.pid}"
    assert server.log.count("Application startup complete.") == int(workers)
    if workers == "2":
        server.send_signal(signal.SIGHUP)
        assert said(manager).startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert said(manager) == f"READY=1\nMAINPID={server.pid}"
    server.send_signal(signal.SIGTERM)
    assert said(manager) == "STOPPING=1"
    assert server.wait_exit() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_manager_hears_of_the_server_twice_as_often_as_it_wants(
    start: Start, manager: socket.socket, workers: str
) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "400000"}
    start(SERVED, "--port", "0", "--workers", workers, environment=environment)
    heard: list[float] = []
    while len(heard) < 5:
        if said(manager) == "WATCHDOG=1":
            heard.append(time.monotonic())
    gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
    assert min(gaps) > 0.05


ACTIVATE = """\
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
open("port", "w").write(str(listening.getsockname()[1]))
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.executable, [sys.executable, "-m", "fastserve", *sys.argv[1:]])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_of_the_service_manager_are_served(start: Start, folder: Path, workers: str) -> None:
    (folder / "activate.py").write_text(ACTIVATE)
    server = start(SERVED, "--workers", workers, runs=("activate.py",)).wait_ready()
    port = int((folder / "port").read_text())
    assert server.urls == [f"http://127.0.0.1:{port}"]
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    if workers == "2":
        server.send_signal(signal.SIGUSR2)
        assert server.wait_exit() == 0
        with RawClient(("127.0.0.1", port)) as raw:
            assert raw.get("/").answer().body == b"hello"
    else:
        assert server.stop() == 0


# As process 1.

IN_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGTERM")


def can_make_namespaces() -> bool:
    """Tell whether this machine lets us be process 1."""
    return (
        shutil.which(IN_NAMESPACE[0]) is not None
        and not subprocess.run([*IN_NAMESPACE, "true"], check=False, capture_output=True).returncode
    )


needs_namespaces = pytest.mark.skipif(not can_make_namespaces(), reason="needs unshare and its privileges")

ORPHANS = """\
import os, subprocess
import served

async def orphan(scope, receive, send):
    child = subprocess.run(["sh", "-c", "sleep 0.1 & echo $!"], stdout=subprocess.PIPE)
    await served.answer(send, child.stdout.strip())

async def ps(scope, receive, send):
    await served.answer_json(send, [os.getppid(), [pid for pid in os.listdir("/proc") if pid.isdigit()]])

served.PATHS["/orphan"] = orphan
served.PATHS["/ps"] = ps
app = served.app
"""


@needs_namespaces
def test_process_1_waits_for_processes_that_are_not_its_own_and_refuses_an_upgrade(start: Start, folder: Path) -> None:
    (folder / "orphans.py").write_text(ORPHANS)
    under = (*IN_NAMESPACE, sys.executable)
    server = start("orphans:app", "--port", "0", "--workers", "2", under=under).wait_ready()
    with new_client(server) as client:
        orphan = client.get("/orphan").text
        parent, _ = client.get("/ps").json()
        assert parent == 1
        wait_until(lambda: orphan not in client.get("/ps").json()[1])
    (first,) = server.process.children()
    first.send_signal(signal.SIGUSR2)
    server.wait_log("process 1 cannot be replaced")
    first.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0


# Balance and affinity.


@pytest.mark.parametrize("balance", ["random", "cpu", "kernel", "shared"])
def test_every_way_to_balance_serves_from_all_workers(start: Start, balance: str) -> None:
    server = start(*TWO_WORKERS, "--balance", balance).wait_ready()
    seen: set[int] = set()
    with contextlib.ExitStack() as stack:
        for number in range(200):
            # Kept open, and several at a time, so that whoever is busy leaves the others to the other worker.
            clients = [stack.enter_context(RawClient(server.address)).get("/pid") for _ in range(4)]
            seen |= {int(client.answer().body) for client in clients}
            if number >= 60 and (balance == "cpu" or seen == pids(server)):
                break
    assert seen <= pids(server)
    # On which CPU a connection arrives is up to the machine.
    assert balance == "cpu" or seen == pids(server)
    assert server.stop() == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_setaffinity")
def test_workers_run_where_they_are_told(start: Start) -> None:
    last = max(os.sched_getaffinity(0))
    server = start(*TWO_WORKERS, "--affinity", str(last)).wait_ready()
    assert [worker.cpu_affinity() for worker in server.workers] == [[last]] * 2
    refused = start(*TWO_WORKERS, "--affinity", "4095")
    assert refused.wait_exit() == 2
    assert refused.log.endswith("fastserve: error: --affinity: this process may not use CPU 4095\n")
