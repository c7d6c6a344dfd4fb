"""What must not end a server that runs: only a reload, a replacement or an upgrade needed it, or nobody did."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.certificates import flags, write_pair
from tests.process.running import SERVED, RawClient, RunningServer, Start, listens, new_client, wait_until

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


def test_an_application_that_closes_standard_error_does_not_end_the_supervisor(start: Start, folder: Path) -> None:
    (folder / "breaking.py").write_text("import sys\nfrom served import app\nsys.stderr.close()\n")
    server = start("breaking:app", "--uds", "app.sock", "--workers", "2", "--preload", "--no-access-log")
    path = str(folder / "app.sock")

    def served_by() -> int:
        with RawClient(path) as client:
            return int(client.get("/pid").answer().body)

    wait_until(lambda: listens(path))
    victim = served_by()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(pids(server) - {victim}) == 2)
    assert served_by() in pids(server)
    assert server.stop() == 0


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


# What the system does not give.


UNREADABLE = """
import errno, os, psutil

class Process:
    def __init__(self, pid):
        open("looked", "w").close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), f"/proc/{pid}/stat")

def worker_ready(worker_id, pid):
    psutil.Process = Process
"""


def test_the_memory_of_workers_is_looked_at_later_when_there_are_no_file_descriptors(
    start: Start, folder: Path
) -> None:
    (folder / "unreadable.py").write_text(UNREADABLE)
    server = start(*TWO_WORKERS, "--limit-memory", "1000M", "--hooks", "unreadable.py").wait_ready()
    wait_until((folder / "looked").exists)
    assert_serves(server)


REFUSING = """
import errno, os

fork = os.fork
left = 2

def refuse():
    global left
    left -= 1
    if not left:
        os.fork = fork
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

def worker_exit(worker_id, pid, status):
    if left:
        os.fork = refuse
"""


def test_a_worker_that_cannot_be_forked_is_forked_later(start: Start, folder: Path) -> None:
    (folder / "refusing.py").write_text(REFUSING)
    server = start(*TWO_WORKERS, "--hooks", "refusing.py").wait_ready()
    kill_one(server)
    assert server.log.count("Cannot start a worker: Resource temporarily unavailable") == 2
    assert_serves(server)


VANISHING = """
import errno, ssl

def worker_ready(worker_id, pid):
    def load(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    ssl.SSLContext.load_cert_chain = load
"""


def test_certificates_that_vanish_while_they_are_read_stay_what_they_were(start: Start, folder: Path) -> None:
    (folder / "vanishing.py").write_text(VANISHING)
    server = start(*TWO_WORKERS, *flags(write_pair(folder)), "--hooks", "vanishing.py").wait_ready()
    server.send_signal(signal.SIGHUP)
    server.wait_log("All workers have been replaced.")
    assert "The certificates that were loaded before stay in use." in server.log
    assert server.stop() == 0


def test_a_reload_goes_on_in_a_folder_that_was_removed(start: Start, folder: Path) -> None:
    shell = ("sh", "-c", 'mkdir gone && cd gone && exec "$@"', "sh", sys.executable)
    (folder / "plain.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    options = ("--app-dir", str(folder), "--reload", "--reload-dir", str(folder))
    server = start("plain:app", "--port", "0", *options, under=shell).wait_log("Fastserve running on")
    (folder / "gone").rmdir()
    (folder / "changed.py").touch()
    server.wait_log(f"detected changes in '{folder}/changed.py'. Reloading...")
    server.wait_log("Finished server process")
    assert_serves(server)


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
