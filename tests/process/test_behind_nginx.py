"""Behind a real nginx, with the configuration in docs/deploy."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from .load import ClosedLoop
from .proxies import client_from, needs_nginx, nginx
from .running import SERVED, RunningServer, Start, wait_until

pytestmark = needs_nginx

CLIENT = "127.0.0.2"  # which nobody trusts
BODY = random.Random(1).randbytes(24_000_000)

Behind = Callable[..., tuple[RunningServer, str]]


@pytest.fixture(params=["tcp", "unix"])
def behind(request: pytest.FixtureRequest, start: Start, folder: Path) -> Behind:
    """Start a server for nginx to connect to, by TCP and by a Unix socket; return it and its address for nginx."""

    def serve(*arguments: str) -> tuple[RunningServer, str]:
        if request.param == "tcp":
            server = start(SERVED, "--port", "0", *arguments).wait_ready()
            return server, "{}:{}".format(*server.address)
        bind = f"unix:{folder}/app.sock"
        server = start(SERVED, "--bind", bind, "--forwarded-allow-ips", "unix", *arguments).wait_ready()
        return server, bind

    return serve


def test_the_application_sees_the_client_whatever_that_says_of_itself(behind: Behind, folder: Path) -> None:
    server, upstream = behind()
    with nginx(folder, upstream) as proxy, client_from(CLIENT, proxy) as client:
        spoofed = {
            "x-forwarded-for": "203.0.113.9",
            "x-forwarded-proto": "https",
            "x-forwarded-host": "evil.example",
            "x-forwarded-prefix": "/evil",
            "forwarded": "for=203.0.113.9;proto=https",
        }
        scope = client.get("/scope", headers=spoofed).json()
        assert (scope["client"], scope["scheme"], scope["root_path"]) == ([CLIENT, 0], "http", "")
        wait_until(lambda: f'{CLIENT}:0 - "GET /scope HTTP/1.1" 200 OK' in server.output)


def test_fields_that_nginx_is_told_to_set_are_believed_when_they_are_named(behind: Behind, folder: Path) -> None:
    line = "proxy_set_header X-Forwarded-Proto $scheme;"
    more = (
        "proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host example.org;"
        "proxy_set_header X-Forwarded-Port 8443;"
    )
    _, upstream = behind("--forwarded-fields", "for,proto,host,port")
    with nginx(folder, upstream, {line: more}) as proxy, client_from(CLIENT, proxy) as client:
        scope = client.get("/scope", headers={"x-forwarded-host": "evil.example"}).json()
        assert (scope["scheme"], scope["server"]) == ("https", ["example.org", 8443])


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_a_large_body_goes_through_both_ways(behind: Behind, folder: Path, buffering: str) -> None:
    _, upstream = behind()
    changes = {
        "# proxy_request_buffering off;": f"proxy_request_buffering {buffering};",
        "# proxy_buffering off;": f"proxy_buffering {buffering};",
    }
    with nginx(folder, upstream, changes) as proxy, client_from(CLIENT, proxy) as client:
        assert client.post("/echo", content=BODY).content == BODY
        assert client.post("/echo", content=iter([BODY[:9_000_000], BODY[9_000_000:]])).content == BODY


def test_nginx_keeps_its_connections_to_the_server(behind: Behind, folder: Path) -> None:
    server, upstream = behind("--status-path", "/status")
    with nginx(folder, upstream) as proxy, client_from("127.0.0.1", proxy) as client:
        for _ in range(40):
            assert client.get("/").text == "hello"
        # One for each worker of nginx, at most.
        assert client.get("/status").json()["total"]["connections"] <= 2
    assert server.is_running


@pytest.mark.parametrize("recycling", ["SIGHUP", "--limit-max-requests"])
def test_workers_are_replaced_without_a_502(behind: Behind, folder: Path, recycling: str) -> None:
    options = ("--limit-max-requests", "300") if recycling != "SIGHUP" else ()
    server, upstream = behind("--workers", "2", *options)
    # A POST is not repeated by nginx when its connection is lost: nothing can hide that here.
    with nginx(folder, upstream) as proxy:
        with (
            ClosedLoop(proxy.address, method="POST") as kept,
            ClosedLoop(proxy.address, connections=4, keeps=False, method="POST") as new,
        ):
            wait_until(lambda: kept.answered > 50)
            for answering in (3, 5):
                if recycling == "SIGHUP":
                    os.kill(server.pid, signal.SIGHUP)
                wait_until(lambda answering=answering: len({*kept.pids, *new.pids}) >= answering)  # type: ignore[misc]
        assert (kept.failed, new.failed) == ({}, {}), proxy.log
        assert "prematurely closed" not in proxy.log
    assert server.stop() == 0


@pytest.mark.skipif(find_spec("fastserve.wire.ws") is None, reason="this version of fastserve has no WebSockets")
def test_a_websocket_goes_through_and_its_client_is_known(behind: Behind, folder: Path) -> None:
    from websockets.sync.client import connect

    _, upstream = behind()
    with nginx(folder, upstream) as proxy:
        sock = socket.create_connection(proxy.place, source_address=(CLIENT, 0))
        with sock, connect("ws://example.org/", sock=sock) as client:
            assert json.loads(client.recv()) == {"client": [CLIENT, 0], "scheme": "ws"}
            for message in ("text", b"bytes", BODY[:1_000_000]):
                client.send(message)
                assert client.recv() == message
