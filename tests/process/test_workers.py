"""Workers that die, a parent that dies, and where workers run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from .proxies import free_port
from .running import SERVED, Gate, RawClient, RunningServer, Start, is_alive, new_client, wait_until

TWO_WORKERS = (SERVED, "--port", "0", "--workers", "2")


def pids(server: RunningServer) -> set[int]:
    return {worker.pid for worker in server.workers}


def answering(server: RunningServer) -> int:
    """Return the process that answers on a new connection."""
    with RawClient(server.address) as client:
        return int(client.get("/pid").answer().body)


# Workers that die.


def test_a_worker_that_is_killed_is_replaced_and_the_other_one_keeps_serving(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    gate = Gate(folder, "held")
    with contextlib.ExitStack() as stack:
        clients = connect_to_both(server, stack)
        (victim, _), (survivor, kept) = clients.items()
        kept.get("/gate?held")
        gate.wait_reached()
        os.kill(victim, signal.SIGKILL)
        server.wait_log(f"Child process [{victim}] died: killed by SIGKILL\n")
        wait_until(lambda: answering(server) not in clients, within_s=5)
        gate.open()
        assert kept.answer().body == b"through"
        assert int(kept.get("/pid").answer().body) == survivor
    assert len(pids(server)) == 2
    assert server.stop() == 0


def connect_to_both(server: RunningServer, stack: contextlib.ExitStack) -> dict[int, RawClient]:
    """Return a connection to each of two workers, by its pid."""
    clients: dict[int, RawClient] = {}
    while len(clients) < 2:
        client = stack.enter_context(RawClient(server.address))
        clients[int(client.get("/pid").answer().body)] = client
    return clients


def test_the_death_of_all_workers_at_once_is_survived(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    gone = pids(server)
    for worker in server.workers:
        worker.kill()
    server.wait_for(lambda: len(pids(server) - gone) == 2, "two other workers are missing")
    assert answering(server) not in gone
    assert server.stop() == 0


def test_an_application_that_cannot_be_loaded_any_more_is_told_when_a_worker_dies_after_a_failed_reload(
    start: Start, folder: Path
) -> None:
    server = start(SERVED, "--port", "0", "--limit-max-requests", "1000000").wait_ready()
    (folder / "served.py").write_text("import nothing_of_this_name")
    reason = "Error loading ASGI app: "
    server.send_signal(signal.SIGHUP)
    server.wait_log("The reload is given up")
    assert server.log.count(reason) == 1
    server.workers[0].kill()
    server.wait_log(reason, times=2)
    server.wait_log(" s. There is no worker that serves.")
    assert "ERROR:    Worker 0 could not be started. The next attempt is in " in server.log
    assert server.stop() == 0


CRASHING = """\
import os
import time

with open("boots", "a") as file:
    file.write(f"{time.monotonic()}\\n")
if os.path.exists("broken"):
    os._exit(9)
from served import app
"""


def test_a_worker_that_dies_again_and_again_is_retried_with_growing_delays(start: Start, folder: Path) -> None:
    (folder / "crashing.py").write_text(CRASHING)
    server = start("crashing:app", "--port", "0", "--workers", "2").wait_ready()

    def boots() -> list[float]:
        return [float(line) for line in (folder / "boots").read_text().splitlines()]

    with contextlib.ExitStack() as stack:
        (victim, _), (survivor, kept) = connect_to_both(server, stack).items()
        (folder / "broken").touch()
        os.kill(victim, signal.SIGKILL)
        # The two at the start, then one at once, after 1 second and after 2 more.
        wait_until(lambda: len(boots()) >= 5)
        assert int(kept.get("/pid").answer().body) == survivor
    waited = [later - earlier for earlier, later in zip(boots()[2:], boots()[3:], strict=False)]
    assert len(waited) == 2
    assert waited[0] > 0.9
    assert waited[1] > 1.9
    for delay in (1, 2):
        assert re.search(
            rf"^ERROR:    Worker [01] could not be started. The next attempt is in {delay} s.$", server.log, re.M
        )
    assert server.stop() == 0


def test_new_connections_go_to_the_workers_that_there_are(start: Start, folder: Path) -> None:
    """Also when one worker cannot be replaced for a long time."""
    (folder / "crashing.py").write_text(CRASHING)
    server = start("crashing:app", "--port", "0", "--workers", "2").wait_ready()
    with contextlib.ExitStack() as stack:
        # While no worker is ready, connections wait in any queue.
        victim, _ = connect_to_both(server, stack)
        (folder / "broken").touch()
        os.kill(victim, signal.SIGKILL)
        server.wait_log("died: exit status 9")
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(20)]
        for client in clients:
            client.sock.settimeout(5)
            assert client.get("/").answer().status == 200


# A parent that dies.


@pytest.mark.parametrize("state", ["idle", "busy", "starting"])
def test_workers_end_soon_after_their_parent_was_killed(start: Start, folder: Path, state: str) -> None:
    (folder / "slow.py").write_text(
        "import asyncio\n\nasync def app(scope, receive, send):\n"
        "    await receive()\n    open('starting', 'w').close()\n    await asyncio.sleep(3600)\n"
    )
    with contextlib.ExitStack() as stack:
        if state == "starting":
            address = ("127.0.0.1", free_port())
            server = start("slow:app", "--port", str(address[1]), "--workers", "2")
            wait_until((folder / "starting").exists)
        else:
            server = start(*TWO_WORKERS).wait_ready()
            address = server.address
        if state == "busy":
            stack.enter_context(RawClient(server.address)).get("/gate?held")
            Gate(folder, "held").wait_reached()
        workers = server.workers
        assert len(workers) == 2
        server.send_signal(signal.SIGKILL)
        assert server.wait_exit() == -signal.SIGKILL
        killed_at = time.monotonic()
        wait_until(lambda: not any(is_alive(worker) for worker in workers))
        assert time.monotonic() - killed_at < 4
        wait_until(lambda: is_refused(address))


def is_refused(address: tuple[str, int]) -> bool:
    try:
        RawClient(address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_whose_event_loop_is_blocked_ends_as_well_when_its_parent_was_killed(
    start: Start, folder: Path
) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    workers = server.workers
    with RawClient(server.address) as client:
        client.get("/block?held")
        Gate(folder, "held").wait_reached()
        server.send_signal(signal.SIGKILL)
        server.wait_exit()
        wait_until(lambda: not any(is_alive(worker) for worker in workers), within_s=5)


# Where and how many.

needs_two_cpus = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two CPUs, on a system that tells which",
)


@needs_two_cpus
def test_each_worker_has_a_cpu_of_its_own(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    placed = sorted(worker.cpu_affinity() for worker in server.workers)
    assert placed == [[cpu] for cpu in sorted(os.sched_getaffinity(0))[:2]]
    assert len(server.process.cpu_affinity()) >= 2


@needs_two_cpus
def test_the_successor_of_a_worker_has_the_same_cpu(start: Start) -> None:
    server = start(*TWO_WORKERS).wait_ready()
    victim = server.workers[0]
    gone = pids(server)
    cpu = victim.cpu_affinity()
    victim.kill()
    server.wait_for(lambda: len(pids(server) | gone) == 3, "there is no successor")
    (successor,) = [worker for worker in server.workers if worker.pid not in gone]
    wait_until(lambda: successor.cpu_affinity() == cpu)


@needs_two_cpus
def test_more_workers_than_cpus_are_not_tied_to_one(start: Start) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    server = start(SERVED, "--port", "0", "--workers", str(len(allowed) + 1)).wait_ready()
    assert [worker.cpu_affinity() for worker in server.workers] == [allowed] * (len(allowed) + 1)


def test_auto_starts_one_worker_for_each_cpu_that_may_be_used(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--workers", "auto").wait_ready()
    said = re.search(r", (\d+) workers \((.+?)\), ", server.log)
    assert said is not None, server.log
    assert len(server.workers) == int(said[1]) <= (os.cpu_count() or 1)
    assert re.search("CPUs|memory", said[2])


@needs_two_cpus
def test_auto_counts_only_the_cpus_that_are_allowed(start: Start) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        server = start(SERVED, "--port", "0", "--workers", "auto")
    finally:
        os.sched_setaffinity(0, before)
    server.wait_ready()
    assert len(server.workers) == 1
    with new_client(server) as client:
        assert client.get("/").status_code == 200
    assert server.stop() == 0


def test_websockets_are_counted_as_requests_are(start: Start) -> None:
    from websockets.sync.client import connect

    server = start(SERVED, "--port", "0", "--workers", "2", "--status-path", "/status").wait_ready()
    with connect("ws://{}:{}/".format(*server.address)) as client:
        assert json.loads(client.recv())["scheme"] == "ws"
        client.send("text")
        assert client.recv() == "text"
    assert len(server.workers) == 2
    assert "Exception" not in server.log


# Workers that are full.


def test_new_connections_go_where_there_is_space(start: Start, folder: Path) -> None:
    server = start(*TWO_WORKERS, "--limit-connections", "2").wait_ready()
    full = min(pids(server))
    gates = [Gate(folder, "first"), Gate(folder, "second")]
    with contextlib.ExitStack() as stack:
        held: list[RawClient] = []
        while len(held) < len(gates):
            client = stack.enter_context(RawClient(server.address))
            if int(client.get("/pid").answer().body) == full:
                client.get(f"/gate?{gates[len(held)].name}")
                gates[len(held)].wait_reached()
                held.append(client)
            else:
                client.close()
        wait_until(lambda: all(is_answered(server) for _ in range(16)))
        for client, gate in zip(held, gates, strict=True):
            gate.open()
            assert client.answer().body == b"through"


def is_answered(server: RunningServer) -> bool:
    """Tell whether a new client gets an answer soon."""
    with RawClient(server.address) as client:
        client.sock.settimeout(0.5)
        try:
            return client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").answer().status == 200
        except TimeoutError:
            return False
