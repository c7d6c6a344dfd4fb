"""Bounds that a client or an operator can reach: memory, connections, requests, file descriptors, time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from .running import SERVED, WORKERS, Gate, RawClient, RunningServer, Start, new_client, wait_until

MIB = 2**20
# Beyond the buffers of a connection: what the allocator of Python may take meanwhile.
GROWTH_BYTES = 8 * MIB


class MemoryWatch:
    """Watches the memory of a process, as long as it is entered. most: what it had at most, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = process.memory_info().rss

    def _watch(self) -> None:
        while not self._is_over.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.most - self.before


@pytest.fixture(params=["uvloop", "asyncio"])
def warm_server(request: pytest.FixtureRequest, start: Start) -> RunningServer:
    """A server that has been used a little: what is only taken once, is taken."""
    server = start(SERVED, "--port", "0", "--no-access-log", "--loop", request.param).wait_ready()
    with new_client(server) as client:
        client.get("/parts?100")
        client.post("/swallow", content=bytes(4 * MIB))
    return server


def test_a_download_of_256_mb_takes_no_memory(warm_server: RunningServer) -> None:
    with MemoryWatch(warm_server.process) as memory, new_client(warm_server) as client:
        assert download(client, "/parts?4096") == 256 * MIB
    assert memory.growth < GROWTH_BYTES


def download(client: httpx.Client, target: str) -> int:
    """Read a body without keeping it, and return its size."""
    with client.stream("GET", target) as answer:
        return sum(len(part) for part in answer.iter_raw())


def test_a_client_that_does_not_read_takes_no_memory(warm_server: RunningServer) -> None:
    with MemoryWatch(warm_server.process) as memory, RawClient(warm_server.address) as client:
        client.get("/parts?4096")
        wait_idle(warm_server.process)
    assert memory.growth < GROWTH_BYTES


def wait_idle(process: psutil.Process) -> None:
    """Wait until a process has nothing to do."""

    def did_nothing() -> bool:
        before = process.cpu_times()
        time.sleep(0.1)
        return process.cpu_times()[:2] == before[:2]

    wait_until(did_nothing)


def test_an_upload_of_64_mb_that_is_read_slowly_takes_no_memory(warm_server: RunningServer) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(MIB)

    with MemoryWatch(warm_server.process) as memory, new_client(warm_server) as client:
        seen = client.post("/swallow", content=body(), headers={"content-length": str(64 * MIB)}).json()
    assert seen["size"] == 64 * MIB
    assert seen["largest"] < MIB
    assert memory.growth < GROWTH_BYTES


def test_an_upload_that_nobody_reads_is_held_back(warm_server: RunningServer) -> None:
    """The application waits for something else."""
    gate = Gate(warm_server.folder, "held")
    with RawClient(warm_server.address) as client, MemoryWatch(warm_server.process) as memory:
        client.send(b"POST /gate?held HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
        gate.wait_reached()
        sent = send_until_stuck(client, 256 * MIB)
    assert sent < 64 * MIB  # the buffers of the kernel, on both sides
    assert memory.growth < GROWTH_BYTES


def send_until_stuck(client: RawClient, most: int) -> int:
    """Send so many bytes, or until none was taken for a while; return how many were."""
    client.sock.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += client.sock.send(bytes(MIB))
    return sent


# Connections and requests.


@WORKERS
def test_one_request_more_than_the_limit_is_answered_with_503(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--limit-concurrency", "1", "--workers", workers).wait_ready()
    gate = Gate(server.folder, "held")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(RawClient(server.address)).get("/gate?held")
        gate.wait_reached()
        statuses = set()
        refused = None
        for number in range(1000):  # with two workers, some reach the free one, once it is known
            answer = stack.enter_context(RawClient(server.address)).get("/").answer()
            statuses.add(answer.status)
            if answer.status == 503:
                refused = answer
            if number >= 30 and (workers == "1" or len(statuses) == 2):
                break
        assert statuses == ({503} if workers == "1" else {200, 503})
        assert refused is not None
        assert (refused.fields["retry-after"], refused.body) == ("1", b"Service Unavailable")
        gate.open()
        assert running.answer().status == 200
        assert running.get("/").answer().status == 200


def test_one_connection_more_than_the_limit_waits_for_another_to_close(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--limit-connections", "2").wait_ready()
    with RawClient(server.address) as first, RawClient(server.address) as second, RawClient(server.address) as third:
        assert first.get("/").answer().status == 200
        assert second.get("/").answer().status == 200
        third.get("/")
        third.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            third.sock.recv(1)
        first.close()
        third.sock.settimeout(10)
        assert third.sock.recv(12) == b"HTTP/1.1 200"


def test_connections_that_are_idle_make_room_for_those_that_wait(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--limit-connections", "2").wait_ready()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(10)]
        for client in clients:
            client.get("/")
        assert {client.answer().status for client in clients} == {200}
        server.wait_log(
            f"WARNING:  All 2 connections of process [{server.pid}] are taken (--limit-connections): new ones"
        )


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="no limits can be set for another process")
def test_a_server_without_file_descriptors_closes_idle_connections_for_those_that_wait(start: Start) -> None:
    server = start(SERVED, "--port", "0").wait_ready()
    limit = server.process.num_fds() + 5
    server.process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(20)]
        for client in clients:
            client.get("/")
        assert {client.answer().status for client in clients} == {200}, "idle connections make room"
    server.wait_log("ERROR:    Cannot accept connections: Too many open files: new ones wait")
    with RawClient(server.address) as client:
        assert client.get("/").answer().status == 200
    assert "Traceback" not in server.log


def test_a_body_that_is_too_large_is_refused_although_the_client_still_sends(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--limit-request-body", "1000").wait_ready()
    with new_client(server) as client:
        assert client.post("/echo", content=bytes(1000)).status_code == 200
        assert client.post("/echo", content=bytes(4 * MIB)).status_code == 413
        assert client.get("/").status_code == 200


# Time.


TIMES = {
    "an idle connection": ("--timeout-keep-alive", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"hello"),
    "half a head": ("--timeout-request-head", b"GET / HTTP/1.1\r\nHost", b"408 Request Timeout"),
    "half a body": (
        "--timeout-request-body",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        b"408 Request Timeout",
    ),
}


@pytest.mark.parametrize(("option", "request_bytes", "answer"), TIMES.values(), ids=TIMES.keys())
def test_a_client_that_falls_silent_is_left_after_its_time(
    start: Start, option: str, request_bytes: bytes, answer: bytes
) -> None:
    server = start(SERVED, "--port", "0", option, "1").wait_ready()
    with RawClient(server.address) as client:
        began = time.monotonic()
        assert answer in client.send(request_bytes).rest()
        assert 0.7 < time.monotonic() - began < 3


BLOCKING = """
import time

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"] == "/block":
        time.sleep(2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_comes_while_the_event_loop_is_blocked_is_in_time(start: Start, folder: Path, loop: str) -> None:
    (folder / "blocking.py").write_text(BLOCKING)
    server = start("blocking:app", "--port", "0", "--loop", loop, "--timeout-keep-alive", "1")
    server.wait_log("Fastserve running on")
    with RawClient(server.address) as waiting, RawClient(server.address) as blocking:
        assert waiting.get("/").answer().status == 200
        blocking.get("/block")
        waiting.get("/")
        assert (blocking.answer().status, waiting.answer().status) == (200, 200)


@WORKERS
def test_a_connection_ends_with_a_response_when_it_is_old(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers, "--limit-connection-age", "1").wait_ready()
    with RawClient(server.address) as client:
        began = time.monotonic()
        while client.get("/").answer().fields.get("connection") != "close":
            assert time.monotonic() - began < 10
        assert time.monotonic() - began > 0.5
        assert client.rest() == b""
