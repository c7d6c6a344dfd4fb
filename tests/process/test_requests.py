"""Requests of every shape, over a real socket, with the clients that people use and with one that shows every byte."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import requests

from .running import SERVED, RawClient, RunningServer, new_client, prepare, starting_servers, wait_until

MIB = 2**20


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that all tests of this module use."""
    with starting_servers(prepare(tmp_path_factory.mktemp("server"))) as start:
        server = start(SERVED, "--port", "0", "--workers", request.param).wait_ready()
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with new_client(server) as client:
        yield client


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def raw(server: RunningServer) -> Iterator[RawClient]:
    with RawClient(server.address) as raw:
        yield raw


def pieces(count: int = 64) -> Iterator[bytes]:
    """Yield a body whose length is not known before."""
    for number in range(count):
        yield bytes([number]) * 1000


WHOLE = b"".join(pieces())


# httpx.


def test_get_answers_with_status_fields_and_body(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.http_version, answer.text) == (200, "HTTP/1.1", "hello")
    assert answer.headers["content-length"] == "5"
    assert answer.headers["server"] == "fastserve"
    assert "date" in answer.headers


def test_head_has_the_fields_of_get_and_no_body(client: httpx.Client) -> None:
    answer = client.head("/")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5", b"")
    assert client.get("/").text == "hello"


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 2 * MIB], ids="{} bytes".format)
def test_a_body_with_a_length_arrives(client: httpx.Client, size: int) -> None:
    body = os.urandom(size)
    assert client.post("/echo", content=body).content == body


def test_a_chunked_body_arrives(client: httpx.Client) -> None:
    answer = client.post("/echo", content=pieces())
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.content == WHOLE


def test_a_response_without_a_length_is_streamed(client: httpx.Client) -> None:
    with client.stream("GET", "/parts?64") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert sum(len(part) for part in answer.iter_raw()) == 4 * MIB


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_any_method_reaches_the_application(client: httpx.Client, method: str) -> None:
    assert client.request(method, "/scope").json()["method"] == method


def test_the_application_learns_who_asks_for_what(server: RunningServer, client: httpx.Client) -> None:
    seen = client.get("/scope", params={"q": "a b"}).json()
    host, port = seen.pop("client")
    assert (host, type(port)) == ("127.0.0.1", int)
    assert seen == {
        "server": list(server.address),
        "scheme": "http",
        "http_version": "1.1",
        "method": "GET",
        "root_path": "",
        "path": "/scope",
        "query_string": "q=a+b",
    }


def test_a_client_that_leaves_in_the_middle_of_a_response_is_no_error(
    server: RunningServer, client: httpx.Client
) -> None:
    with client.stream("GET", "/parts?1000") as answer:
        next(answer.iter_raw())
    assert client.get("/").status_code == 200
    assert "Traceback" not in server.log


# requests.


def test_requests_gets(server: RunningServer, session: requests.Session) -> None:
    answer = session.get(server.url)
    assert (answer.status_code, answer.text) == (200, "hello")


def test_requests_gets_the_head(server: RunningServer, session: requests.Session) -> None:
    answer = session.head(server.url)
    assert (answer.headers["content-length"], answer.content) == ("5", b"")


def test_requests_posts_a_form(server: RunningServer, session: requests.Session) -> None:
    assert session.post(f"{server.url}/echo", data={"a": "1 2"}).text == "a=1+2"


def test_requests_uploads_in_chunks(server: RunningServer, session: requests.Session) -> None:
    answer = session.post(f"{server.url}/echo", data=pieces())
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    assert answer.content == WHOLE


def test_requests_downloads_a_stream(server: RunningServer, session: requests.Session) -> None:
    with session.get(f"{server.url}/parts?16", stream=True) as answer:
        assert sum(len(part) for part in answer.iter_content(65536)) == MIB


# One connection.


def test_a_connection_is_kept_for_the_next_request(raw: RawClient) -> None:
    pids = {raw.get("/pid").answer().body for _ in range(20)}
    assert len(pids) == 1


def test_pipelined_requests_are_answered_in_their_order(raw: RawClient) -> None:
    raw.get("/scope?1", "/", "/scope?2", "/missing", "/scope?3")
    answers = [raw.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
    assert [json.loads(answer.body)["query_string"] for answer in answers[::2]] == ["1", "2", "3"]


def test_pipelined_requests_with_bodies_keep_their_bodies(raw: RawClient) -> None:
    post = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}"
    raw.send("".join(post.format(len(body), body) for body in ("one", "", "three")).encode())
    assert [raw.answer().body for _ in range(3)] == [b"one", b"", b"three"]


def test_many_pipelined_requests_are_all_answered(raw: RawClient) -> None:
    count = 500
    sender = threading.Thread(target=raw.get, args=["/"] * count)
    sender.start()
    answers = [raw.answer() for _ in range(count)]
    sender.join()
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"hello")}


def test_a_request_may_come_byte_by_byte(raw: RawClient) -> None:
    for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
        raw.send(bytes([byte]))
    assert raw.answer().body == b"abc"


def test_a_field_without_a_name_is_refused(raw: RawClient) -> None:
    assert raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n").answer().status == 400


def test_a_client_that_asks_for_it_gets_the_last_answer_and_the_end(raw: RawClient) -> None:
    raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert raw.answer().fields["connection"] == "close"
    assert raw.rest() == b""


def test_a_client_that_has_finished_sending_is_answered(raw: RawClient) -> None:
    raw.get("/")
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.rest().endswith(b"\r\n\r\nhello")


# Many connections.


def test_many_clients_at_once_are_all_answered(server: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)) for _ in range(200)]
        for _ in range(3):
            for client in clients:
                client.get("/")
            assert {client.answer().body for client in clients} == {b"hello"}


def test_connections_are_spread_over_all_processes(server: RunningServer) -> None:
    assert pids_that_answer(server) == {process.pid for process in serving(server)}


@pytest.mark.parametrize("workers", [1, 2])
def test_file_descriptors_are_given_back_also_after_broken_connections(tmp_path: Path, workers: int) -> None:
    # A server of its own: a socket that a client of another test has reset is in no table any more, yet still open.
    with starting_servers(prepare(tmp_path)) as start:
        server = start(SERVED, "--port", "0", "--workers", str(workers)).wait_ready()
        processes = serving(server)
        # libuv opens a file for the whole time with the first connection of a process.
        wait_until(lambda: pids_that_answer(server) == {process.pid for process in processes})
        wait_until(lambda: not open_connections(processes))
        before = [process.num_fds() for process in processes]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(RawClient(server.address)) for _ in range(200)]
            for number, client in enumerate(clients):
                break_in_a_way(client, number)
            wait_until(lambda: open_connections(processes))
        wait_until(lambda: [process.num_fds() for process in processes] == before)


def serving(server: RunningServer) -> list[psutil.Process]:
    """Return the processes that answer."""
    return server.workers or [server.process]


def pids_that_answer(server: RunningServer) -> set[int]:
    """Return who answers one or more of many connections."""
    seen = set()
    for _ in range(64):
        with RawClient(server.address) as client:
            seen.add(int(client.get("/pid").answer().body))
    return seen


def open_connections(processes: list[psutil.Process]) -> int:
    return sum(
        connection.status != psutil.CONN_LISTEN
        for process in processes
        for connection in process.net_connections("tcp")
    )


def break_in_a_way(client: RawClient, number: int) -> None:
    """Do one of the things that clients do before they leave."""
    match number % 6:
        case 0:
            client.get("/").answer()
        case 1:
            client.get("/parts?100")  # and does not read
        case 2:
            client.send(b"GET / HT")
        case 3:
            client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        case 4:
            client.send(b"nonsense\r\n\r\n")
        case 5:
            client.get("/")
            reset(client)


def reset(client: RawClient) -> None:
    """Close with a reset instead of an orderly end."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
