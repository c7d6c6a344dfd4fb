"""What the connections of a worker share."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref

import pytest

from tests.doubles import PlayedApp, Rig, turns


@pytest.mark.parametrize(
    ("limit", "open_", "coming", "has_space"),
    [
        (None, 5, 1000, True),
        (3, 0, 0, True),
        (3, 2, 0, True),
        (3, 1, 1, True),
        (3, 3, 0, False),
        (3, 2, 1, False),
        (3, 0, 3, False),
        (1, 0, 0, True),
        (1, 1, 0, False),
    ],
)
async def test_there_is_space_while_the_connections_and_those_that_come_are_below_the_limit(
    limit: int | None, open_: int, coming: int, has_space: bool
) -> None:
    rig = Rig(PlayedApp(), **({} if limit is None else {"limit_connections": limit}))
    for _ in range(open_):
        rig.connect()
    rig.state.coming = coming
    assert rig.state.has_space() is has_space


async def test_a_connection_counts_as_coming_until_it_is_there() -> None:
    rig = Rig(PlayedApp())
    rig.state.coming = 3
    peer = rig.connect()
    assert (rig.state.coming, rig.state.connections) == (3, {peer.connection})
    rig.state.coming -= 3
    peer.reset()
    assert (rig.state.coming, rig.state.connections) == (0, set())


async def test_there_is_space_when_a_connection_that_was_coming_does_not() -> None:
    rig = Rig(PlayedApp(), limit_connections=1)
    rig.state.coming = 1
    spaces: list[bool] = []
    rig.state.when_space(lambda: spaces.append(rig.state.has_space()))
    rig.state.forget_coming()
    assert (spaces, rig.state.coming) == ([True], 0)


async def test_who_waits_for_space_twice_is_called_once() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    calls: list[int] = []

    def count() -> None:
        calls.append(1)

    rig.state.when_space(count)
    rig.state.when_space(count)
    peer.reset()
    assert calls == [1]


async def test_everyone_who_waits_for_space_is_called_once_when_a_connection_closes() -> None:
    rig = Rig(PlayedApp())
    first, second = rig.connect(), rig.connect()
    calls: list[str] = []
    rig.state.when_space(lambda: calls.append("a"))
    rig.state.when_space(lambda: calls.append("b"))
    assert calls == []
    first.reset()
    assert calls == ["a", "b"]
    second.reset()
    assert calls == ["a", "b"]


async def test_who_is_called_may_wait_for_space_again() -> None:
    rig = Rig(PlayedApp())
    peers = [rig.connect() for _ in range(3)]
    calls: list[int] = []

    def wait_again() -> None:
        calls.append(len(rig.state.connections))
        rig.state.when_space(wait_again)

    rig.state.when_space(wait_again)
    for peer in peers:
        peer.reset()
    assert calls == [2, 1, 0]


async def test_without_connections_nothing_is_waited_for() -> None:
    await Rig(PlayedApp()).state.wait_no_connections()


async def test_the_wait_ends_with_the_last_connection() -> None:
    rig = Rig(PlayedApp())
    peers = [rig.connect() for _ in range(3)]
    waiting = asyncio.ensure_future(rig.state.wait_no_connections())
    for peer in peers:
        await turns()
        assert not waiting.done()
        peer.reset()
    await waiting


async def test_a_connection_that_comes_while_others_go_is_waited_for_too() -> None:
    rig = Rig(PlayedApp())
    first = rig.connect()
    waiting = asyncio.ensure_future(rig.state.wait_no_connections())
    await turns()
    second = rig.connect()
    first.reset()
    await turns()
    assert not waiting.done()
    second.reset()
    await waiting


async def test_a_connection_that_has_closed_is_forgotten_with_its_deadline() -> None:
    rig = Rig(PlayedApp())
    peer = rig.connect()
    connection = peer.connection
    assert connection.deadline < math.inf
    peer.reset()
    assert (rig.state.connections, connection.deadline) == (set(), math.inf)
    alive = weakref.ref(peer.transport)
    del peer, connection
    gc.collect()
    assert alive() is None
