"""Stopping: what is running is finished, nothing else is waited for, and the second signal is obeyed at once."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .load import ClosedLoop
from .running import SERVED, WORKERS, Gate, RawClient, RunningServer, Start, is_alive, life, new_client, wait_until

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])

# "Within about a second", on a machine that has other things to do.
ABOUT_A_SECOND_S = 3.0


def start_served(start: Start, workers: str, *arguments: str) -> RunningServer:
    return start(SERVED, "--port", "0", "--workers", workers, *arguments).wait_ready()


@contextlib.contextmanager
def request_held(server: RunningServer, folder: Path) -> Iterator[None]:
    """Have a request wait in the application meanwhile. It must be answered afterwards."""
    gate = Gate(folder, "held")
    with RawClient(server.address) as running:
        running.get("/gate?held")
        gate.wait_reached()
        yield
        gate.open()
        assert running.answer().body == b"through"


@contextlib.contextmanager
def timed(limit_s: float) -> Iterator[None]:
    """Fail when this takes longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit_s


def ended(folder: Path, workers: str) -> bool:
    """Tell whether the application was shut down as often as it was started, once in each worker."""
    events = [line.split() for line in life(folder)]
    started = [pid for what, pid in events if what == "startup"]
    stopped = [pid for what, pid in events if what == "shutdown"]
    return len(started) == int(workers) and sorted(started) == sorted(stopped)


# An application whose modules send SIGINT when the interpreter takes them away.
LATE = """
import os, signal

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid, numbers=(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)):
        for number in numbers:
            kill(pid(), number)

late = Late()

async def app(scope, receive, send):
    assert scope["type"] == "http"
"""

# The first signal.


@WORKERS
@SIGNALS
def test_a_running_request_is_answered_and_idle_connections_are_not_waited_for(
    start: Start, folder: Path, workers: str, number: int
) -> None:
    server = start_served(start, workers)
    gate = Gate(folder, "held")
    with RawClient(server.address) as running, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(RawClient(server.address)).get("/") for _ in range(10)]
        assert {client.answer().status for client in idle} == {200}
        silent = stack.enter_context(RawClient(server.address))
        running.get("/gate?held")
        gate.wait_reached()
        server.send_signal(number)
        for client in idle:
            assert client.rest() == b""
        assert silent.rest() == b""
        assert server.is_running
        gate.open()
        with timed(ABOUT_A_SECOND_S):
            answer = running.answer()
            assert (answer.status, answer.body) == (200, b"through")
            assert answer.fields["connection"] == "close"
            assert running.rest() == b""
    with timed(ABOUT_A_SECOND_S):
        assert server.wait_exit() == 0
    assert ended(folder, workers)


@WORKERS
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        # What systemd does by default (KillMode=control-group), and timeout(1).
        pytest.param(signal.SIGTERM, id="SIGTERM to all"),
    ],
)
def test_a_signal_to_all_processes_at_once_is_one_signal(start: Start, folder: Path, workers: str, number: int) -> None:
    server = start_served(start, workers)
    with request_held(server, folder):
        server.send_signal_to_group(number)
        server.wait_log("Waiting for connections to close.")
    assert server.wait_exit() == 0
    assert ended(folder, workers)


@WORKERS
@SIGNALS
def test_the_same_signal_twice_within_half_a_second_is_one_signal(
    start: Start, folder: Path, workers: str, number: int
) -> None:
    server = start_served(start, workers)
    with request_held(server, folder):
        server.send_signal(number)
        server.wait_log("Shutting down")
        server.send_signal_to_group(number)
    assert server.wait_exit() == 0
    assert ended(folder, workers)


@pytest.mark.parametrize("delay", ["0", "1"], ids=["at once", "after a delay"])
@SIGNALS
def test_a_signal_to_all_processes_is_no_error_of_any(start: Start, folder: Path, number: int, delay: str) -> None:
    server = start_served(start, "2", "--drain-delay", delay)
    with RawClient(server.address).get("/gate?held") as running:
        Gate(folder, "held").wait_reached()
        server.send_signal_to_group(number)
        server.wait_log("exiting.")
        Gate(folder, "held").open()
        assert running.answer().body == b"through"
    assert server.wait_exit() == 0
    assert "ERROR" not in server.log
    assert ended(folder, "2")


def test_all_workers_serve_during_the_delay_when_all_processes_were_told(start: Start, folder: Path) -> None:
    server = start_served(start, "2", "--drain-delay", "2", "--ready-path", "/ready", "--no-access-log")
    workers = {worker.pid for worker in server.workers}
    with ClosedLoop(server.address, keeps=False) as load:
        wait_until(lambda: load.pids.keys() == workers)
        server.send_signal_to_group(signal.SIGTERM)
        wait_until(lambda: is_unready(server))
        before = load.pids.copy()
        wait_until(lambda: all(load.pids[pid] > before[pid] + 50 for pid in workers))
        assert {worker.pid for worker in server.workers} == workers
    assert not load.failed
    assert load.pids.keys() == workers
    assert server.wait_exit() == 0
    assert "ERROR" not in server.log
    assert ended(folder, "2")


def is_unready(server: RunningServer) -> bool:
    """Tell whether the ready path says no."""
    with RawClient(server.address).get("/ready") as client:
        return client.answer().status == 503


def test_the_second_sigterm_to_all_processes_ends_the_delay(start: Start, folder: Path) -> None:
    server = start_served(start, "2", "--drain-delay", "600")
    server.send_signal_to_group(signal.SIGTERM)
    server.wait_past("Received SIGTERM")
    server.send_signal_to_group(signal.SIGTERM)
    with timed(ABOUT_A_SECOND_S):
        assert server.wait_exit() == 0
    assert "died" not in server.log
    assert ended(folder, "2")


def test_a_worker_alone_that_is_told_to_stop_twice_does(start: Start) -> None:
    server = start_served(start, "2", "--drain-delay", "600")
    server.send_signal(signal.SIGTERM)
    server.wait_log("Received SIGTERM")
    victim = server.workers[0]
    victim.terminate()
    server.wait_past("Received SIGTERM")
    victim.terminate()
    with timed(ABOUT_A_SECOND_S):
        wait_until(lambda: not is_alive(victim))
    assert "died" not in server.log


def test_a_late_signal_does_not_make_a_crash_of_a_worker_that_is_ending(start: Start, folder: Path) -> None:
    (folder / "late.py").write_text(LATE)
    server = start("late:app", "--port", "0", "--workers", "2").wait_ready()
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert "died" not in server.log


@WORKERS
def test_requests_that_wait_in_the_queue_of_the_kernel_are_answered(start: Start, workers: str) -> None:
    server = start_served(start, workers)
    serving = server.workers or [server.process]
    for process in serving:
        process.suspend()
    wait_until(lambda: {process.status() for process in serving} == {"stopped"})
    with contextlib.ExitStack() as stack:
        # More than are accepted in one turn of the event loop.
        clients = [stack.enter_context(RawClient(server.address)).get("/") for _ in range(200)]
        server.send_signal(signal.SIGTERM)
        for process in serving:
            process.resume()
        assert [client.answer().body for client in clients] == [b"hello"] * 200
    assert server.wait_exit() == 0


@WORKERS
def test_new_connections_are_refused_at_once_while_the_server_stops(start: Start, folder: Path, workers: str) -> None:
    server = start_served(start, workers)
    with request_held(server, folder):
        server.send_signal(signal.SIGTERM)
        server.wait_log("Waiting for connections to close.")

        def is_refused() -> bool:
            try:
                socket.create_connection(server.address).close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass  # It was in the queue of a socket that was closed just then.
            return False

        wait_until(is_refused, within_s=ABOUT_A_SECOND_S)


@WORKERS
def test_half_sent_requests_are_not_waited_for(start: Start, workers: str) -> None:
    server = start_served(start, workers)
    with RawClient(server.address) as head:
        head.get("/").answer()
        head.send(b"GET / HTTP/1.1\r\nHos")
        with timed(ABOUT_A_SECOND_S):
            assert server.stop() == 0


@WORKERS
def test_an_upload_that_goes_on_is_finished(start: Start, folder: Path, workers: str) -> None:
    server = start_served(start, workers)
    with RawClient(server.address) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert client.interim() == 100  # the application waits for the body
        server.send_signal(signal.SIGTERM)
        server.wait_log("Shutting down")
        client.send(b"0123456789")
        assert client.answer().body == b"0123456789"
    assert server.wait_exit() == 0


@WORKERS
def test_a_stop_while_the_application_starts_is_obeyed(start: Start, folder: Path, workers: str) -> None:
    (folder / "slow.py").write_text(
        "import asyncio\n\nasync def app(scope, receive, send):\n"
        "    await receive()\n    open('starting', 'w').close()\n    await asyncio.sleep(3600)\n"
    )
    server = start("slow:app", "--port", "0", "--workers", workers)
    wait_until((folder / "starting").exists)
    with timed(ABOUT_A_SECOND_S):
        assert server.stop() == 0
    assert "Traceback" not in server.log


@WORKERS
@SIGNALS
def test_a_stop_while_the_application_is_imported_is_obeyed(
    start: Start, folder: Path, workers: str, number: int
) -> None:
    # In short sleeps: Python does not see a signal that comes just before the system call of one.
    (folder / "slow.py").write_text("import time\nopen('importing', 'w').close()\nwhile True:\n    time.sleep(0.01)\n")
    server = start("slow:app", "--bind", "unix:app.sock", "--workers", workers)
    wait_until((folder / "importing").exists)
    server.send_signal(number)
    with timed(ABOUT_A_SECOND_S):
        assert server.wait_exit() == 0
    assert not (folder / "app.sock").exists()
    assert "Traceback" not in server.log


def test_a_thread_that_the_application_leaves_behind_does_not_keep_the_server(start: Start) -> None:
    server = start_served(start, "2")
    with new_client(server) as client:
        assert client.get("/leave-thread").text == "started"
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit(within_s=15) == 0
    server.wait_log("Exiting without waiting for threads that do not end: ")
    assert "left-behind" in server.log


# The second signal.


# Two of the same signal may arrive as one, when the first one has not been looked at.
SECOND = {"/gate": signal.SIGTERM, "/stubborn": signal.SIGTERM, "/thread": signal.SIGTERM, "/block": signal.SIGINT}


@WORKERS
@pytest.mark.parametrize("target", SECOND)
def test_the_second_signal_ends_the_server_within_about_a_second(
    start: Start, folder: Path, workers: str, target: str
) -> None:
    server = start_served(start, workers)
    with RawClient(server.address) as client:
        client.get(f"{target}?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGTERM)
        if target != "/block":
            server.wait_past("Waiting for connections to close.")
        assert server.is_running
        server.send_signal(SECOND[target])
        with timed(ABOUT_A_SECOND_S):
            server.wait_exit()


def test_the_second_ctrl_c_ends_all_processes(start: Start, folder: Path) -> None:
    server = start_served(start, "2")
    workers = server.workers
    with RawClient(server.address) as client:
        client.get("/gate?held")
        Gate(folder, "held").wait_reached()
        server.send_signal_to_group(signal.SIGINT)
        server.wait_past("Waiting for connections to close.")
        server.send_signal_to_group(signal.SIGINT)
        with timed(ABOUT_A_SECOND_S):
            assert server.wait_exit() == 0
    assert not any(worker.is_running() for worker in workers)


def test_a_request_that_is_cut_off_is_logged_as_the_doing_of_the_server(start: Start, folder: Path) -> None:
    server = start_served(start, "1")
    with RawClient(server.address) as client:
        client.get("/gate?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGTERM)
        server.wait_log("Waiting for connections to close.")
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(ConnectionResetError):
            assert client.rest() == b""
    assert server.wait_exit() == 0
    lines = [line for line in server.output.splitlines() if "/gate?held" in line]
    assert [line.rpartition('" ')[2] for line in lines] == ["444 No Response"]


def test_what_blocks_the_event_loop_is_shown_when_it_has_to_be_cut_off(start: Start, folder: Path) -> None:
    server = start_served(start, "1")
    with RawClient(server.address) as client:
        client.get("/block?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGINT)
        server.wait_exit()
    told, _, shown = server.log.partition("The process does not end, and is cut off. What its threads are doing:\n")
    assert "Timeout" not in told
    assert f'File "{folder / "served.py"}", line ' in shown
    assert " in block\n" in server.log


# The time for a graceful stop.


@WORKERS
@pytest.mark.parametrize("target", ["/gate", "/stubborn"])
def test_a_request_that_takes_too_long_is_cancelled_and_the_application_shut_down(
    start: Start, folder: Path, workers: str, target: str
) -> None:
    server = start_served(start, workers, "--timeout-graceful-shutdown", "1")
    with RawClient(server.address) as client:
        client.get(f"{target}?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit(within_s=10) == 0
    assert any(line.startswith("cancelled") for line in life(folder))
    assert ended(folder, workers)
    assert "Cancelling 1 request: it did not finish" in server.log
    assert "Traceback" not in server.log


@WORKERS
def test_sigint_keeps_to_the_time_that_is_set_and_a_second_one_does_not(
    start: Start, folder: Path, workers: str
) -> None:
    server = start_served(start, workers, "--timeout-graceful-shutdown", "600")
    with RawClient(server.address) as client:
        client.get("/gate?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGINT)
        server.wait_past("Waiting for connections to close.")  # as long as requests have when no time is set
        assert "Cancelling" not in server.log
        server.send_signal(signal.SIGINT)
        with timed(ABOUT_A_SECOND_S):
            assert server.wait_exit() == 0


@WORKERS
def test_sigint_cancels_after_about_a_second_where_no_time_is_set(start: Start, folder: Path, workers: str) -> None:
    server = start_served(start, workers)
    with RawClient(server.address) as client:
        client.get("/gate?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGINT)
        server.wait_log("Cancelling 1 request: it did not finish")
        assert server.wait_exit() == 0


def test_a_sighup_that_is_ignored_at_the_start_does_not_stop_a_single_process(start: Start) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    server = start(SERVED, "--port", "0", under=(sys.executable, "-c", ignoring, sys.executable)).wait_ready()
    server.send_signal(signal.SIGHUP)
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    assert "Shutting down" not in server.log
    assert server.stop() == 0


# An application that takes so many seconds to shut down.
SLOW = """
import asyncio

async def app(scope, receive, send):
    await receive()
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    await asyncio.sleep({})
    await send({{"type": "lifespan.shutdown.complete"}})
"""


def test_a_shutdown_of_the_application_that_takes_too_long_is_left(start: Start, folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW.format(3600))
    server = start("slow:app", "--port", "0", "--timeout-graceful-shutdown", "1").wait_ready()
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit(within_s=10) == 0
    assert "ERROR:    The application did not shut down within " in server.log


@WORKERS
def test_after_ctrl_c_the_application_may_still_take_its_time_to_shut_down(
    start: Start, folder: Path, workers: str
) -> None:
    (folder / "slow.py").write_text(SLOW.format(6))
    server = start("slow:app", "--port", "0", "--workers", workers).wait_ready()
    server.send_signal_to_group(signal.SIGINT)
    assert server.wait_exit() == 0
    assert server.log.count("Application shutdown complete.") == int(workers)


@WORKERS
def test_a_signal_that_the_application_swallows_while_it_is_imported_is_obeyed_afterwards(
    start: Start, folder: Path, workers: str
) -> None:
    (folder / "swallows.py").write_text(
        "import time\nfrom served import app\nopen('importing', 'w').close()\n"
        "try:\n    time.sleep(3600)\nexcept BaseException:\n    pass\n"
    )
    server = start("swallows:app", "--port", "0", "--workers", workers)
    wait_until((folder / "importing").exists)
    assert server.stop() == 0
    assert "Traceback" not in server.log


# The command is not imported yet.

EARLY = """
import os, signal, time

os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)  # A signal to the process is seen at the latest now.
"""


def test_ctrl_c_before_the_command_is_imported_ends_it_without_a_traceback(start: Start, folder: Path) -> None:
    (folder / "click.py").write_text(EARLY)
    server = start("--version", environment={"PYTHONPATH": str(folder)})
    assert server.wait_exit() == -signal.SIGINT
    assert (server.output, server.log) == ("", "")
