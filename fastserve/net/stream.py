"""What carries a request, and what answers it, as they see each other: the seam between connections and ASGI."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeAlias

from fastserve.net.deadlines import Watched
from fastserve.wire.events import Field

Address: TypeAlias = tuple[str, int | None]
"""(host, port), or (path, None) of a Unix socket."""


class Answering:
    """One request and its response, as a connection sees them. The layer above derives from it.

    unread_bytes: bytes of the request body that were received and not yet taken by the application.
    """

    __slots__ = ("unread_bytes",)

    def __init__(self) -> None:
        self.unread_bytes = 0

    def start(self) -> None:
        """Call the application. It may have answered completely before this returns."""
        raise NotImplementedError

    def receive_body(self, data: bytes, last: bool) -> None:
        """Take the next part of the request body; `last` tells that it is complete."""
        raise NotImplementedError

    def peer_closed(self) -> None:
        """Take note that the client sends nothing more; it may still be reading."""
        raise NotImplementedError

    def connection_lost(self) -> None:
        """Take note that nothing can be sent any more."""
        raise NotImplementedError


class Stream(Watched):
    """What carries one exchange, as the exchange sees it: an HTTP/1 connection derives from it.

    client, server: the addresses of both ends; client is None for a Unix socket. scheme: "http" or "https".
    tls: what the `tls` extension of ASGI says of the connection; None without TLS.
    is_writable: the peer keeps up; while it is False, nothing more should be sent.
    """

    __slots__ = ("client", "is_writable", "scheme", "server", "tls")

    def __init__(self) -> None:
        super().__init__()
        self.client: Address | None = None
        self.server: Address | None = None
        self.scheme = "http"
        self.tls: dict[str, Any] | None = None
        self.is_writable = True

    def start_response(self, status: int, fields: Iterable[Field]) -> None:
        """Take the start of the response and hold it back; until the first `send_body` another may replace it.

        Raises:
            InvalidResponse: the status or a field is wrong.
        """
        raise NotImplementedError

    def send_body(self, body: bytes, last: bool) -> None:
        """Send the next part of the body; `last` ends the response.

        Raises:
            InvalidResponse: the body does not have the length that was declared. Nothing of it is sent.
        """
        raise NotImplementedError

    def wait_writable(self) -> Coroutine[Any, Any, None]:
        """Return a coroutine that waits until the peer keeps up again.

        Raises:
            ClientDisconnected: it is gone.
        """
        raise NotImplementedError

    def ask_for_body(self) -> None:
        """Take note that the application waits for the request body; the client may be waiting for that."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read on, if that had stopped because too much was unread."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close without completing the response, so that the client can tell."""
        raise NotImplementedError
