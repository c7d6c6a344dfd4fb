"""Transports: the same tests for both kinds, in both event loops, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import resource
import socket
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fastserve.net import transports as transports_module
from fastserve.net.transports import LoopTransports, new_transports, transports_for
from tests.doubles import PlayedApp, Rig, turns, until
from tests.net.serving import Echo, Told, descriptors, send_buffer, serving, settle, unix_listener

pytestmark = pytest.mark.usefixtures("loop_factory", "kind")

LARGE = random.Random(1).randbytes(5_000_000)


class Stays(Told):
    """Goes on writing when the client has sent its last byte."""

    stays_open = True


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Return a listening socket of each family."""
    if request.param == "unix":
        sock = unix_listener(tmp_path)
    elif request.param == "tcp":
        sock = socket.create_server(("127.0.0.1", 0))
    else:
        try:
            sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6")
    with sock:
        yield sock


@pytest.fixture
def unhandled() -> list[dict[str, Any]]:
    """Return where the exceptions go that are left to the event loop, once it is told to."""
    return []


def keep_exceptions(unhandled: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))


def is_of_uvloop(transport: asyncio.Transport) -> bool:
    """Tell whether it is one of uvloop's own, which differ from asyncio's in places."""
    return type(transport).__module__.startswith("uvloop")


# Receiving and sending.


async def test_what_is_sent_comes_back(listening: socket.socket) -> None:
    async with serving(Echo, listening) as site:
        client, echo = await site.accept()
        for data in (b"a", b"hello", LARGE[:100_000]):
            await client.send(data)
            assert await client.receive(len(data)) == data
        assert echo.calls == ["made", "data"]


async def test_a_connection_knows_its_addresses_and_its_socket(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        info = told.transport.get_extra_info
        assert info("peername") == client.sock.getsockname()
        assert info("sockname") == client.sock.getpeername() == listening.getsockname()
        sock = info("socket")
        assert (sock.family, sock.type) == (listening.family, socket.SOCK_STREAM)
        assert sock.getsockname() == listening.getsockname()
        assert info("something else") is None
        assert info("something else", 1) == 1
        if listening.family != socket.AF_UNIX:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert not os.get_inheritable(sock.fileno())
        client.sock.close()
        await until(lambda: told.is_lost)
        assert info("peername") is not None


async def test_the_name_of_a_unix_client_is_told(tmp_path: Path) -> None:
    for name in (str(tmp_path / "client"), b"\0fastserve-test-%d" % os.getpid()):
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "socket").unlink()
        async with serving(listening=unix_listener(tmp_path)) as site:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(name)
                sock.connect(site.listening.getsockname())
                site.accept_all()
                await until(lambda: site.protocols[0].calls)
                assert site.protocols[0].transport.get_extra_info("peername") == name


async def test_data_that_came_with_the_connection_is_received() -> None:
    async with serving(Echo) as site:
        client = site.connect()
        await client.send(b"early")
        site.accept_all()
        assert await client.receive(5) == b"early"


async def test_a_burst_is_accepted_by_accepting_until_there_is_none() -> None:
    async with serving(Echo) as site:
        assert not site.transports.accept(site.listening)
        clients = [site.connect() for _ in range(300)]
        site.accept_all()
        await site.transports.wait_attached()
        await until(lambda: all(echo.calls for echo in site.protocols))
        assert len(site.protocols) == 300
        for number, client in enumerate(clients):
            await client.send(b"%d" % number)
        for number, client in enumerate(clients):
            assert await client.receive(len(str(number))) == b"%d" % number


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
async def test_anything_like_bytes_can_be_written(convert: Callable[[bytes], Any]) -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.write(convert(b"one "))
        told.transport.writelines([convert(b""), convert(b"two ")])
        told.transport.writelines(convert(part) for part in (b"three ", b"four"))
        told.transport.write(convert(b""))
        told.transport.writelines([])
        assert await client.receive(18) == b"one two three four"


async def test_what_is_not_like_bytes_cannot_be_written() -> None:
    async with serving() as site:
        _, told = await site.accept()
        with pytest.raises(TypeError):
            told.transport.write(cast(bytes, "text"))
        with pytest.raises(TypeError):
            told.transport.writelines(cast(list[bytes], ["text"]))
        assert not told.transport.is_closing()


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_of_writing_is_kept_whatever_the_kernel_takes(listening: socket.socket, seed: int) -> None:
    chance = random.Random(seed)
    send_buffer(listening, 200_000)
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        receiving = asyncio.create_task(client.receive_all())
        expected = bytearray()

        def part() -> bytes:
            data = chance.randbytes(chance.choice((0, 1, 10, 1000, 5000, 300_000)))
            expected.extend(data)
            return data

        def end() -> bytes:
            expected.extend(b"end")
            return b"end"

        for _ in range(30):
            if chance.random() < 0.5:
                told.transport.write(part())
            else:
                # An empty one at the end would stay in the queue of asyncio's transports for ever.
                told.transport.writelines([*(part() for _ in range(chance.choice((2, 3, 100)))), end()])
            await turns(chance.choice((0, 1, 5, 50)))
        told.transport.close()
        assert await receiving == expected
        await until(lambda: told.is_lost)
        assert told.error is None


async def test_a_slow_reader_pauses_the_protocol_until_little_is_left(listening: socket.socket) -> None:
    send_buffer(listening, 200_000)

    class Watches(Told):
        def pause_writing(self) -> None:
            super().pause_writing()
            assert self.transport.get_write_buffer_size() > 30_000

        def resume_writing(self) -> None:
            super().resume_writing()
            assert self.transport.get_write_buffer_size() <= 7_500

    async with serving(Watches, listening) as site:
        client, told = await site.accept()
        told.transport.set_write_buffer_limits(high=30_000)
        sent = bytearray()
        for start in range(0, len(LARGE), 1000):
            told.transport.write(LARGE[start : start + 1000])
            sent += LARGE[start : start + 1000]
            if "pause" in told.calls:
                break
        assert told.calls == ["made", "pause"]
        told.transport.write(LARGE[:70_000])
        sent += LARGE[:70_000]
        assert await client.receive(len(sent)) == sent
        await until(lambda: "resume" in told.calls)
        assert told.calls == ["made", "pause", "resume"]
        assert told.transport.get_write_buffer_size() == 0
        told.transport.write(LARGE)
        assert await client.receive(len(LARGE)) == LARGE
        await until(lambda: told.calls[2:] == ["resume", "pause", "resume"])


async def test_writing_goes_on_where_resume_writing_is_told() -> None:
    class Pours(Told):
        poured = 0

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.poured < 5:
                self.poured += 1
                self.transport.write(LARGE)
            else:
                # Not at once: asyncio's transports then close twice.
                asyncio.get_running_loop().call_soon(self.transport.close)

    async with serving(Pours) as site:
        send_buffer(site.listening, 200_000)
        client, told = await site.accept()
        told.transport.write(LARGE)
        assert await client.receive_all() == LARGE * 6
        await until(lambda: told.is_lost)
        assert told.error is None


async def test_limits_of_writing_are_as_asyncio_has_them() -> None:
    async with serving() as site:
        _, told = await site.accept()
        transport = told.transport
        limits = transport.get_write_buffer_limits
        if not is_of_uvloop(transport):  # It begins with 16 bytes.
            assert limits() == (16 * 1024, 64 * 1024)
        for arguments, expected in (
            ({"high": 1000}, (250, 1000)),
            ({"low": 100}, (100, 400)),
            ({"high": 10, "low": 10}, (10, 10)),
            ({"high": 0}, (0, 0)),
        ):
            transport.set_write_buffer_limits(**arguments)
            assert limits() == expected
        with pytest.raises(ValueError, match="must be >="):
            transport.set_write_buffer_limits(high=1, low=2)


async def test_a_limit_that_is_lowered_pauses_at_once() -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.set_write_buffer_limits(high=100_000_000)
        told.transport.write(LARGE + LARGE)
        assert told.calls == ["made"]
        told.transport.set_write_buffer_limits(high=1000)
        assert told.calls == ["made", "pause"]
        await client.receive(2 * len(LARGE))
        await until(lambda: told.calls == ["made", "pause", "resume"])


# Pausing.


async def test_nothing_is_received_while_reading_is_paused(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        assert told.transport.is_reading()
        told.transport.pause_reading()
        told.transport.pause_reading()
        assert not told.transport.is_reading()
        await client.send(b"hello")
        await settle()
        assert told.calls == ["made"]
        told.transport.resume_reading()
        told.transport.resume_reading()
        assert told.calls == ["made"], "not before the next turn"
        await until(lambda: told.data == b"hello")


async def test_reading_can_be_paused_from_the_beginning_and_by_the_data() -> None:
    class Pauses(Told):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with serving(Pauses) as site:
        client = site.connect()
        await client.send(LARGE[:500_000])
        site.accept_all()
        await until(lambda: site.protocols[0].calls)
        told = site.protocols[0]
        await settle()
        if not is_of_uvloop(told.transport):  # It does not heed a pause as early as that.
            assert told.calls == ["made"]

        async def one_more() -> None:
            size = len(told.data)
            told.transport.resume_reading()
            await until(lambda: len(told.data) > size)
            await settle()
            assert len(told.data) - size <= 256 * 1024

        while len(told.data) < 500_000:
            await one_more()
        assert told.data == LARGE[:500_000]


async def test_data_and_eof_wait_while_reading_is_paused(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        told.transport.pause_reading()
        await client.send(b"hello")
        client.end()
        await settle()
        assert told.calls == ["made"]
        told.transport.resume_reading()
        await until(lambda: told.is_lost)
        assert (told.calls, told.data, told.error) == (["made", "data", "eof", "lost"], b"hello", None)


async def test_what_a_client_sent_before_it_closed_is_received_after_a_pause(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        told.transport.pause_reading()
        await client.send(b"hello")
        client.sock.close()
        await settle()
        assert told.calls == ["made"]
        told.transport.resume_reading()
        await until(lambda: told.is_lost)
        assert (told.calls, told.data, told.error) == (["made", "data", "eof", "lost"], b"hello", None)


async def test_a_reset_while_reading_is_paused_does_not_spin(kind: str) -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.pause_reading()
        client.reset()
        await settle()
        if kind == "native":
            assert told.calls == ["made", "lost"]
        else:
            told.transport.resume_reading()
        await until(lambda: told.is_lost)
        assert isinstance(told.error, ConnectionResetError)


async def test_a_unix_client_that_closes_while_reading_is_paused_does_not_spin(kind: str, tmp_path: Path) -> None:
    async with serving(listening=unix_listener(tmp_path)) as site:
        client, told = await site.accept()
        told.transport.pause_reading()
        client.sock.close()
        await settle()
        if kind == "native":
            assert told.calls == ["made", "lost"]


# The end of one direction.


async def test_eof_closes_when_the_protocol_does_not_stay(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        await client.send(b"last words")
        client.end()
        assert await client.receive_all() == b""
        await until(lambda: told.is_lost)
        assert (told.calls, told.data, told.error) == (["made", "data", "eof", "lost"], b"last words", None)


async def test_after_eof_a_protocol_that_stays_can_write(listening: socket.socket) -> None:
    async with serving(Stays, listening) as site:
        client, told = await site.accept()
        await client.send(b"last words")
        client.end()
        await until(lambda: "eof" in told.calls)
        await settle()
        assert told.calls == ["made", "data", "eof"]
        assert not told.transport.is_closing()
        told.transport.write(LARGE)
        told.transport.pause_reading()
        told.transport.resume_reading()
        told.transport.close()
        assert await client.receive_all() == LARGE
        await until(lambda: told.is_lost)
        assert told.calls.count("eof") == 1


async def test_after_write_eof_the_client_can_send(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        assert told.transport.can_write_eof()
        told.transport.write(LARGE)
        told.transport.write_eof()
        told.transport.write_eof()
        for write in (told.transport.write, lambda data: told.transport.writelines([data])):
            with pytest.raises(RuntimeError, match="after write_eof"):
                write(b"more")
        assert await client.receive_all() == LARGE
        await client.send(b"hello")
        await until(lambda: told.data == b"hello")
        assert not told.is_lost
        client.end()
        await until(lambda: told.is_lost)
        assert told.error is None


async def test_when_both_have_ended_it_stays_open_until_it_is_closed(listening: socket.socket) -> None:
    async with serving(Stays, listening) as site:
        client, told = await site.accept()
        told.transport.write_eof()
        client.end()
        await until(lambda: "eof" in told.calls)
        await settle()
        assert told.calls == ["made", "eof"]
        told.transport.close()
        await until(lambda: told.is_lost)
        assert told.error is None


async def test_when_both_have_ended_during_a_pause_the_eof_comes_after_it(listening: socket.socket) -> None:
    async with serving(Stays, listening) as site:
        client, told = await site.accept()
        told.transport.pause_reading()
        told.transport.write_eof()
        client.end()
        await settle()
        assert told.calls == ["made"]
        told.transport.resume_reading()
        await until(lambda: "eof" in told.calls)
        await settle()
        assert told.calls == ["made", "eof"]


# The end.


async def test_closing_sends_what_is_queued_first(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        told.transport.writelines([LARGE, b"end"])
        told.transport.close()
        assert told.transport.is_closing()
        assert not told.transport.is_reading()
        await settle()
        assert not told.is_lost
        assert await client.receive_all() == LARGE + b"end"
        await until(lambda: told.is_lost)
        assert told.error is None


async def test_nothing_is_received_after_closing(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        told.transport.write(LARGE)
        told.transport.close()
        await client.send(b"too late")
        client.end()
        await settle()
        assert not told.is_lost
        # Closing a socket that has something to read is a reset (RFC 9293 §3.10.4), and may be an error here.
        with contextlib.suppress(ConnectionResetError):
            await client.receive_all()
        await until(lambda: told.is_lost)
        assert told.data == b""
        assert "eof" not in told.calls


async def test_closing_tells_the_protocol_in_a_turn_of_its_own_and_once(kind: str, listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        for _ in range(3):
            told.transport.close()
            told.transport.abort()
            told.transport.pause_reading()
            told.transport.resume_reading()
        assert told.calls == ["made"]
        assert await client.receive_all() == b""
        await until(lambda: told.is_lost)
        told.transport.close()
        told.transport.abort()
        if kind == "native":  # Others raise.
            told.transport.write(b"nobody hears")
            told.transport.writelines([b"nobody hears"])
            told.transport.write_eof()
        await turns()
        assert told.calls == ["made", "lost"]
        assert told.error is None


async def test_aborting_sends_nothing_more(listening: socket.socket) -> None:
    async with serving(listening=listening) as site:
        client, told = await site.accept()
        told.transport.write(LARGE)
        told.transport.abort()
        assert told.calls[-1] != "lost"
        await until(lambda: told.is_lost)
        assert told.error is None
        received = b""
        with contextlib.suppress(ConnectionResetError):
            received = await client.receive_all()
        assert len(received) < len(LARGE)


async def test_a_reset_is_told_as_an_error() -> None:
    async with serving() as site:
        client, told = await site.accept()
        client.reset()
        await until(lambda: told.is_lost)
        assert told.calls == ["made", "lost"]
        assert isinstance(told.error, ConnectionResetError)


async def test_a_reset_during_the_last_writing_is_told_as_an_error() -> None:
    async with serving() as site:
        client, told = await site.accept()
        told.transport.write(LARGE)
        told.transport.close()
        client.reset()
        await until(lambda: told.is_lost)
        assert isinstance(told.error, ConnectionError)


async def test_writing_to_a_client_that_is_gone_is_told_as_an_error(listening: socket.socket) -> None:
    async with serving(Stays, listening) as site:
        client, told = await site.accept()
        client.sock.close()
        while not told.is_lost:
            told.transport.write(b"hello" * 1000)
            told.transport.writelines([b"hello" * 1000] * 2)
            await turns(1)
        assert isinstance(told.error, ConnectionError)


async def test_the_descriptor_is_closed_after_the_protocol_was_told() -> None:
    class Looks(Told):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.still_open = self.transport.get_extra_info("socket").fileno() >= 0

    async with serving(Looks) as site:
        before = len(descriptors("socket:"))
        client, told = await site.accept()
        client.sock.close()
        await until(lambda: told.is_lost)
        assert cast(Looks, told).still_open
        await turns()
        assert len(descriptors("socket:")) == before


# Protocols that fail.


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
async def test_an_exception_of_the_protocol_is_reported_and_ends_the_connection(
    callback: str, unhandled: list[dict[str, Any]]
) -> None:
    keep_exceptions(unhandled)
    error = ValueError("of the protocol")

    class Fails(Told):
        pass

    def fail(self: Told, *arguments: object) -> None:
        raise error

    setattr(Fails, callback, fail)
    async with serving(Fails) as site:
        client, told = await site.accept()
        await client.send(b"hello")
        client.end()
        await until(lambda: told.is_lost)
        assert [context["exception"] for context in unhandled] == [error]
        assert unhandled[0]["transport"] is told.transport
        assert unhandled[0]["protocol"] is told
        client, told = await site.accept()
        assert not told.is_lost, "others go on"


async def test_an_exception_of_connection_lost_is_reported_and_the_descriptor_closed(
    unhandled: list[dict[str, Any]],
) -> None:
    keep_exceptions(unhandled)

    class Fails(Told):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ValueError("of the protocol")

    async with serving(Fails) as site:
        before = len(descriptors("socket:"))
        client, told = await site.accept()
        client.sock.close()
        await until(lambda: told.is_lost)
        await turns()
        assert len(descriptors("socket:")) == before
        assert [str(context["exception"]) for context in unhandled] == ["of the protocol"]


# Many connections.


async def test_one_that_floods_does_not_starve_another() -> None:
    async with serving(Echo) as site:

        class Discards(Told):
            received = 0

            def data_received(self, data: bytes) -> None:
                self.received += len(data)

        echoing, _ = await site.accept()
        site.new_protocol = Discards
        flooding, flooded = await site.accept()
        for _ in range(20):
            for _ in range(10):
                with contextlib.suppress(BlockingIOError):
                    flooding.sock.send(LARGE)
            before = cast(Discards, flooded).received
            echoing.sock.send(b"hello")
            answer = None
            while answer is None:
                with contextlib.suppress(BlockingIOError):
                    answer = echoing.sock.recv(10)
                with contextlib.suppress(BlockingIOError):
                    flooding.sock.send(LARGE)
                await asyncio.sleep(0)
            assert answer == b"hello"
            # libuv reads 32 times from one before it looks at the next (uv__read).
            most = 3 * 32 if is_of_uvloop(flooded.transport) else 3
            assert cast(Discards, flooded).received - before <= most * 256 * 1024


async def test_one_that_was_aborted_by_another_one_in_the_same_turn_hears_nothing() -> None:
    class Murders(Told):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            for other in site.protocols:
                if other is not self:
                    other.transport.abort()

    async with serving(Murders) as site:
        pairs = [await site.accept() for _ in range(10)]
        for client, _ in pairs:
            client.sock.send(b"hello")
        await until(lambda: sum(told.is_lost for _, told in pairs) >= 9)
        await turns()
        assert sum(bool(told.data) for _, told in pairs) == 1


async def test_a_descriptor_that_is_used_again_gets_no_events_of_the_one_before(kind: str) -> None:
    async with serving(Echo) as site:
        client, told = await site.accept()
        fd = told.transport.get_extra_info("socket").fileno()
        copy = os.dup(fd)  # It keeps the socket open beyond its transport, as a child process does.
        told.transport.abort()
        await until(lambda: told.is_lost)
        await turns()
        second, other = await site.accept()
        await client.send(b"to the first")
        await second.send(b"to the second")
        assert await second.receive(13) == b"to the second"
        await settle()
        assert (told.data, other.data) == (b"", b"to the second")
        os.close(copy)


async def test_nothing_is_left_of_connections_that_were_closed(kind: str, tmp_path: Path) -> None:
    # Unix sockets: as many TCP connections would use up the ports.
    count = 10_000 if kind == "native" else 500
    left: weakref.WeakSet[object] = weakref.WeakSet()
    async with serving(Echo, unix_listener(tmp_path)) as site:
        gc.collect()  # what other tests have left
        before = len(descriptors("socket:"))

        async def serve_one(number: int) -> None:
            client, protocol = await site.accept()
            left.update((protocol, protocol.transport))
            if number % 4 == 0:
                await client.send(b"hello")
                protocol.transport.write(LARGE[:500_000])
            if number % 3 == 0:
                protocol.transport.abort()
            elif number % 3 == 1:
                protocol.transport.close()
            client.sock.close()
            await until(lambda: protocol.is_lost)
            site.forget()

        for number in range(count):
            await serve_one(number)
        await turns()
        gc.collect()
        assert len(left) == 0
        assert len(descriptors("socket:")) == before


async def test_running_out_of_descriptors_is_an_error_of_accepting(listening: socket.socket) -> None:
    async with serving(Echo, listening) as site:
        client = site.connect()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(OSError, match="Too many open files") as caught:
                site.transports.accept(listening)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE
        assert site.transports.accept(listening)
        await client.send(b"hello")
        assert await client.receive(5) == b"hello"


async def test_a_socket_that_is_closed_cannot_accept() -> None:
    async with serving() as site:
        site.listening.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            site.transports.accept(site.listening)


async def test_another_protocol_can_take_over() -> None:
    async with serving() as site:
        client, told = await site.accept()
        assert told.transport.get_protocol() is told
        echo = Echo()
        echo.connection_made(told.transport)
        told.transport.set_protocol(echo)
        assert told.transport.get_protocol() is echo
        await client.send(b"hello")
        assert await client.receive(5) == b"hello"
        client.end()
        await until(lambda: echo.is_lost)
        assert told.calls == ["made"]


# How transports are made.


class Loses:
    """An event loop that cannot give a socket a transport."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.accepted: list[socket.socket] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, factory: Callable[[], object], sock: socket.socket) -> None:
        self.accepted.append(sock)
        raise OSError(errno.EBADF, "lost")


async def test_a_connection_that_is_lost_before_it_has_a_transport_is_closed_and_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setattr(transports_module, "new_native", None)
    rig, loop = Rig(PlayedApp()), Loses()
    rig.state.loop = cast(asyncio.AbstractEventLoop, loop)
    transports = transports_for(rig.state)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(False)
        assert transports.accept(listening)
        assert rig.state.coming == 1
        await transports.wait_attached()
    assert [sock.fileno() for sock in loop.accepted] == [-1]
    assert (rig.state.coming, rig.state.connections) == (0, set())
    assert "A connection was lost before it began: [Errno 9] lost" in caplog.text


async def test_the_native_kind_is_used_where_there_is_one(kind: str) -> None:
    transports = new_transports(asyncio.get_running_loop(), Told, lambda: None)
    assert isinstance(transports, LoopTransports) == (kind == "loop")
    transports.close()
    transports.close()
