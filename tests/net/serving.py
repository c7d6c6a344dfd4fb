"""A server of transports on a real socket, a protocol that keeps what it is told, and clients of it."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from fastserve.net.transports import Transports, new_transports
from tests.doubles import turns, until


class Told(asyncio.Protocol):
    """Keeps what it is told. calls: the names of what was called, in order, repetitions left out."""

    transport: asyncio.Transport
    stays_open = False  # after an EOF

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = b""
        self.error: Exception | None = None

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [call]:
            self.calls.append(call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self._note("data")
        self.data += data

    def eof_received(self) -> bool:
        self._note("eof")
        return self.stays_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        assert "lost" not in self.calls, "it is told once"
        self._note("lost")
        self.error = exc

    @property
    def is_lost(self) -> bool:
        return "lost" in self.calls


class Echo(Told):
    """Sends back what it receives."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class Client:
    """The other end: a socket that does not block."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    def end(self) -> None:
        """Send a FIN."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a RST instead of a FIN (socket(7), SO_LINGER)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    async def receive(self, size: int) -> bytes:
        """Return exactly so many bytes, less only if the end comes before."""
        received = bytearray()
        while len(received) < size:
            data = await self._loop.sock_recv(self.sock, min(size - len(received), 1 << 20))
            if not data:
                break
            received += data
        return bytes(received)

    async def receive_all(self) -> bytes:
        """Return what comes until the end."""
        return await self.receive(1 << 40)


class Site:
    """Accepts connections. protocols: of those that were, in order."""

    def __init__(self, listening: socket.socket, new_protocol: Callable[[], Told]) -> None:
        self.listening = listening
        self.protocols: list[Told] = []
        self.new_protocol = new_protocol
        self.transports: Transports = new_transports(asyncio.get_running_loop(), self._add, lambda: None)
        self._clients: list[Client] = []

    def _add(self) -> Told:
        protocol = self.new_protocol()
        self.protocols.append(protocol)
        return protocol

    def accept_all(self) -> None:
        while self.transports.accept(self.listening):
            pass

    def connect(self) -> Client:
        """Return a client whose connection waits to be accepted: the kernel completes that by itself."""
        sock = socket.socket(self.listening.family)
        sock.settimeout(10)
        sock.connect(self.listening.getsockname())
        client = Client(sock)
        self._clients.append(client)
        return client

    async def accept(self) -> tuple[Client, Told]:
        """Return both ends of a new connection."""
        client = self.connect()
        count = len(self.protocols)
        self.accept_all()
        assert len(self.protocols) == count + 1
        protocol = self.protocols[-1]
        await until(lambda: protocol.calls)
        return client, protocol

    def forget(self) -> None:
        """Keep nothing of the connections that were."""
        self.protocols.clear()
        self._clients.clear()

    async def close(self) -> None:
        """Close everything, also of a test that failed."""
        for client in self._clients:
            client.sock.close()
        await self.transports.wait_attached()
        for protocol in self.protocols:
            if protocol.calls and not protocol.is_lost:
                protocol.transport.abort()
        await turns()
        self.transports.close()
        await turns()


@asynccontextmanager
async def serving(
    new_protocol: Callable[[], Told] = Told, listening: socket.socket | None = None
) -> AsyncIterator[Site]:
    """Serve on a socket, a loopback one unless there is another."""
    with listening or socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        listening.setblocking(False)
        site = Site(listening, new_protocol)
        try:
            yield site
        finally:
            await site.close()


def unix_listener(folder: Path) -> socket.socket:
    """Return a Unix socket that listens."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "socket"))
    sock.listen(1000)
    return sock


def send_buffer(sock: socket.socket, size: int) -> None:
    """Have the kernel keep about so much of what is to be sent. Else it is as much as 4 MB (tcp(7), tcp_wmem).

    Less than two segments, of 64 KiB on the loopback interface, would have the sender wait for delayed ACKs.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def descriptors(what: str) -> list[int]:
    """Return the descriptors of this process that are open to something: "socket:", "anon_inode:[eventpoll]"."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the folder
        if target.startswith(what):
            found.append(int(name))
    return found


async def settle() -> None:
    """Wait until no event is left to be handled. A loop that spins never gets there, and the test fails by its time."""
    quiet = 0
    while quiet < 5:
        await asyncio.sleep(0)
        waiting, _, _ = select.select(descriptors("anon_inode:[eventpoll]"), [], [], 0)
        quiet = 0 if waiting else quiet + 1
