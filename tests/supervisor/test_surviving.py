"""What must not end a server that runs: only a reload, a replacement or an upgrade needed it, or nobody did."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.process.running import SERVED, RawClient, RunningServer, Start, new_client, wait_until

TWO_WORKERS = (SERVED, "--port", "0", "--workers", "2")


def pids(server: RunningServer) -> set[int]:
    return {worker.pid for worker in server.workers}


def kill_one(server: RunningServer) -> None:
    """Kill a worker, and wait for its successor."""
    before = pids(server)
    os.kill(min(before), signal.SIGKILL)
    server.wait_log("Application startup complete.", times=3)
    server.wait_for(lambda: len(pids(server)) == 2 and pids(server) != before, "the worker is not replaced")


def assert_serves(server: RunningServer) -> None:
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    assert "Traceback" not in server.log
    assert server.stop() == 0, server.log


# Files.


def test_a_reload_goes_on_without_the_file_of_the_process_id(start: Start, folder: Path) -> None:
    (folder / "run").mkdir()
    server = start(*TWO_WORKERS, "--pid", "run/server.pid").wait_ready()
    shutil.rmtree(folder / "run")
    server.send_signal(signal.SIGHUP)
    server.wait_log("cannot write run/server.pid: No such file or directory. The server goes on without it.")
    assert_serves(server)


# Standard output and error. Hooks write to them too.

PRINTING = """
import os, sys

def pre_fork(worker_id):
    print("forking", worker_id)

def worker_exit(worker_id, pid, status):
    print("gone", worker_id)
"""


def start_with_output(start: Start, folder: Path, redirection: str) -> RunningServer:
    """Start a server whose hooks print, with this redirection of the shell."""
    (folder / "printing.py").write_text(PRINTING)
    shell = ("sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable)
    return start(
        *TWO_WORKERS, "--hooks", "printing.py", "--no-access-log", under=shell, environment={"PYTHONUNBUFFERED": ""}
    )


def test_a_worker_is_replaced_also_when_nobody_reads_the_output_any_more(start: Start, folder: Path) -> None:
    os.mkfifo(folder / "output")
    reader = os.open(folder / "output", os.O_RDONLY | os.O_NONBLOCK)
    server = start_with_output(start, folder, ">output").wait_ready()
    os.close(reader)
    kill_one(server)
    assert_serves(server)
    assert "died: exit status 120" not in server.log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"], ids=["full", "closed"])
def test_an_output_that_cannot_be_written_does_no_harm(start: Start, folder: Path, redirection: str) -> None:
    server = start_with_output(start, folder, redirection).wait_ready()
    kill_one(server)
    assert_serves(server)


BREAKING = {
    "none": "sys.stdout = sys.stderr = None",
    "closed": "sys.stdout.close()",
}


@pytest.mark.parametrize("text", BREAKING.values(), ids=BREAKING.keys())
def test_a_stream_that_an_application_has_replaced_or_closed_does_no_harm(
    start: Start, folder: Path, text: str
) -> None:
    (folder / "breaking.py").write_text(f"import sys\nfrom served import app\n{text}\n")
    server = start("breaking:app", *TWO_WORKERS[1:], "--preload", "--no-access-log").wait_ready()
    kill_one(server)
    assert_serves(server)


# Text that is not Unicode.


def test_why_an_application_does_not_start_is_said_once_whatever_text_that_is(start: Start, folder: Path) -> None:
    (folder / "surrogate.py").write_text('raise RuntimeError("cannot open caf\\udce9.txt")\n')
    server = start("surrogate:app", *TWO_WORKERS[1:])
    assert server.wait_exit() == 3
    assert server.log.count("RuntimeError: cannot open caf\\udce9.txt") == 1
    assert "died" not in server.log
    assert "TypeError" not in server.log


def test_a_server_on_a_socket_whose_name_is_not_unicode_can_be_upgraded(start: Start, folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.sock")
    server = start(SERVED, "--workers", "2", "--uds", name).wait_ready()
    server.send_signal(signal.SIGUSR2)
    assert server.wait_exit() == 0
    with RawClient(str(folder / name)) as client:
        assert client.get("/").answer().body == b"hello"


# Upgrades.

NO_HEIR = {
    "no interpreter": "sys.executable = None",
    "no such interpreter": "sys.executable = '/nowhere/python'",
    "no processes": "subprocess.Popen = lambda *_, **__: (_ for _ in ()).throw(RuntimeError('no processes'))",
    "no sockets": "socket.socketpair = lambda *_: (_ for _ in ()).throw(OSError(24, 'Too many open files'))",
}


@pytest.mark.parametrize("text", NO_HEIR.values(), ids=NO_HEIR.keys())
def test_a_new_server_that_cannot_be_started_leaves_the_old_one_alone(start: Start, folder: Path, text: str) -> None:
    hooks = f"import socket, subprocess, sys\ndef worker_ready(worker_id, pid):\n    {text}\n"
    (folder / "breaking.py").write_text(hooks)
    server = start(*TWO_WORKERS, "--hooks", "breaking.py").wait_ready()
    server.send_signal(signal.SIGUSR2)
    server.wait_log("Cannot start a new server: ")
    assert_serves(server)


SLOW_HEIR = """
import os, time

if os.path.exists("held"):
    open("loading", "w").close()
    while os.path.exists("held"):
        time.sleep(0.01)
from served import app
"""


def test_a_new_server_whose_predecessor_was_killed_owns_its_files(start: Start, folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW_HEIR)
    options = ("--workers", "2", "--uds", "app.sock", "--pid", "server.pid")
    server = start("slow:app", *options).wait_ready()
    (folder / "held").touch()
    server.send_signal(signal.SIGUSR2)
    wait_until((folder / "loading").exists)
    server.send_signal(signal.SIGKILL)
    server.wait_exit()
    (folder / "held").unlink()
    heir = int(server.log.split("started a new server, process [")[1].split("]")[0])
    wait_until(lambda: (folder / "server.pid").read_text() == f"{heir}\n")
    with RawClient(str(folder / "app.sock")) as client:
        assert client.get("/").answer().body == b"hello"
    os.kill(heir, signal.SIGTERM)
    wait_until(lambda: not (folder / "server.pid").exists())
    assert not (folder / "app.sock").exists()
