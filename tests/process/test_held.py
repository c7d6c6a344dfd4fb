"""Hundreds of WebSockets and event streams at a time, held by the application and the clients of `bench.held`."""

from __future__ import annotations

import pytest

from bench.held import Crowd, broadcast, wait_gone

from .running import Start

CLIENTS = 200
WITHIN_S = 30


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_clients_are_pinged_and_told_and_their_ends_noticed(loop: str, start: Start) -> None:
    pings = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "20")
    server = start("bench.held:app", "--port", "0", "--loop", loop, "--no-access-log", *pings)
    port = server.wait_log("Fastserve running on").address[1]
    for _ in range(2):
        crowd = Crowd(port)
        crowd.open(CLIENTS, "/", is_websocket=True)
        crowd.open(CLIENTS, "/", is_websocket=False)
        crowd.run(lambda crowd=crowd: crowd.pings >= 2 * CLIENTS, WITHIN_S)  # type: ignore[misc]
        broadcast(crowd, port, server.process, 2 * CLIENTS)
        crowd.close()
        wait_gone(port)
    assert server.stop() == 0
    assert "Traceback" not in server.log
