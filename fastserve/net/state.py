"""What the connections of one worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastserve.errors import ProtocolViolation
from fastserve.net.deadlines import Deadlines
from fastserve.net.stream import Address, Answering, Stream
from fastserve.net.waiting import wait_no_connections
from fastserve.settings import ConnectionLimits, Timeouts
from fastserve.wire.events import RequestHead
from fastserve.wire.http1.protocol import Http1

if TYPE_CHECKING:
    from fastserve.net.connection import Connection
    from fastserve.net.introduction import Introduction
    from fastserve.net.tls import TlsTransport


class ServerState:
    """Shared by all connections of a worker, and changed only in its event loop.

    open_exchange: makes the exchange for a request head. new_wire: makes the wire of a new connection.
    log_refusal: told what a peer did wrong, and whether it has had a response before. observe_refusal: told of a
    request that is refused before it has an exchange, as far as its head is known, of the status, and of the size of
    the body that goes with it.
    keeps_connections: whether connections are kept alive, which they are not when the worker is about to stop.
    is_draining: whether they are to end as soon as they can. idle_s: how long they may stay without a request, in
    seconds. coming: connections that are accepted and not yet among `connections`. is_crowded: whether further ones
    wait in the kernel's queue (see net.crowd).
    """

    __slots__ = (
        "_space_waiters",
        "coming",
        "connections",
        "deadlines",
        "idle_s",
        "is_crowded",
        "is_draining",
        "keeps_connections",
        "limits",
        "log_refusal",
        "loop",
        "new_wire",
        "observe_refusal",
        "open_exchange",
        "timeouts",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts,
        limits: ConnectionLimits,
        deadlines: Deadlines,
        new_wire: Callable[[], Http1],
        open_exchange: Callable[[RequestHead, Stream], Answering],
        log_refusal: Callable[[Address | None, ProtocolViolation, bool], None],
        observe_refusal: Callable[[RequestHead, Stream, int, int], None],
        keeps_connections: bool = True,
    ) -> None:
        self.loop = loop
        self.timeouts = timeouts
        self.limits = limits
        self.deadlines = deadlines
        self.new_wire = new_wire
        self.open_exchange = open_exchange
        self.log_refusal = log_refusal
        self.observe_refusal = observe_refusal
        self.keeps_connections = keeps_connections
        self.is_draining = False
        self.is_crowded = False
        self.idle_s = timeouts.keep_alive_s
        self.connections: set[Connection | Introduction | TlsTransport] = set()
        self.coming = 0
        self._space_waiters: list[Callable[[], None]] = []

    def has_space(self) -> bool:
        """Tell whether one more connection may be accepted."""
        most = self.limits.connections
        return most is None or len(self.connections) + self.coming < most

    def wait_no_connections(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that waits until every connection has closed."""
        return wait_no_connections(self)

    def when_space(self, callback: Callable[[], None]) -> None:
        """Call back, once, as soon as a connection has closed."""
        if callback not in self._space_waiters:
            self._space_waiters.append(callback)

    def add(self, connection: Connection | Introduction | TlsTransport) -> None:
        """Take note that a connection that was coming has a transport."""
        self.coming -= 1
        self.connections.add(connection)

    def forget_coming(self) -> None:
        """Take note that a connection that was coming will not: it gets no transport."""
        self.coming -= 1
        self._tell_of_space()

    def remove(self, connection: Connection | Introduction | TlsTransport) -> None:
        """Forget a connection that has closed."""
        self.connections.discard(connection)
        self.deadlines.forget(connection)
        self._tell_of_space()

    def _tell_of_space(self) -> None:
        waiters, self._space_waiters = self._space_waiters, []
        for callback in waiters:
            callback()
