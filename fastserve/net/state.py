"""What the connections of one worker share, and what they see of the layer above."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from fastserve.errors import ProtocolViolation
from fastserve.net.deadlines import Deadlines
from fastserve.settings import ConnectionLimits, Timeouts
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.protocol import Http1

if TYPE_CHECKING:
    from fastserve.net.connection import Connection

Address: TypeAlias = tuple[str, int | None]
"""(host, port), or (path, None) of a Unix socket."""


class Exchange(Protocol):
    """One request and its response, as a connection sees them. The layer above implements it.

    unread_bytes: bytes of the request body that were received and not yet taken by the application.
    """

    unread_bytes: int

    def start(self) -> None:
        """Call the application. It may have answered completely before this returns."""

    def receive_body(self, data: bytes, last: bool) -> None:
        """Take the next part of the request body; `last` tells that it is complete."""

    def peer_closed(self) -> None:
        """Take note that the client sends nothing more; it may still be reading."""

    def connection_lost(self) -> None:
        """Take note that nothing can be sent any more."""


class Stream(Protocol):
    """What carries one exchange, as the exchange sees it: an HTTP/1 connection.

    client, server: the addresses of both ends; client is None for a Unix socket. scheme: "http" or "https".
    is_writable: the peer keeps up; while it is False, nothing more should be sent.
    """

    client: Address | None
    server: Address | None
    scheme: str
    is_writable: bool

    def start_response(self, status: int, fields: Iterable[Field]) -> None:
        """Take the start of the response and hold it back; until the first `send_body` another may replace it.

        Raises:
            InvalidResponse: the status or a field is wrong.
        """

    def send_body(self, body: bytes, last: bool) -> None:
        """Send the next part of the body; `last` ends the response.

        Raises:
            InvalidResponse: the body does not have the length that was declared. Nothing of it is sent.
        """

    def wait_writable(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that waits until the peer keeps up again.

        Raises:
            ClientDisconnected: it is gone.
        """

    def ask_for_body(self) -> None:
        """Take note that the application waits for the request body; the client may be waiting for that."""

    def resume_reading(self) -> None:
        """Read on, if that had stopped because too much was unread."""

    def abort(self) -> None:
        """Close without completing the response, so that the client can tell."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """Shared by all connections of a worker, and changed only in its event loop.

    open_exchange: makes the exchange for a request head. new_wire: makes the wire of a new connection.
    log_refusal: told what a peer did wrong. keeps_connections: whether connections are kept alive, which they are not
    when the worker is about to stop. coming: connections that are accepted and not yet among `connections`.
    """

    loop: asyncio.AbstractEventLoop
    timeouts: Timeouts
    limits: ConnectionLimits
    deadlines: Deadlines
    new_wire: Callable[[], Http1]
    open_exchange: Callable[[RequestHead, Stream], Exchange]
    log_refusal: Callable[[Address | None, ProtocolViolation], None]
    keeps_connections: bool = True
    connections: set[Connection] = field(default_factory=set)
    coming: int = 0
    _space_waiters: list[Callable[[], None]] = field(default_factory=list)

    def has_space(self) -> bool:
        """Tell whether one more connection may be accepted."""
        most = self.limits.connections
        return most is None or len(self.connections) + self.coming < most

    async def wait_no_connections(self) -> None:
        """Wait until every connection has closed."""
        while self.connections:
            closed = asyncio.Event()
            self.when_space(closed.set)
            await closed.wait()

    def when_space(self, callback: Callable[[], None]) -> None:
        """Call back as soon as a connection has closed."""
        self._space_waiters.append(callback)

    def add(self, connection: Connection) -> None:
        """Take note that a connection that was coming has a transport."""
        self.coming -= 1
        self.connections.add(connection)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self.connections.discard(connection)
        self.deadlines.forget(connection)
        waiters, self._space_waiters = self._space_waiters, []
        for callback in waiters:
            callback()
