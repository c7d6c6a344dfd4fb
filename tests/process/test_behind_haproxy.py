"""Behind a real HAProxy, with the configurations in docs/deploy."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from .load import ClosedLoop
from .proxies import client_from, haproxy, needs_haproxy
from .running import SERVED, RawClient, RunningServer, Start, wait_until

pytestmark = needs_haproxy

CLIENT = "127.0.0.2"
BODY = random.Random(1).randbytes(24_000_000)
HEADERS = pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check check-send-proxy"])


def changes(upstream: str, header: str) -> dict[str, str]:
    return {"10.0.0.11:8000": upstream, "send-proxy-v2": header}


def one(upstream: str) -> dict[str, str]:
    """Return the changes for one server in place of three."""
    return {
        "    server app2 10.0.0.12:8000\n": "",
        "    server app3 10.0.0.13:8000\n": "",
        "10.0.0.11:8000": upstream,
    }


def address(server: RunningServer) -> str:
    return "{}:{}".format(*server.address)


@HEADERS
def test_the_application_sees_the_client_by_a_proxy_header(start: Start, folder: Path, header: str) -> None:
    server = start(SERVED, "--port", "0", "--proxy-protocol", "on").wait_ready()
    configured = haproxy(folder, "haproxy-tcp.cfg", changes(address(server), header))
    with configured as proxy, client_from(CLIENT, proxy) as client:
        scope = client.get("/scope", headers={"x-forwarded-for": "203.0.113.9"}).json()
        assert scope["server"] == list(proxy.address)
        host, port = scope["client"]
        assert host == CLIENT
        wait_until(lambda: f'{CLIENT}:{port} - "GET /scope HTTP/1.1" 200 OK' in server.output)
        assert client.post("/echo", content=BODY).content == BODY


def test_a_unix_socket_takes_proxy_headers(start: Start, folder: Path) -> None:
    bind = f"unix:{folder}/app.sock"
    start(SERVED, "--bind", bind, "--proxy-protocol", "on", "--proxy-allow-ips", "unix").wait_ready()
    configured = haproxy(folder, "haproxy-tcp.cfg", changes(f"unix@{folder}/app.sock", "send-proxy-v2"))
    with configured as proxy, client_from(CLIENT, proxy) as client:
        scope = client.get("/scope").json()
        assert (scope["client"][0], scope["server"]) == (CLIENT, list(proxy.address))


def test_a_client_that_is_no_proxy_cannot_introduce_itself(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--proxy-protocol", "on", "--proxy-allow-ips", "192.0.2.1").wait_ready()
    with RawClient(server.address) as client:
        client.send(b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\nGET /scope HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    with RawClient(server.address) as client:
        assert b'"client": ["127.0.0.1", ' in client.get("/scope").answer().body


def test_forwarded_fields_of_haproxy_are_believed(start: Start, folder: Path) -> None:
    server = start(SERVED, "--port", "0", "--ready-path", "/ready").wait_ready()
    with haproxy(folder, "haproxy.cfg", one(address(server))) as proxy, client_from(CLIENT, proxy) as client:
        wait_until(lambda: client.get("/").status_code == 200)
        spoofed = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        scope = client.get("/scope", headers=spoofed).json()
        assert (scope["client"], scope["scheme"]) == ([CLIENT, 0], "http")


@HEADERS
def test_reloads_behind_a_tcp_proxy_lose_nothing(start: Start, folder: Path, header: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", "2", "--proxy-protocol", "on").wait_ready()
    with haproxy(folder, "haproxy-tcp.cfg", changes(address(server), header)) as proxy:
        reload_under_load(server, proxy.address)
    assert server.stop() == 0


def test_reloads_behind_an_http_proxy_lose_nothing(start: Start, folder: Path) -> None:
    server = start(SERVED, "--port", "0", "--workers", "2", "--ready-path", "/ready").wait_ready()
    with haproxy(folder, "haproxy.cfg", one(address(server))) as proxy:
        with client_from(CLIENT, proxy) as client:
            wait_until(lambda: client.get("/").status_code == 200)
        reload_under_load(server, proxy.address)
    assert server.stop() == 0


def reload_under_load(server: RunningServer, address: tuple[str, int] | str) -> None:
    """Reload twice while requests are sent that the proxy does not repeat."""
    with (
        ClosedLoop(address, method="POST") as kept,
        ClosedLoop(address, connections=4, keeps=False, method="POST") as new,
    ):
        wait_until(lambda: kept.answered > 50)
        for _ in range(2):
            before = {worker.pid for worker in server.workers}
            os.kill(server.pid, signal.SIGHUP)

            def are_replaced(before: set[int] = before) -> bool:
                now = {worker.pid for worker in server.workers}
                return len(now) == 2 and not before & now

            wait_until(are_replaced)
    assert (kept.failed, new.failed) == ({}, {})
