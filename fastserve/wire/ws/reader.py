"""What a client sends over a WebSocket: bytes go in, messages and control frames come out (RFC 6455 §5).

As with HTTP, nothing is read ahead: while an event is not pulled, the bytes behind it stay as they came. Within a
message the payload is taken as it arrives, so that bad text, or too much of it, is noticed at once. Small parts are
joined on the way: a message takes not much more memory than its bytes, whatever the fragments.

    frame head -> payload -> frame head ...     of data frames: payload joins the message, whose end is an event
               -> control frame                 an event when it is there as a whole; also between those of a message
"""

from __future__ import annotations

import codecs

from fastserve.errors import WebSocketViolation
from fastserve.wire.ws.deflate import Inflater
from fastserve.wire.ws.events import Close, Ping, Pong, WebSocketEvent
from fastserve.wire.ws.frames import MOST_CONTROL_BYTES, is_code, unmask

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FIRST_CONTROL = 8
_FIN = 0x80
_RSV1 = 0x40
_RSV = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_16 = 126
_LENGTH_64 = 127
_KEY_BYTES = 4
_MOST_LENGTH = (1 << 63) - 1
_MOST_CONTROL_BYTES = MOST_CONTROL_BYTES

PROTOCOL_ERROR = 1002
BAD_DATA = 1007
TOO_BIG = 1009

# Parts of a message that are smaller are joined as soon as there are so many of them: as an object, each takes some 50
# bytes more than it holds.
_SMALL_BYTES = 256
_MOST_SMALL = 256

_decode_utf8 = codecs.utf_8_decode


def most_compressed_bytes(max_bytes: int) -> int:
    """Return how large the compressed form of a message may be for a limit of the message itself.

    Only blocks without content make it larger: a compressor that gains nothing, and flushes after every four bytes,
    takes three and a half times their size. No length is larger than 63 bits (RFC 6455 §5.2).
    """
    return min(4 * max_bytes + 1024, _MOST_LENGTH)


class Reader:
    """Reads the frames of one WebSocket.

    max_bytes: of a message. inflater: for compressed messages; None when there must not be any.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_compressed_bytes",
        "_drops",
        "_inflater",
        "_is_compressed",
        "_is_final",
        "_is_in_frame",
        "_is_in_message",
        "_is_text",
        "_key",
        "_left",
        "_max_bytes",
        "_message_bytes",
        "_most_compressed",
        "_opcode",
        "_parts",
        "_small",
        "_undecoded",
    )

    def __init__(self, max_bytes: int, inflater: Inflater | None = None) -> None:
        self._max_bytes = max_bytes
        self._most_compressed = most_compressed_bytes(max_bytes)
        self._inflater = inflater
        self._drops = False  # what messages hold
        self._buffer = b""
        self._at = 0  # where in the buffer the unread bytes begin
        # The frame at hand:
        self._is_in_frame = False  # its head has been read
        self._is_final = False
        self._opcode = 0
        self._key = b""  # turned so that its first byte is for the next one of the payload
        self._left = 0  # bytes of its payload that have not been taken
        # The message at hand:
        self._is_in_message = False
        self._is_text = False
        self._is_compressed = False
        self._parts: list[str | bytes] = []
        self._small: list[str | bytes] = []  # the last parts, as long as they are small and few
        self._message_bytes = 0
        self._compressed_bytes = 0  # of all its frames, from their heads on
        self._undecoded = b""  # the beginning of a character

    def count_unread(self) -> int:
        """Return how many bytes came that no event has used yet."""
        return len(self._buffer) - self._at

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def drop_messages(self) -> None:
        """Return no messages from now on, only control frames: what messages hold is neither judged nor kept."""
        self._drops = True
        self._parts, self._small = [], []

    def next_event(self) -> WebSocketEvent | None:
        """Return the next event, or None until more bytes arrive. After a Close there is none.

        Raises:
            WebSocketViolation: the peer broke the protocol or a limit; nothing can be read from here on.
        """
        while True:
            if not self._is_in_frame and not self._read_head():
                break
            if self._opcode >= _FIRST_CONTROL:
                control = self._read_control()
                if control is not None:
                    return control
                break
            message = self._read_payload()
            if message is not None:
                return message
            if self._is_in_frame:
                break
        # What is left is a part of a head, or of a control frame; the buffer may have been much larger.
        self._buffer = b"" if self._at == len(self._buffer) else self._buffer[self._at :]
        self._at = 0
        return None

    def _read_head(self) -> bool:  # noqa: C901 - one pass, in one place
        """Read the head of a frame, and tell whether it is there as a whole."""
        data, at = self._buffer, self._at
        have = len(self._buffer) - at
        if have < 2:
            return False
        first, second = data[at], data[at + 1]
        opcode = first & _OPCODE
        self._check_first(first, opcode)
        if not second & _MASKED:
            raise WebSocketViolation(PROTOCOL_ERROR, "a frame is not masked")
        size = second & _LENGTH
        at += 2
        if size == _LENGTH_16:
            if have < 8:
                return False
            size = data[at] << 8 | data[at + 1]
            at += 2
            if size < _LENGTH_16:
                raise WebSocketViolation(PROTOCOL_ERROR, "the length of a frame is not in its shortest form")
        elif size == _LENGTH_64:
            if have < 14:
                return False
            size = self._read_long(at)
            at += 8
        elif have < 6:
            return False
        if opcode >= _FIRST_CONTROL:
            if size > _MOST_CONTROL_BYTES:
                raise WebSocketViolation(PROTOCOL_ERROR, "a control frame is longer than 125 bytes")
        else:
            self._begin_data(first, opcode, size)
        self._opcode = opcode
        self._is_final = first & _FIN != 0
        self._key = data[at : at + _KEY_BYTES]
        self._left = size
        self._at = at + _KEY_BYTES
        self._is_in_frame = True
        return True

    def _check_first(self, first: int, opcode: int) -> None:
        """Judge the first byte of a frame."""
        if first & _RSV:
            may_be_compressed = self._inflater is not None and _TEXT <= opcode <= _BINARY
            if first & _RSV != _RSV1 or not may_be_compressed:
                raise WebSocketViolation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode >= _FIRST_CONTROL:
            if opcode > _PONG:
                raise WebSocketViolation(PROTOCOL_ERROR, f"unknown opcode {opcode}")
            if not first & _FIN:
                raise WebSocketViolation(PROTOCOL_ERROR, "a control frame is fragmented")
        elif opcode > _BINARY:
            raise WebSocketViolation(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        elif (opcode == _CONTINUATION) != self._is_in_message:
            what = "there is no message to be continued" if opcode == _CONTINUATION else "the last message has no end"
            raise WebSocketViolation(PROTOCOL_ERROR, what)

    def _read_long(self, at: int) -> int:
        """Return the length of 64 bits there."""
        size = int.from_bytes(self._buffer[at : at + 8], "big")
        if size < 1 << 16 or size >= 1 << 63:
            raise WebSocketViolation(PROTOCOL_ERROR, "the length of a frame is not in its shortest form, or negative")
        return size

    def _begin_data(self, first: int, opcode: int, size: int) -> None:
        """Begin a message, or go on with it."""
        if opcode != _CONTINUATION:
            self._is_in_message = True
            self._is_text = opcode == _TEXT
            self._is_compressed = first & _RSV1 != 0
            self._message_bytes = self._compressed_bytes = 0
        if self._is_compressed:
            if size > self._most_compressed - self._compressed_bytes:
                raise WebSocketViolation(TOO_BIG, f"a message is larger than {self._most_compressed} bytes, compressed")
            self._compressed_bytes += size
        elif size > self._max_bytes - self._message_bytes:
            raise self._too_big()

    def _too_big(self) -> WebSocketViolation:
        return WebSocketViolation(TOO_BIG, f"a message is larger than {self._max_bytes} bytes")

    # Payloads.

    def _read_payload(self) -> str | bytes | None:
        """Take what is there of a data frame, and return the message if that is its end."""
        buffer, at, left = self._buffer, self._at, self._left
        size = len(buffer) - at
        if size >= left:
            size = left
            self._is_in_frame = False
        elif not size:
            return None
        self._at = at + size
        self._left = left - size
        is_end = self._is_final and not self._is_in_frame
        if is_end:
            self._is_in_message = False
        if self._drops:
            return None
        part = unmask(buffer, at, size, self._key)
        if self._is_in_frame and size % 4:
            self._key = self._key[size % 4 :] + self._key[: size % 4]
        if is_end and not self._message_bytes and not self._is_compressed:
            return self._decode(part, True) if self._is_text else part
        return self._join(part, is_end)

    def _join(self, part: bytes, is_end: bool) -> str | bytes | None:
        """Add a part to the message, and return that at its end."""
        if self._is_compressed:
            assert self._inflater is not None
            room = self._max_bytes - self._message_bytes
            inflated = self._inflater.inflate(part, is_end, room)
            if inflated is None:
                raise self._too_big()
            part = inflated
        self._message_bytes += len(part)
        if part or is_end:
            self._keep(self._decode(part, is_end) if self._is_text else part)
        if not is_end:
            return None
        self._gather()
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else self._joined(parts)

    def _keep(self, part: str | bytes) -> None:
        """Keep a part of the message."""
        if len(part) >= _SMALL_BYTES:
            self._gather()
            self._parts.append(part)
            return
        self._small.append(part)
        if len(self._small) == _MOST_SMALL:
            self._gather()

    def _gather(self) -> None:
        """Make one part of the small ones."""
        if self._small:
            small, self._small = self._small, []
            self._parts.append(self._joined(small))

    def _joined(self, parts: list[str | bytes]) -> str | bytes:
        return "".join(parts) if self._is_text else b"".join(parts)  # type: ignore[arg-type]

    def _decode(self, part: bytes, is_end: bool) -> str:
        """Return the text of a part, as far as its characters are whole (RFC 6455 §8.1)."""
        if self._undecoded:
            part = self._undecoded + part
        try:
            if is_end:
                self._undecoded = b""
                return part.decode()
            text, used = _decode_utf8(part, "strict", False)
        except UnicodeDecodeError:
            raise WebSocketViolation(BAD_DATA, "a text message is not UTF-8") from None
        self._undecoded = part[used:]
        return text

    # Control frames.

    def _read_control(self) -> WebSocketEvent | None:
        size, at = self._left, self._at
        if len(self._buffer) - at < size:
            return None
        data = unmask(self._buffer, at, size, self._key)
        self._at = at + size
        self._is_in_frame = False
        if self._opcode == _PING:
            return Ping(data)
        if self._opcode == _PONG:
            return Pong(data)
        self._buffer, self._at = b"", 0  # RFC 6455 §5.5.1: nothing follows.
        return _read_close(data)


def _read_close(data: bytes) -> Close:
    """Return what a close frame says (RFC 6455 §5.5.1)."""
    if not data:
        return Close()
    code = int.from_bytes(data[:2], "big")
    if len(data) < 2 or not is_code(code):
        raise WebSocketViolation(PROTOCOL_ERROR, "invalid close code")
    try:
        return Close(code, data[2:].decode())
    except UnicodeDecodeError:
        raise WebSocketViolation(BAD_DATA, "the reason of a close frame is not UTF-8") from None
