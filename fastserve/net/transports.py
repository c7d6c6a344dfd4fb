"""How accepted connections get their transports: natively (net.epoll), or from the event loop. Only speed differs."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from typing import Protocol, TypeAlias, cast

from fastserve.addresses import AllowList
from fastserve.net.certificates import Certificates
from fastserve.net.connection import Connection
from fastserve.net.introduction import Introduction
from fastserve.net.state import ServerState
from fastserve.net.tls import TlsTransport

_log = logging.getLogger("fastserve")

NewProtocol: TypeAlias = Callable[[], asyncio.BaseProtocol]
"""Makes the protocol of one connection."""

new_native: Callable[[asyncio.AbstractEventLoop, NewProtocol], Transports] | None
"""Makes native transports; None where there are none: not on Linux, not compiled, or not wanted (FASTSERVE_PURE)."""
try:
    from fastserve.net.epoll import Poller
except ImportError:
    new_native = None
else:
    new_native = Poller


class Transports(Protocol):
    """Accepts connections in one event loop, and gives each a protocol and a transport."""

    def accept(self, listening: socket.socket) -> bool:
        """Accept one connection and tell whether there was one. Its transport may come later.

        Raises:
            OSError: see accept(2), "Error handling".
        """

    async def wait_attached(self) -> None:
        """Wait until every accepted connection has its transport."""

    def close(self) -> None:
        """Let go of the event loop, which is about to end. No connection should be left."""


class LoopTransports:
    """Transports of the event loop. Making one takes a task and a turn of the loop.

    on_failed: called when a connection that was accepted gets no transport, because it is lost already.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, new_protocol: NewProtocol, on_failed: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._new_protocol = new_protocol
        self._on_failed = on_failed
        self._attaching: set[asyncio.Task[None]] = set()

    def accept(self, listening: socket.socket) -> bool:
        """See Transports."""
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        sock.setblocking(False)
        protocol = self._new_protocol()
        task = self._loop.create_task(self._attach(sock, protocol))
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)
        return True

    async def _attach(self, sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        try:
            if sock.family != socket.AF_UNIX:
                # asyncio forgets it when the listening socket was made without saying that its protocol is TCP.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError as error:
            _log.debug("A connection was lost before it began: %s", error)
            self._on_failed()
            sock.close()

    async def wait_attached(self) -> None:
        """See Transports."""
        if self._attaching:
            await asyncio.wait(self._attaching)

    def close(self) -> None:
        """See Transports."""


def new_transports(
    loop: asyncio.AbstractEventLoop, new_protocol: NewProtocol, on_failed: Callable[[], None]
) -> Transports:
    """Return the fastest transports there are here."""
    if new_native is None:
        return LoopTransports(loop, new_protocol, on_failed)
    return new_native(loop, new_protocol)


def transports_for(
    state: ServerState,
    introducers: AllowList | None = None,
    certificates: Certificates | None = None,
    handshake_s: float = math.inf,
) -> Transports:
    """Return transports for the connections of a worker.

    introducers: the peers that send a PROXY header; None when nobody does. certificates: for TLS; None for none.
    handshake_s: how long its handshake may take.
    """

    def new_connection() -> Connection | TlsTransport:
        return Connection(state) if certificates is None else TlsTransport(state, certificates, handshake_s)

    def new_protocol() -> asyncio.BaseProtocol:
        protocol = new_connection() if introducers is None else Introduction(state, introducers, new_connection)
        state.coming += 1
        return cast(asyncio.BaseProtocol, protocol)  # which it is without deriving from it

    return new_transports(state.loop, new_protocol, state.forget_coming)
