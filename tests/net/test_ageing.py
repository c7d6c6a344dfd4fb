"""Connections are closed with a response when they are old."""

from __future__ import annotations

from typing import cast

from fastserve.addresses import AllowList
from fastserve.asgi.types import Receive, Scope, Send
from fastserve.net.ageing import Ages
from fastserve.net.connection import Connection
from fastserve.net.deadlines import Watched
from fastserve.net.introduction import Introduction
from tests.doubles import START, Rig, request, response, turns


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_an_old_connection_is_closed_with_its_next_response_and_not_without_one() -> None:
    rig, ages = Rig(app, timeout_keep_alive=1000), Ages(100)
    peer = rig.connect()
    for now in (0, 50, 89):
        ages.tick(START + now, rig.state.connections)
        peer.send(request())
        await turns()
        assert peer.take() == response()
    ages.tick(START + 120, rig.state.connections)
    await turns()
    assert not peer.transport.is_closed
    peer.send(request())
    await turns()
    assert peer.take() == response(b"ok", "connection: close")


async def test_ages_differ_by_a_tenth_up_and_down() -> None:
    rig, ages = Rig(app), Ages(100)
    peers = [rig.connect() for _ in range(200)]
    retired = []
    for now in (0, 89, 100, 111):
        ages.tick(START + now, rig.state.connections)
        for peer in peers:
            peer.send(request())
        await turns(20)
        retired.append(sum(b"connection: close" in peer.take() for peer in peers))
    assert retired[:2] == [0, 0]
    assert 40 < retired[2] < 160
    assert sum(retired) == 200


async def test_connections_are_looked_at_now_and_then_only_and_not_kept() -> None:
    rig, ages = Rig(app), Ages(100)
    ages.tick(START, rig.state.connections)
    peer = rig.connect()
    for now in (1, 4.9):
        ages.tick(START + now, rig.state.connections)
        assert not ages._due
    ages.tick(START + 5, rig.state.connections)
    assert list(ages._due) == [peer.connection]
    peer.reset()
    ages.tick(START + 10, rig.state.connections)
    assert not ages._due


async def test_what_is_no_connection_yet_has_no_age() -> None:
    rig, ages = Rig(app), Ages(1)
    introduction = cast(
        Watched, Introduction(rig.state, AllowList("*", "--proxy-allow-ips"), lambda: Connection(rig.state))
    )
    for now in (0, 5, 10):
        ages.tick(START + now, [introduction])
    assert not ages._due
