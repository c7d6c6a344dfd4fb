"""Whether a response has been started."""

from __future__ import annotations

from fastserve.asgi.types import Message, Send


class Watch:
    """Passes the messages of a response on, and takes note of its start."""

    __slots__ = ("_send", "is_started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False

    async def send(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.is_started = True
        await self._send(message)


async def swallow(message: Message) -> None:
    """Send nothing (a `send` of ASGI)."""
