"""Who makes room for connections that wait, and who does not."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastserve.net.crowd import Crowd
from tests.doubles import Peer, PlayedApp, Rig, request, turns

REASON = "It is full"


class Place:
    """A worker with a crowd, and its clock. app: the application."""

    def __init__(self, **options: Any) -> None:
        self.app = PlayedApp()
        self.rig = Rig(self.app, **options)
        self.told: list[bool] = []
        self.crowd = Crowd(self.rig.state, self.told.append)

    def pass_time(self, seconds: float) -> None:
        """Let the clock tick once, so much later."""
        self.rig.deadlines.tick(self.rig.deadlines.now + seconds)
        self.crowd.tick()

    def gather(self, listener: object = "a", level: int = logging.WARNING, reason: str = REASON) -> None:
        self.crowd.gather(listener, level, reason)

    async def served(self) -> Peer:
        """Return a client that has got a response and keeps its connection."""
        peer = self.rig.connect()
        peer.send(request("/"))
        await turns()
        await self.app.calls[-1].respond()
        peer.take()
        return peer


@asynccontextmanager
async def placed(**options: Any) -> AsyncIterator[Place]:
    place = Place(**options)
    yield place
    for connection in list(place.rig.state.connections):
        connection.cut()


def closed(*peers: Peer) -> list[bool]:
    return [peer.transport.is_closed for peer in peers]


async def test_the_one_that_has_been_idle_the_longest_makes_room_for_one() -> None:
    async with placed() as place:
        peers = []
        for _ in range(3):
            peers.append(await place.served())
            place.pass_time(1)
        peers[0].send(request("/again"))
        await turns()
        await place.app.calls[-1].respond()
        place.pass_time(1)
        assert closed(*peers) == [False, False, False], "nobody waits"
        place.gather()
        assert closed(*peers) == [False, True, False]
        place.gather()
        assert closed(*peers) == [False, True, True]
        place.gather()
        assert closed(*peers) == [True, True, True]
        place.gather()


async def test_who_has_sent_nothing_since_it_connected_makes_room() -> None:
    async with placed() as place:
        silent = place.rig.connect()
        place.pass_time(1)
        place.gather()
        assert closed(silent) == [True]


async def test_who_has_just_become_idle_does_not_but_later_when_someone_still_waits() -> None:
    async with placed() as place:
        peers = [await place.served(), place.rig.connect()]
        place.pass_time(0.75)
        place.gather()
        assert closed(*peers) == [False, False]
        place.pass_time(0.25)
        assert sum(closed(*peers)) == 1
        place.crowd.disperse("a")
        place.pass_time(5)
        assert sum(closed(*peers)) == 1, "nobody waits any more"


async def test_who_has_a_request_or_something_to_take_makes_no_room() -> None:
    async with placed() as place:
        started, running, unsent, switched = [place.rig.connect() for _ in range(4)]
        started.send(b"GET / HT")
        running.send(request("/"))
        unsent.send(request("/"))
        switched.send(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await turns()
        await place.app.calls[1].respond()
        unsent.transport.unsent = 10
        await place.app.calls[2].send({"type": "websocket.accept"})
        place.pass_time(2)
        place.gather()
        assert closed(started, running, unsent, switched) == [False] * 4
        unsent.transport.unsent = 0
        place.pass_time(0.25)
        assert closed(started, running, unsent, switched) == [False, False, True, False]


async def test_while_someone_waits_a_response_is_the_last_one_of_its_connection() -> None:
    async with placed() as place:
        peer = place.rig.connect()
        peer.send(request("/"))
        await turns()
        place.gather()
        await place.app.calls[-1].respond()
        assert b"connection: close" in peer.take()
        place.crowd.disperse("a")
        peer = place.rig.connect()
        peer.send(request("/"))
        await turns()
        await place.app.calls[-1].respond()
        assert b"connection: close" not in peer.take()


async def test_it_is_crowded_until_nobody_waits_at_any_listener() -> None:
    async with placed() as place:
        state = place.rig.state
        place.gather("a")
        place.gather("b")
        place.gather("b")
        place.crowd.disperse("b")
        assert state.is_crowded
        place.crowd.disperse("a")
        place.crowd.disperse("a")
        assert not state.is_crowded


async def test_that_there_is_no_space_and_that_there_is_again_is_told_once() -> None:
    async with placed(limit_connections=2) as place:
        first = place.rig.connect()
        place.crowd.look()
        assert place.told == []
        second = place.rig.connect()
        place.crowd.look()
        place.crowd.look()
        assert place.told == [True]
        first.reset()
        assert place.told == [True, False]
        place.gather()
        second.reset()
        assert place.told == [True, False, True], "someone waits at a listener"
        place.crowd.disperse("a")
        assert place.told == [True, False, True, False]


async def test_who_is_idle_is_looked_for_only_once_a_tick() -> None:
    async with placed() as place:
        place.gather()
        late = place.rig.connect()
        place.rig.deadlines.tick(place.rig.deadlines.now + 2)
        place.gather()
        assert closed(late) == [False]
        place.crowd.tick()
        assert closed(late) == [True]


async def test_the_log_is_told_of_each_reason_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async with placed() as place:
        place.gather()
        place.gather("b")
        place.gather(level=logging.ERROR, reason="Something else")
        place.pass_time(59)
        place.gather()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", "It is full: new ones wait until others close, as those do that are idle."),
            ("ERROR", "Something else: new ones wait until others close, as those do that are idle."),
        ]
        place.pass_time(1)
        place.gather()
        assert len(caplog.records) == 3
