"""A `send` that adds the fields of CORS.

Never compiled: compiled coroutines are not what `inspect.iscoroutine` knows.
"""

from __future__ import annotations

from fastserve.accel.cors import CorsAnswer
from fastserve.asgi.types import Message


class CorsWatch(CorsAnswer):
    """Passes the messages of a response on, with the fields of CORS."""

    async def send(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.start(message)
        await self._send(message)
