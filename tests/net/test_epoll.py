"""The native transport, as far as it is not like the others. What is alike is in test_transports."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conftest import LoopFactory
from tests.doubles import turns, until
from tests.net.serving import Client, Echo, Told, descriptors, serving, settle, unix_listener

epoll = pytest.importorskip("fastserve.net.epoll", reason="the native transport is not built")

pytestmark = pytest.mark.usefixtures("loop_factory")


class Fails(Told):
    """Raises an error in one callback."""

    callback = ""
    problem: BaseException

    def _note(self, call: str) -> None:
        super()._note(call)
        if call == self.callback:
            raise self.problem


def failing(callback: str, problem: BaseException) -> type[Fails]:
    return type("Failing", (Fails,), {"callback": callback, "problem": problem})


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.mark.parametrize("callback", ["made", "data", "eof", "pause", "resume"])
async def test_an_exception_of_any_callback_is_reported_and_ends_the_connection(callback: str) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    error = ValueError("of the protocol")
    async with serving(failing(callback, error)) as site:
        client, told = await site.accept()
        if callback in ("pause", "resume"):
            told.transport.write(bytes(10_000_000))
            if callback == "resume":
                await client.receive(10_000_000)
        else:
            await client.send(b"hello")
            client.end()
        await until(lambda: told.is_lost)
        assert told.error is error
        assert [context["exception"] for context in unhandled] == [error]
        assert unhandled[0]["protocol"] is told
        assert type(unhandled[0]["transport"]) is epoll.Transport


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", ["data", "eof", "resume", "lost"])
def test_interruptions_go_through_the_event_loop(
    callback: str, interruption: type[BaseException], loop_factory: LoopFactory, listening: socket.socket
) -> None:
    loop = loop_factory()
    protocols: list[Told] = []

    def new_protocol() -> Told:
        protocols.append(failing(callback, interruption())())
        return protocols[-1]

    poller = epoll.Poller(loop, new_protocol)
    with socket.create_connection(listening.getsockname()) as client:
        client.settimeout(10)
        assert poller.accept(listening)
        if callback == "resume":
            protocols[0].transport.write(bytes(10_000_000))
            left = 10_000_000 - protocols[0].transport.get_write_buffer_size()
            while left > 0:
                left -= len(client.recv(left))
        else:
            client.send(b"hello")
            client.shutdown(socket.SHUT_WR)
        with pytest.raises(interruption):
            loop.run_until_complete(asyncio.sleep(10))
    poller.close()
    loop.close()


def test_an_interruption_at_the_beginning_goes_to_who_accepts(
    loop_factory: LoopFactory, listening: socket.socket
) -> None:
    loop = loop_factory()
    poller = epoll.Poller(loop, failing("made", KeyboardInterrupt()))
    with socket.create_connection(listening.getsockname()) as client:
        with pytest.raises(KeyboardInterrupt):
            poller.accept(listening)
        loop.run_until_complete(turns())
        client.settimeout(10)
        assert client.recv(1) == b""
    poller.close()
    loop.close()


async def test_a_connection_without_a_protocol_is_closed() -> None:
    def fail() -> Told:
        raise ValueError("no protocol")

    async with serving() as site:
        site.new_protocol = fail
        client = site.connect()
        with pytest.raises(ValueError, match="no protocol"):
            site.accept_all()
        assert await client.receive_all() == b""


async def test_in_one_turn_a_bounded_number_of_connections_is_served() -> None:
    async with serving() as site:
        clients = [site.connect() for _ in range(200)]
        site.accept_all()
        for client in clients:
            client.sock.send(b"hello")
        seen = [0]
        while seen[-1] < 200:
            await asyncio.sleep(0)
            seen.append(sum(bool(told.data) for told in site.protocols))
        assert max(after - before for before, after in pairwise(seen)) == 64
        assert len([step for step in set(seen) if step]) == 4


async def test_many_parts_are_queued_without_being_joined_or_copied_again_and_again() -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.write(bytes(8_000_000))
        for _ in range(200):
            told.transport.writelines([b"x"] * 500)
        told.transport.close()
        received = await client.receive_all()
        assert len(received) == 8_100_000
        assert received.count(b"x") == 100_000


async def test_a_reset_after_the_last_byte_of_the_client_is_noticed() -> None:
    class Stays(Told):
        stays_open = True

    async with serving(Stays) as site:
        client, told = await site.accept()
        client.end()
        await until(lambda: "eof" in told.calls)
        client.reset()
        await until(lambda: told.is_lost)
        assert isinstance(told.error, ConnectionError)
        await settle()


async def test_the_socket_of_a_connection_is_closed_with_it() -> None:
    async with serving() as site:
        client, told = await site.accept()
        sock = told.transport.get_extra_info("socket")
        assert sock.gettimeout() == 0
        client.end()
        await until(lambda: told.is_lost)
        await turns()
        assert sock.fileno() == -1


async def test_a_transport_shows_its_state() -> None:
    async with serving() as site:
        _, told = await site.accept()
        assert "open unsent=0" in repr(told.transport)
        told.transport.write(bytes(20_000_000))
        told.transport.close()
        assert "closing unsent=1" in repr(told.transport)
        told.transport.abort()
        assert "lost unsent=0" in repr(told.transport)


def test_only_a_poller_makes_transports() -> None:
    with pytest.raises(TypeError):
        epoll.Transport()


# The end of the event loop.


async def test_closing_the_poller_aborts_what_is_open_and_closes_all_descriptors(listening: socket.socket) -> None:
    before = descriptors("")
    loop, protocols = asyncio.get_running_loop(), [Echo() for _ in range(10)]
    poller = epoll.Poller(loop, iter(protocols).__next__)
    clients = []
    for _ in protocols:
        client = Client(socket.create_connection(listening.getsockname()))
        clients.append(client)
        assert poller.accept(listening)
    poller.close()
    poller.close()
    await until(lambda: all(echo.is_lost for echo in protocols))
    await turns()
    for client in clients:
        assert await client.receive_all() == b""
        client.sock.close()
    with pytest.raises(RuntimeError, match="closed"):
        poller.accept(listening)
    assert len(descriptors("anon_inode:[eventpoll]")) <= len(before)
    assert set(descriptors("")) <= set(before)


@pytest.mark.parametrize(
    ("closes", "is_seen"),
    [(True, True), (True, False), (False, False)],  # A socket object that is forgotten would warn.
    ids=["closed, with a socket object", "closed", "forgotten"],
)
def test_after_the_event_loop_everything_closes_in_silence(
    closes: bool, is_seen: bool, loop_factory: LoopFactory, listening: socket.socket
) -> None:
    before = descriptors("")
    loop = loop_factory()
    told = Told()
    poller = epoll.Poller(loop, lambda: told)
    with socket.create_connection(listening.getsockname()) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert poller.accept(listening)
        if is_seen:
            told.transport.get_extra_info("socket")
        loop.run_until_complete(turns())
        loop.close()
        if closes:
            poller.close()
        del poller, loop
        told.__dict__.clear()
        gc.collect()
        client.settimeout(10)
        assert client.recv(1) == b""
    assert set(descriptors("")) <= set(before)


async def test_a_child_process_does_not_inherit_connections() -> None:
    async with serving() as site:
        _, told = await site.accept()
        fds = [*descriptors("anon_inode:[eventpoll]"), told.transport.get_extra_info("socket").fileno()]
        assert not any(os.get_inheritable(fd) for fd in fds)


async def test_a_unix_socket_takes_a_large_file_in_large_steps(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096 * 3)
    async with serving(listening=unix_listener(tmp_path)) as site:
        client, told = await site.accept()
        sock = told.transport.get_extra_info("socket")
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        with path.open("rb") as file:
            cast(Any, told.transport).send_file(b"head", file.fileno(), 0, 1000, b"")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before, "a small one needs no more"
            cast(Any, told.transport).send_file(b"", file.fileno(), 0, path.stat().st_size, b"tail")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
        told.transport.close()
        content = path.read_bytes()
        assert await client.receive_all() == b"head" + content[:1000] + content + b"tail"
