"""Where connections come from: addresses of every kind, and what happens when one is taken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import SERVED, WORKERS, RawClient, Start, ipv6, wait_until


@WORKERS
def test_a_unix_socket_serves_while_the_server_runs_and_is_gone_afterwards(
    start: Start, folder: Path, workers: str
) -> None:
    server = start(SERVED, "--bind", "unix:app.sock", "--workers", workers).wait_ready()
    path = folder / "app.sock"
    assert "Fastserve running on unix socket app.sock (Press CTRL+C to quit)\n" in server.log
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with RawClient(str(path)) as client:
        scope = json.loads(client.get("/scope").answer().body)
        assert scope["client"] is None
        assert scope["server"] == ["app.sock", None]
        assert client.get("/").answer().body == b"hello"
    assert server.stop() == 0
    assert not path.exists()
    assert 'INFO:     unix - "GET / HTTP/1.1" 200 OK\n' in server.output


@WORKERS
def test_a_second_server_leaves_the_unix_socket_to_the_first_one(start: Start, folder: Path, workers: str) -> None:
    start(SERVED, "--bind", "unix:app.sock", "--workers", workers).wait_ready()
    second = start(SERVED, "--bind", "unix:app.sock", "--workers", workers)
    assert second.wait_exit() == 3
    assert second.log.count("ERROR:    cannot listen on unix:app.sock: another server does\n") == 1
    with RawClient(str(folder / "app.sock")) as client:
        assert client.get("/").answer().body == b"hello"


def test_the_unix_socket_of_a_server_that_was_killed_is_taken_over(start: Start, folder: Path) -> None:
    first = start(SERVED, "--bind", "unix:app.sock").wait_ready()
    first.send_signal(signal.SIGKILL)
    first.wait_exit()
    assert (folder / "app.sock").exists()
    start(SERVED, "--bind", "unix:app.sock").wait_ready()
    with RawClient(str(folder / "app.sock")) as client:
        assert client.get("/").answer().body == b"hello"


@WORKERS
def test_an_inherited_socket_is_served(start: Start, workers: str) -> None:
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        address = ours.getsockname()
        server = start(SERVED, "--bind", f"fd://{ours.fileno()}", "--workers", workers, fds=[ours.fileno()])
        server.wait_ready()
    assert server.address == address
    with RawClient(address) as client:
        assert json.loads(client.get("/scope").answer().body)["server"] == list(address)
    assert server.stop() == 0


def test_an_inherited_unix_socket_is_served(start: Start, folder: Path) -> None:
    path = str(folder / "outer.sock")
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(path)
        ours.listen()
        server = start(SERVED, "--bind", f"fd://{ours.fileno()}", fds=[ours.fileno()]).wait_ready()
        with RawClient(path) as client:
            scope = json.loads(client.get("/scope").answer().body)
        assert (scope["client"], scope["server"]) == (None, [path, None])
        assert server.stop() == 0
    assert os.path.exists(path), "the file belongs to whoever made the socket"


@contextlib.contextmanager
def fd_of(kind: str, folder: Path) -> Iterator[int]:
    """Open something that cannot be listened on."""
    match kind:
        case "file":
            with (folder / "file").open("w") as file:
                yield file.fileno()
        case "datagrams":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                yield sock.fileno()
        case "connected":
            ours, theirs = socket.socketpair()
            with ours, theirs:
                yield ours.fileno()


@pytest.mark.parametrize("kind", ["file", "datagrams", "connected"])
def test_an_inherited_socket_that_cannot_be_listened_on_is_status_3(start: Start, folder: Path, kind: str) -> None:
    with fd_of(kind, folder) as fd:
        server = start(SERVED, "--bind", f"fd://{fd}", fds=[fd])
        assert server.wait_exit() == 3, server.log
    assert server.log.count(f"ERROR:    cannot listen on fd://{fd}: ") == 1
    assert "Traceback" not in server.log


@WORKERS
def test_several_addresses_are_served_at_once(start: Start, folder: Path, workers: str) -> None:
    addresses = ["127.0.0.1:0", "localhost:0", "unix:app.sock"]
    binds = [word for address in addresses for word in ("--bind", address)]
    server = start(SERVED, *binds, "--workers", workers).wait_ready()
    server.wait_log("Fastserve running on ", times=3)
    first, second = server.urls
    assert first.startswith("http://127.0.0.1:")
    assert second.startswith("http://localhost:")
    ports = [int(url.rpartition(":")[2]) for url in (first, second)]
    for place in (("127.0.0.1", ports[0]), ("localhost", ports[1]), str(folder / "app.sock")):
        with RawClient(place) as client:
            assert client.get("/").answer().body == b"hello"
    assert server.stop() == 0


@ipv6
@WORKERS
@pytest.mark.parametrize("options", [["--host", "::1", "--port", "0"], ["--bind", "[::1]:0"]], ids=["host", "bind"])
def test_an_ipv6_address_is_served(start: Start, workers: str, options: list[str]) -> None:
    server = start(SERVED, *options, "--workers", workers).wait_ready()
    assert server.url.startswith("http://[::1]:")
    with RawClient(server.address) as client:
        assert json.loads(client.get("/scope").answer().body)["client"][0] == "::1"
    assert server.stop() == 0
    assert "INFO:     ::1:" in server.output or "INFO:     [::1]:" in server.output


@pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])
@pytest.mark.parametrize("first_workers", ["1", "2"], ids=["beside one process", "beside two workers"])
def test_a_second_server_on_the_same_port_is_status_3(start: Start, first_workers: str, workers: str) -> None:
    first = start(SERVED, "--port", "0", "--workers", first_workers).wait_ready()
    port = first.address[1]
    second = start(SERVED, "--port", str(port), "--workers", workers)
    assert second.wait_exit() == 3
    assert second.log.count(f"ERROR:    cannot listen on 127.0.0.1:{port}: Address already in use\n") == 1
    assert "Traceback" not in second.log
    with RawClient(first.address) as client:
        assert client.get("/").answer().body == b"hello"


def test_a_second_server_is_refused_also_while_the_first_one_starts(start: Start, folder: Path) -> None:
    """Otherwise both would serve, and each client get one of them by chance."""
    (folder / "slow.py").write_text(
        "import asyncio, os\nfrom served import app as fast\n\nasync def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        open(f'starting-{os.getpid()}', 'w').close()\n"
        "        while not os.path.exists('go'):\n            await asyncio.sleep(0.01)\n"
        "    await fast(scope, receive, send)\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = start("slow:app", "--port", str(port))
    wait_until((folder / f"starting-{first.pid}").exists)
    second = start("slow:app", "--port", str(port))
    wait_until(lambda: (folder / f"starting-{second.pid}").exists() or not second.is_running)
    (folder / "go").touch()
    # Which one has its application started first is up to chance.
    wait_until(lambda: not (first.is_running and second.is_running))
    refused, serving = (second, first) if first.is_running else (first, second)
    serving.wait_ready()
    assert refused.wait_exit() == 3
    assert refused.log.endswith(f"ERROR:    cannot listen on 127.0.0.1:{port}: Address already in use\n")
    assert "Traceback" not in refused.log


@WORKERS
def test_a_server_can_be_started_again_at_once_on_the_same_port(start: Start, workers: str) -> None:
    first = start(SERVED, "--port", "0", "--workers", workers).wait_ready()
    with RawClient(first.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").rest()
    assert first.stop() == 0
    second = start(SERVED, "--port", str(first.address[1]), "--workers", workers).wait_ready()
    with RawClient(second.address) as client:
        assert client.get("/").answer().body == b"hello"
