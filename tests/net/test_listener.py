"""Accepting connections on real sockets, in both event loops and with both kinds of transports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest

from fastserve.net.crowd import Crowd
from fastserve.net.deadlines import Deadlines, Watched
from fastserve.net.listener import Listener
from fastserve.net.transports import Transports, transports_for
from tests.doubles import PlayedApp, Rig, request, turns, until

pytestmark = pytest.mark.usefixtures("loop_factory", "kind")


class WatchedTransports:
    """Real transports. errors: what accept() raises first, before it is real. accepts: how often it was called."""

    def __init__(self, transports: Transports) -> None:
        self._transports = transports
        self.errors: list[OSError] = []
        self.accepts = 0

    def accept(self, listening: socket.socket) -> bool:
        self.accepts += 1
        if self.errors:
            raise self.errors.pop(0)
        return self._transports.accept(listening)

    async def wait_attached(self) -> None:
        await self._transports.wait_attached()

    def close(self) -> None:
        self._transports.close()


class Clients:
    """Clients that connect without waiting: the kernel completes that without an accept()."""

    def __init__(self, sock: socket.socket) -> None:
        self._address = sock.getsockname()
        self.sockets: list[socket.socket] = []

    def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self.sockets.append(socket.create_connection(self._address, timeout=10))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class PlayedLoop:
    """The running event loop, except that timers are the test's. timers: delay and callback of each."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self.timers.append((delay, callback))


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """Return a socket that listens on a loopback port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
        yield sock


@pytest.fixture
def clients(sock: socket.socket) -> Iterator[Clients]:
    clients = Clients(sock)
    yield clients
    clients.close()


@asynccontextmanager
async def listening(
    sock: socket.socket, app: PlayedApp | None = None, **options: Any
) -> AsyncIterator[tuple[Rig, Listener, WatchedTransports]]:
    """Make a listener that is not started, and in the end close everything, also of a test that failed."""
    rig = Rig(app or PlayedApp(), **options)
    transports = WatchedTransports(transports_for(rig.state))
    listener = Listener(sock, rig.state, transports, Crowd(rig.state, lambda is_full: None))
    try:
        yield rig, listener, transports
    finally:
        with contextlib.suppress(OSError):
            await listener.stop()
        if sock.fileno() != -1:
            asyncio.get_running_loop().remove_reader(sock)
        for connection in list(rig.state.connections):
            connection.cut()
        await rig.state.wait_no_connections()
        transports.close()


async def test_a_connection_is_accepted_and_served(sock: socket.socket, clients: Clients) -> None:
    app = PlayedApp()
    async with listening(sock, app) as (_, listener, _):
        listener.start()
        clients.connect()
        clients.sockets[0].sendall(request("/a"))
        await until(lambda: app.calls)
        assert app.calls[0].scope["client"] == clients.sockets[0].getsockname()
        assert app.calls[0].scope["server"] == clients.sockets[0].getpeername()
        await app.calls[0].respond(b"hello")
        assert clients.sockets[0].recv(1000).endswith(b"hello")


async def test_nothing_is_accepted_before_the_start(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock) as (rig, listener, transports):
        clients.connect()
        await turns(20)
        assert (transports.accepts, rig.state.connections) == (0, set())
        await listener.stop()
        assert sock.fileno() == -1


async def test_a_burst_is_accepted_in_a_few_turns_and_others_get_theirs(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock) as (rig, listener, transports):
        loop = asyncio.get_running_loop()
        clients.connect(200)
        seen = [0]

        def look() -> None:
            seen.append(transports.accepts)
            if len(rig.state.connections) < 200:
                loop.call_soon(look)

        listener.start()
        listener.start()  # again: no harm
        look()
        await until(lambda: len(rig.state.connections) == 200)
        most = max(after - before for before, after in pairwise(seen))
        assert 1 < most <= 64


async def test_connections_over_the_limit_wait_in_the_queue_until_another_one_closes(
    sock: socket.socket, clients: Clients
) -> None:
    async with listening(sock, limit_connections=3) as (rig, listener, transports):
        listener.start()
        clients.connect(5)
        served: set[Any] = set()

        async def accepted(count: int) -> None:
            await until(lambda: len(served | rig.state.connections) == count)
            await turns(50)
            served.update(rig.state.connections)
            assert (len(served), transports.accepts, len(rig.state.connections)) == (count, count, 3)

        for count in (3, 4):
            await accepted(count)
            next(iter(rig.state.connections)).cut()
        await accepted(5)


async def test_connections_on_their_way_count_for_the_limit(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock, limit_connections=2) as (rig, listener, transports):
        clients.connect(40)
        listener.start()
        await until(lambda: rig.state.connections)
        await turns(50)
        assert (len(rig.state.connections), transports.accepts) == (2, 2)


async def test_a_connection_that_was_just_made_counts_only_once_for_the_limit(
    sock: socket.socket, clients: Clients
) -> None:
    async with listening(sock, limit_connections=2) as (rig, listener, _):

        class ConnectsInBetween(Deadlines):
            """When the first connection is made, the second client connects."""

            __slots__ = ()

            def set(self, watched: Watched, seconds: float) -> None:
                if len(clients.sockets) == 1:
                    clients.connect()
                super().set(watched, seconds)

        rig.state.deadlines = ConnectsInBetween(0)
        listener.start()
        clients.connect()
        await until(lambda: len(clients.sockets) == 2)
        await turns(100)
        assert len(rig.state.connections) == 2, "there is space, and a client waits for another one to close"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
async def test_out_of_descriptors_or_memory_it_pauses_and_goes_on_after_half_a_second(
    code: int, sock: socket.socket, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(sock) as (rig, listener, transports):
        loop = PlayedLoop()
        rig.state.loop = cast(asyncio.AbstractEventLoop, loop)
        transports.errors = [OSError(code, "Too many of something"), OSError(code, "Too many of something")]
        clients.connect()
        listener.start()

        async def paused(times: int) -> None:
            await until(lambda: len(loop.timers) == times)
            await turns(100)
            assert transports.accepts == times, "it spins"
            assert [delay for delay, _ in loop.timers] == [0.5] * times
            loop.timers[-1][1]()

        await paused(1)
        await paused(2)
        await until(lambda: rig.state.connections)
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
            "Cannot accept connections: Too many of something: new ones wait until others close,"
            " as those do that are idle."
        ]


async def test_a_pause_that_ends_after_the_stop_starts_nothing(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock) as (rig, listener, transports):
        loop = PlayedLoop()
        rig.state.loop = cast(asyncio.AbstractEventLoop, loop)
        transports.errors = [OSError(errno.EMFILE, "Too many open files")]
        clients.connect()
        listener.start()
        await until(lambda: loop.timers)
        await listener.stop()
        loop.timers[0][1]()
        await turns(20)
        assert (transports.accepts, sock.fileno()) == (1, -1)


# accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code from accept()."
PENDING_ERRORS = [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH]


@pytest.mark.parametrize("code", PENDING_ERRORS, ids=errno.errorcode.get)
async def test_the_error_of_one_pending_connection_does_not_hinder_the_next(
    code: int, sock: socket.socket, clients: Clients
) -> None:
    async with listening(sock) as (rig, listener, transports):
        transports.errors = [OSError(code, "a pending error")]
        clients.connect(2)
        listener.start()
        await until(lambda: len(rig.state.connections) == 2)


@pytest.mark.parametrize("code", PENDING_ERRORS, ids=errno.errorcode.get)
async def test_the_error_of_one_pending_connection_does_not_hinder_the_stop(
    code: int, sock: socket.socket, clients: Clients
) -> None:
    async with listening(sock) as (rig, listener, transports):
        listener.start()
        transports.errors = [OSError(code, "a pending error")]
        clients.connect(2)
        await listener.stop()
        assert (len(rig.state.connections), sock.fileno()) == (2, -1)


async def test_an_error_that_nobody_expects_is_not_hidden(
    sock: socket.socket, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(sock) as (rig, listener, transports):
        transports.errors = [OSError(errno.EINVAL, "not listening")]
        clients.connect()
        listener.start()
        await until(lambda: rig.state.connections)
        assert "Cannot accept connections: not listening." in caplog.text


async def test_the_stop_takes_what_is_queued_and_then_nothing_more(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock) as (rig, listener, _):
        listener.start()
        clients.connect(150)
        await listener.stop()
        assert len(rig.state.connections) == 150
        assert sock.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            clients.connect()


async def test_the_stop_leaves_what_is_over_the_limit(sock: socket.socket, clients: Clients) -> None:
    async with listening(sock, limit_connections=2) as (rig, listener, _):
        listener.start()
        clients.connect(4)
        await until(lambda: len(rig.state.connections) == 2)
        await listener.stop()
        assert len(rig.state.connections) == 2
        connections = list(rig.state.connections)
        connections[0].cut()
        await until(lambda: len(rig.state.connections) == 1)
        await turns(20)
        assert rig.state.connections <= set(connections)
