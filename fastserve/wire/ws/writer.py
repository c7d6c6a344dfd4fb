"""What the server sends over a WebSocket: messages become frames, each message one (RFC 6455 §5.6)."""

from __future__ import annotations

from fastserve.wire.ws.deflate import Deflater
from fastserve.wire.ws.frames import FIN, RSV1, Opcode, frame_head

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY
_RSV1 = RSV1
# Up to this size a payload is joined to its head; beyond, copying costs more than another piece.
_JOIN_BYTES = 16 * 1024
# A smaller message is not compressed: it would gain little, and cost several times as much as sending it.
_LEAST_COMPRESSED = 256


class Writer:
    """Encodes the messages of one WebSocket. deflater: compresses them; None when they are sent as they are."""

    __slots__ = ("_deflater",)

    def __init__(self, deflater: Deflater | None = None) -> None:
        self._deflater = deflater

    def encode_message(self, payload: bytes, is_text: bool) -> list[bytes]:
        """Return a message as it goes on the wire. The payload of a text is UTF-8."""
        first = _TEXT if is_text else _BINARY
        if self._deflater is not None and len(payload) >= _LEAST_COMPRESSED:
            payload = self._deflater.deflate(payload)
            first |= _RSV1
        head = frame_head(first, len(payload))
        return [head + payload] if len(payload) <= _JOIN_BYTES else [head, payload]
