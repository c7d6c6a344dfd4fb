"""What carries a request, and what answers it, as they see each other: the seam between connections and ASGI."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeAlias

from fastserve.net.deadlines import Watched
from fastserve.wire.events import Field

Address: TypeAlias = tuple[str, int | None]
"""(host, port), or (path, None) of a Unix socket."""

NO_RESPONSE = 444
"""What stands for the status, as in nginx, when the server has closed the connection without a response."""


class Answering:
    """One request and its response, as a connection sees them. The layer above derives from it.

    unread_bytes: of what was received, those that the application has not taken yet.
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

    def receive_bytes(self, data: bytes) -> None:
        """Take bytes of the protocol to which the stream was switched."""
        raise NotImplementedError

    def tick(self, now: float) -> float:
        """Act on what is due, and return in how many seconds there is something again. Called after a switch only."""
        raise NotImplementedError

    def drain(self) -> None:
        """Take note that the worker is about to stop."""

    def peer_closed(self) -> None:
        """Take note that the client sends nothing more; it may still be reading."""
        raise NotImplementedError

    def cut_short(self, status: int, size: int) -> None:
        """Take note that the server ends the request itself.

        status: what the client gets instead of a response, or NO_RESPONSE; 0 when the response has begun. size: the
        bytes of the body that it gets with that.

        `connection_lost` follows.
        """
        raise NotImplementedError

    def connection_lost(self) -> None:
        """Take note that nothing can be sent any more."""
        raise NotImplementedError


class Stream(Watched):
    """What carries one exchange, as the exchange sees it: an HTTP/1 connection derives from it.

    client, server: the addresses of both ends; client is None for a Unix socket. scheme: "http" or "https".
    tls: what the `tls` extension of ASGI says of the connection; None without TLS.
    is_writable: the peer keeps up; while it is False, nothing more should be sent. sends_files: `send_file` may be
    called.
    """

    __slots__ = ("client", "is_writable", "scheme", "sends_files", "server", "tls")

    def __init__(self) -> None:
        super().__init__()
        self.client: Address | None = None
        self.server: Address | None = None
        self.scheme = "http"
        self.tls: dict[str, Any] | None = None
        self.is_writable = True
        self.sends_files = False

    def start_response(self, status: int, fields: Iterable[Field]) -> None:
        """Take the start of the response and hold it back; until the first `send_body` another may replace it.

        Raises:
            InvalidResponse: the status or a field is wrong.
        """
        raise NotImplementedError

    def send_body(self, body: bytes, last: bool) -> int:
        """Send the next part of the body; `last` ends the response.

        Returns how many bytes of it the client gets: none where a response has no body, as for HEAD.

        Raises:
            InvalidResponse: the body does not have the length that was declared. Nothing of it is sent.
        """
        raise NotImplementedError

    def switch(self, fields: Iterable[Field]) -> bytes:
        """Agree to the protocol that the request asks for: from now on the stream carries its bytes, both ways.

        Returns what of it has come already.

        Raises:
            InvalidResponse: a field is wrong. Nothing is sent.
        """
        raise NotImplementedError

    def send_bytes(self, parts: list[bytes]) -> None:
        """Send bytes of the protocol to which the stream was switched."""
        raise NotImplementedError

    def end(self, *, lingers: bool) -> None:
        """Send what is waiting, and close. lingers: the client may still be sending, and should get it nevertheless."""
        raise NotImplementedError

    def expect(self) -> None:
        """Ask the answering side again when something is due (see Answering.tick)."""
        raise NotImplementedError

    def declare_length(self, length: int) -> int:
        """Declare the length of the body, unless the start that is held has done so; return what is declared."""
        raise NotImplementedError

    def send_file(self, fd: int, offset: int, count: int, last: bool) -> int:
        """Send the next part of the body from a file, which may be closed afterwards; see `send_body`."""
        raise NotImplementedError

    def send_early_hint(self, links: Iterable[bytes]) -> None:
        """Tell the client which other resources it is going to need, if it can be told; before the first `send_body`.

        Raises:
            InvalidResponse: a link is wrong.
        """
        raise NotImplementedError

    def takes_trailers(self) -> bool:
        """Tell whether `send_trailers` may end the response, after a `send_body` that was not the last."""
        raise NotImplementedError

    def send_trailers(self, fields: Iterable[Field]) -> None:
        """End the response with trailers.

        Raises:
            InvalidResponse: a field is wrong. Nothing of them is sent.
        """
        raise NotImplementedError

    def wait_writable(self, raises: bool) -> Coroutine[Any, Any, None]:
        """Return a coroutine that waits until the peer keeps up again, or is gone.

        Raises:
            ClientDisconnected: it is gone, and `raises` is set.
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
