"""What an exchange and a WebSocket session have in common for those who only observe them."""

from __future__ import annotations

from collections.abc import Iterable

from fastserve.asgi.types import Scope
from fastserve.net.stream import Answering
from fastserve.wire.events import Field, RequestHead


class Answered(Answering):
    """A request that was answered, or never will be: an Exchange, or a Session. Both derive from it.

    head: of the request. scope: for the application, which may change it. status: of the response, 0 before there is
    one, NO_RESPONSE when the server has closed the connection without. is_cut: the server has ended the request.
    is_refused: it has answered without the application. fields: of the response, as the application gave them.
    sent_bytes: of its body; of messages before compression, in a WebSocket. started_at: of the performance counter, in
    seconds.
    """

    __slots__ = ("fields", "head", "is_cut", "is_refused", "scope", "sent_bytes", "started_at", "status")

    head: RequestHead
    scope: Scope
    status: int
    is_cut: bool
    is_refused: bool
    fields: Iterable[Field]
    sent_bytes: int
    started_at: float

    def cut_short(self, status: int, size: int) -> None:
        """See Answering."""
        self.is_cut = True
        if status:
            self.status = status
            self.fields = ()
            self.sent_bytes = size
