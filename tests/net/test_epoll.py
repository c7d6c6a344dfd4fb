"""The native transport, as far as it is not like the others. What is alike is in test_transports."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conftest import LoopFactory
from tests.doubles import turns, until
from tests.net.serving import Client, Echo, Site, Told, descriptors, send_buffer, serving, settle, unix_listener

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

    def receive_all() -> None:
        while client.recv(100_000):
            pass

    poller = epoll.Poller(loop, new_protocol)
    with socket.create_connection(listening.getsockname(), 10) as client, ThreadPoolExecutor() as pool:
        assert poller.accept(listening)
        if callback == "resume":
            protocols[0].transport.write(bytes(10_000_000))
            received = pool.submit(receive_all)
        else:
            client.send(b"hello")
            client.shutdown(socket.SHUT_WR)
        with pytest.raises(interruption):
            loop.run_until_complete(asyncio.sleep(10))
        poller.close()
        if callback == "resume":
            loop.run_until_complete(turns())
            received.result()
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


# What is sent in one turn is held, and leaves together.


class Acts(Told):
    """Does what it was given when it receives data."""

    def __init__(self, act: Callable[[Acts], None]) -> None:
        super().__init__()
        self._act = act

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._act(self)


def writes(*parts: bytes) -> Callable[[Acts], None]:
    def act(told: Acts) -> None:
        for part in parts:
            told.transport.write(part)

    return act


def has_received(client: Client) -> bool:
    try:
        return bool(client.sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@asynccontextmanager
async def one_turn(
    *acts: Callable[[Acts], None], listening: socket.socket | None = None
) -> AsyncIterator[tuple[Site, list[Client]]]:
    """Have so many connections receive something in one turn, in this order."""
    waiting = iter(acts)
    async with serving(lambda: Acts(next(waiting)), listening) as site:
        clients = [(await site.accept())[0] for _ in acts]
        for client in clients:
            client.sock.send(b"x")
        yield site, clients


async def test_what_is_sent_in_a_turn_leaves_when_all_have_had_theirs() -> None:
    seen = []

    def look(told: Acts) -> None:
        seen.append([has_received(client) for client in clients])
        told.transport.write(b"second")

    async with one_turn(writes(b"fir", b"st"), look) as (site, clients):
        assert await clients[0].receive(5) == b"first"
        assert await clients[1].receive(6) == b"second"
        assert seen == [[False, False]]
        assert [told.transport.get_write_buffer_size() for told in site.protocols] == [0, 0]


async def test_what_is_sent_outside_of_turns_leaves_at_once() -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.write(b"now")
        assert client.sock.recv(10) == b"now"
        told.transport.writelines([b"and ", b"now"])
        assert client.sock.recv(10) == b"and now"


async def test_what_was_held_first_does_not_wait_for_a_slow_one() -> None:
    seen = []

    def compute(told: Acts) -> None:
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        told.transport.write(b"second")
        seen.append(has_received(clients[0]))

    async with one_turn(writes(b"first"), compute, writes(b"third")) as (_, clients):
        assert [await client.receive(5) for client in clients] == [b"first", b"secon", b"third"]
        assert seen == [True]


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_of_writing_is_kept_in_a_turn(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    path = tmp_path / "file"
    path.write_bytes(chance.randbytes(10_000))
    expected = [bytearray() for _ in range(20)]

    def act(told: Acts) -> None:
        # To any of them, not only to the one that has received something.
        for _ in range(30):
            index = chance.randrange(len(expected))
            transport = site.protocols[index].transport
            parts = [chance.randbytes(chance.choice((1, 10, 1000, 4000, 5000, 100_000))) for _ in range(3)]
            kind = chance.random()
            if kind < 0.4:
                parts = parts[:1]
                transport.write(parts[0])
            elif kind < 0.8:
                transport.writelines(parts)
            else:
                with path.open("rb") as file:
                    cast(Any, transport).send_file(parts[0], file.fileno(), 10, 5000, parts[1])
                parts[1:] = [path.read_bytes()[10:5010], parts[1]]
            for part in parts:
                expected[index] += part

    async with one_turn(*[act] * len(expected)) as (site, clients):
        await until(lambda: all(told.data for told in site.protocols))
        for told in site.protocols:
            told.transport.close()
        assert [await client.receive_all() for client in clients] == expected


async def test_more_than_can_be_held_leaves() -> None:
    part = bytes(4096)
    async with one_turn(*[writes(part)] * 40, writes(*[part] * 100)) as (_, clients):
        assert [len(await client.receive(4096)) for client in clients[:40]] == [4096] * 40
        assert len(await clients[40].receive(409_600)) == 409_600


async def test_one_connection_can_send_to_many_in_a_turn() -> None:
    def tell_all(told: Acts) -> None:
        for other in site.protocols:
            other.transport.write(b"news")

    async with serving(lambda: Acts(tell_all)) as site:
        clients = [(await site.accept())[0] for _ in range(200)]
        clients[77].sock.send(b"x")
        assert [await client.receive(4) for client in clients] == [b"news"] * 200


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
async def test_what_is_held_leaves_before_the_end(end: str) -> None:
    def act(told: Acts) -> None:
        told.transport.write(b"last")
        getattr(told.transport, end)()

    async with one_turn(act, writes(b"other")) as (site, clients):
        assert await clients[0].receive_all() == b"last"
        assert await clients[1].receive(5) == b"other"
        if end != "write_eof":
            await until(lambda: site.protocols[0].is_lost)
            assert site.protocols[0].error is None
        assert not site.protocols[1].is_lost


async def test_what_is_held_counts_as_not_sent() -> None:
    sizes = []

    def act(told: Acts) -> None:
        told.transport.write(b"12345")
        sizes.append(told.transport.get_write_buffer_size())
        assert "unsent=5" in repr(told.transport)

    async with one_turn(act) as (site, clients):
        assert await clients[0].receive(5) == b"12345"
        assert sizes == [5]
        assert site.protocols[0].transport.get_write_buffer_size() == 0


async def test_what_was_held_and_is_not_taken_is_queued_and_pauses(listening: socket.socket) -> None:
    send_buffer(listening, 5000)
    sent = 0

    def act(told: Acts) -> None:
        nonlocal sent
        if "pause" not in told.calls and not told.transport.get_write_buffer_size():
            told.transport.writelines([bytes(1000)] * 4)
            sent += 4000

    async with one_turn(act, listening=listening) as (site, clients):
        told = site.protocols[0]
        told.transport.set_write_buffer_limits(high=0)
        while "pause" not in told.calls:
            clients[0].sock.send(b"x")
            await asyncio.sleep(0)
        assert len(await clients[0].receive(sent)) == sent
        await until(lambda: "resume" in told.calls)


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_what_is_written_when_writing_may_go_on_leaves_before_the_end(end: str, listening: socket.socket) -> None:
    class Ends(Told):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"last")
            getattr(self.transport, end)()

    async with serving(Ends, listening) as site:
        client, told = await site.accept()
        told.transport.set_write_buffer_limits(high=0)
        told.transport.write(bytes(10_000_000))
        assert (await client.receive_all())[10_000_000:] == b"last"
        assert told.error is None


async def test_others_can_be_written_to_when_one_has_to_pause(listening: socket.socket) -> None:
    send_buffer(listening, 5000)
    names = [b"a", b"b", b"c", b"d"]
    sent = [bytearray() for _ in names]

    class Passes(Acts):
        def pause_writing(self) -> None:
            super().pause_writing()
            for index in range(len(names)):
                put(index, 100)

    def put(index: int, size: int) -> None:
        site.protocols[index].transport.write(names[index] * size)
        sent[index] += names[index] * size

    def act(told: Told) -> None:
        if "pause" not in site.protocols[1].calls:
            for _ in range(4):
                put(2, 10)
                put(1, 4000)

    async with serving(lambda: Passes(act), listening) as site:
        clients = [(await site.accept())[0] for _ in names]
        for told in site.protocols:
            told.transport.set_write_buffer_limits(high=0)
        while "pause" not in site.protocols[1].calls:
            clients[0].sock.send(b"x")
            await asyncio.sleep(0)
        for told in site.protocols:
            told.transport.close()
        assert [await client.receive_all() for client in clients] == sent


async def test_what_is_held_leaves_before_a_fork() -> None:
    # A child that ends by an exception would send it again.
    seen = []

    def fork(told: Acts) -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        seen.append(has_received(clients[0]))

    async with one_turn(writes(b"first"), fork) as (_, clients):
        assert await clients[0].receive(5) == b"first"
        assert seen == [True]


async def test_a_client_that_is_gone_when_what_was_held_is_sent() -> None:
    def reset(told: Acts) -> None:
        clients[0].reset()
        told.transport.write(b"second")

    async with one_turn(writes(b"first"), reset, writes(b"third")) as (site, clients):
        assert await clients[1].receive(6) == b"second"
        assert await clients[2].receive(5) == b"third"
        await until(lambda: site.protocols[0].is_lost)
        assert isinstance(site.protocols[0].error, ConnectionError)


async def test_an_exception_keeps_nothing_back_that_was_held(listening: socket.socket) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    def fail(told: Acts) -> None:
        told.transport.write(b"second")
        raise ValueError("of the protocol")

    async with one_turn(writes(b"first"), fail, writes(b"third")) as (_, clients):
        assert await clients[0].receive(5) == b"first"
        assert await clients[1].receive_all() == b"second"
        assert await clients[2].receive(5) == b"third"


def test_an_interruption_keeps_nothing_back_that_was_held(loop_factory: LoopFactory, listening: socket.socket) -> None:
    def interrupt(told: Acts) -> None:
        raise KeyboardInterrupt

    loop = loop_factory()
    acts = iter([writes(b"first"), interrupt])
    poller = epoll.Poller(loop, lambda: Acts(next(acts)))
    with (
        socket.create_connection(listening.getsockname(), 10) as first,
        socket.create_connection(listening.getsockname(), 10) as second,
    ):
        assert poller.accept(listening)
        assert poller.accept(listening)
        first.send(b"x")
        second.send(b"x")
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(10))
        assert first.recv(10) == b"first"
    poller.close()
    loop.close()


async def test_closing_the_poller_in_a_turn_sends_what_was_held() -> None:
    async with one_turn(writes(b"first"), lambda told: site.transports.close()) as (site, clients):
        assert await clients[0].receive_all() == b"first"
        assert await clients[1].receive_all() == b""
        await until(lambda: all(told.is_lost for told in site.protocols))


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
