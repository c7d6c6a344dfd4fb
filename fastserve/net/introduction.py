"""The beginning of a connection that a proxy introduces: a PROXY header (wire.proxy), and then as without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from fastserve.addresses import AllowList, describe_client
from fastserve.errors import ProtocolViolation
from fastserve.net.connection import Connection, as_address
from fastserve.net.deadlines import Watched
from fastserve.net.state import ServerState
from fastserve.net.tls import TlsTransport
from fastserve.wire.proxy import ProxyHeader, read_proxy_header

_log = logging.getLogger("fastserve")


class Introduction(Watched):
    """The protocol of a connection until its PROXY header is read; then a Connection takes over its transport.

    introducers: the peers that send a header, and must. The connections of others have none. new_connection: returns
    the one that takes over, or its TLS.
    """

    def __init__(
        self, state: ServerState, introducers: AllowList, new_connection: Callable[[], Connection | TlsTransport]
    ) -> None:
        super().__init__()
        self._state = state
        self._introducers = introducers
        self._new_connection = new_connection
        self._transport: asyncio.Transport
        self._unread = b""
        self._drain_cuts_heads: bool | None = None  # None until the worker is about to stop
        self.idle_since = state.deadlines.now

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of an accepted connection."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if self._introducers.has(peer[0] if isinstance(peer, tuple) else None):
            self._state.add(self)
            self._state.deadlines.set(self, self._state.timeouts.head_s)
        else:
            self._begin(self._new_connection())

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._unread += data
        try:
            header = read_proxy_header(self._unread)
        except ProtocolViolation as violation:
            self._refuse(violation.reason)
        else:
            if header is not None:
                self._hand_over(header)

    def eof_received(self) -> bool:
        """Close: nothing was asked for. Load balancers look in this way whether anyone is listening."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport is closed."""
        self._state.remove(self)

    def pause_writing(self) -> None:
        """Do nothing: nothing is written."""

    def resume_writing(self) -> None:
        """Do nothing: nothing is written."""

    # What becomes of it.

    def _hand_over(self, header: ProxyHeader) -> None:
        self._state.coming += 1  # First, so that no other connection takes the place.
        self._state.remove(self)
        connection = self._new_connection()
        if header.has_addresses:
            connection.client, connection.server = header.client, header.server
        self._begin(connection)
        if self._drain_cuts_heads is not None:
            connection.drain(cuts_heads=self._drain_cuts_heads)
        if len(self._unread) > header.size:
            connection.data_received(self._unread[header.size :])

    def _begin(self, connection: Connection | TlsTransport) -> None:
        self._transport.set_protocol(cast(asyncio.BaseProtocol, connection))
        connection.connection_made(self._transport)

    def _refuse(self, reason: str) -> None:
        # Without a response: to whom it would go is what is not known (§2).
        client = as_address(self._transport.get_extra_info("peername"))
        _log.warning("%s - connection cut: %s", describe_client(client), reason)
        self._transport.abort()

    # What the worker calls, as for a Connection.

    def pass_deadline(self) -> None:
        """See net.deadlines: the header did not come in time."""
        if self._unread:
            self._refuse("the PROXY header did not arrive in time")
        else:
            self._transport.abort()

    def drain(self, *, cuts_heads: bool) -> None:
        """Wait no longer than for a last request: the worker is about to stop."""
        self._drain_cuts_heads = cuts_heads
        self._state.deadlines.set(self, self._state.idle_s)

    def close_if_idle(self) -> bool:
        """See Connection: nothing has come."""
        if not self._unread:
            self._transport.abort()
        return not self._unread

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()
