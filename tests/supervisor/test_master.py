"""The parent process and its children, where it needs real ones. What clients see of it is in tests/process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.process.running import SERVED, Gate, RawClient, RunningServer, Start, new_client, wait_until

TWO_WORKERS = (SERVED, "--port", "0", "--workers", "2")


def pids(server: RunningServer) -> set[int]:
    return {worker.pid for worker in server.workers}


def wait_replaced(server: RunningServer, gone: set[int], *, size: int = 2) -> None:
    """Wait until there are so many workers besides these."""
    server.wait_for(lambda: len(pids(server) - gone) == size, f"there are no {size} other workers")


ENDS = {
    "killed": (signal.SIGKILL, "killed by SIGKILL"),
    "out of bounds": (signal.SIGSEGV, "killed by SIGSEGV"),
    "asked to quit": (signal.SIGQUIT, "exit status 0"),
}


@pytest.mark.parametrize(("number", "said"), ENDS.values(), ids=ENDS.keys())
def test_how_a_worker_died_is_said_in_words(start: Start, number: int, said: str) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    victim = min(pids(server))
    os.kill(victim, number)
    server.wait_log(f"Child process [{victim}] died: {said}\n")
    wait_replaced(server, {victim})


def test_a_worker_that_is_told_to_stop_is_replaced_before_it_does(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    victim = min(pids(server))
    os.kill(victim, signal.SIGTERM)
    server.wait_log(f"Worker [{victim}] is going to be replaced: it was told to stop.\n")
    server.wait_log(f"Finished server process [{victim}]\n")
    wait_replaced(server, {victim})
    assert "died" not in server.log


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals")
def test_a_worker_that_is_killed_by_a_signal_without_a_name_is_replaced(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    victim = min(pids(server))
    os.kill(victim, signal.SIGRTMIN + 1)
    server.wait_log(f"Child process [{victim}] died")
    wait_replaced(server, {victim})


def test_a_worker_that_leaves_by_itself_is_replaced(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    with RawClient(server.address) as client:
        victim = int(client.get("/pid").answer().body)
        assert client.get("/leave").rest() == b""
    server.wait_log(f"Child process [{victim}] died: exit status 7\n")
    wait_replaced(server, {victim})


def test_ctrl_c_is_left_to_the_parent_process(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    before = pids(server)
    for pid in before:
        os.kill(pid, signal.SIGINT)
    with new_client(server) as client:
        assert client.get("/").status_code == 200
    assert pids(server) == before
    assert server.stop() == 0
    assert "died" not in server.log


def test_connections_that_come_while_there_is_no_worker_are_served_by_the_next(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    gone = pids(server)
    for worker in server.workers:
        worker.suspend()
    wait_until(lambda: {worker.status() for worker in server.workers} == {psutil.STATUS_STOPPED})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)).get("/pid") for _ in range(16)]
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        answers = [client.answer() for client in clients]
    assert {answer.status for answer in answers} == {200}
    assert not {int(answer.body) for answer in answers} & gone


def test_the_file_of_a_unix_socket_outlives_a_worker(start: Start, folder: Path) -> None:
    server = start(SERVED, "--bind", "unix:sock", "--workers", "2").wait_ready()
    for pid in sorted(pids(server)):
        os.kill(pid, signal.SIGTERM)
        server.wait_log(f"Finished server process [{pid}]\n")
    with RawClient(str(folder / "sock")) as client:
        assert client.get("/").answer().body == b"hello"
    assert server.stop() == 0
    assert not (folder / "sock").exists()


def test_dead_workers_leave_no_file_descriptors_behind(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    before = server.process.num_fds()
    for _ in range(2):
        gone = pids(server)
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        wait_replaced(server, gone)
    wait_until(lambda: server.process.num_fds() == before)


# A log that takes its time, as a terminal that scrolls or a full pipe does: many things have happened since the parent
# process has looked last.

_SLOW_LOG = """
import logging, os, sys, time

class Slow(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        if record.getMessage().startswith({slow!r}):
            time.sleep(0.3)
"""


def slow_log(folder: Path, slow: str, extra: str = "") -> str:
    """Write a --log-config with which a line that begins like this takes long, and return its name.

    extra: further code for the parent process to run.
    """
    (folder / "slowlog.py").write_text(_SLOW_LOG.format(slow=slow) + extra)
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"slow": {"class": "slowlog.Slow"}},
        "loggers": {"fastserve": {"handlers": ["slow"], "level": "INFO"}},
    }
    (folder / "log.json").write_text(json.dumps(config))
    return "log.json"


def test_workers_that_end_while_the_parent_looks_away_do_not_confuse_it(start: Start, folder: Path) -> None:
    config = slow_log(folder, "Terminating child process")
    server = start(SERVED, "--port", "0", "--workers", "4", "--log-config", config).wait_ready()
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_workers_that_die_while_the_parent_looks_away_are_all_replaced(start: Start, folder: Path) -> None:
    config = slow_log(folder, "Child process")
    server = start(SERVED, "--port", "0", "--workers", "4", "--log-config", config).wait_ready()
    gone = pids(server)
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    wait_replaced(server, gone, size=4)
    with new_client(server) as client:
        assert client.get("/").status_code == 200


def test_a_stop_while_a_worker_is_being_replaced_ends_in_order(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    gate = Gate(folder, "held")
    with RawClient(server.address) as client:
        client.get("/gate?held")
        gate.wait_reached()
        for worker in server.workers:
            worker.kill()
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 0
    assert "Traceback" not in server.log


def test_a_stop_reaches_a_worker_that_has_only_just_been_forked(start: Start, folder: Path) -> None:
    """For a moment it is a copy of its parent, signal handlers included; on a busy machine that moment is long."""
    config = slow_log(folder, "nothing", "os.register_at_fork(after_in_child=lambda: time.sleep(0.3))")
    server = start(*TWO_WORKERS, "--log-config", config)
    server.wait_for(lambda: len(pids(server)) == 2, "there are no workers")
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit(within_s=10) == 0, server.log
    assert server.log.count("Received SIGTERM") == 1
    assert "Killing" not in server.log
