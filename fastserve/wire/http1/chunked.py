"""The chunked transfer coding of request bodies (RFC 9112 §7.1), read strictly.

Every octet of the framing is checked: sizes are hexadecimal digits only, extensions follow the grammar without the
"bad" whitespace that a sender must not generate, data ends in CRLF (CVE-2025-43859 in h11 was about those two bytes).
Sizes, extensions and trailers are bounded while they are read.
"""

from __future__ import annotations

import enum
import re

from fastserve.errors import FieldsRefused, ProtocolViolation
from fastserve.settings import RequestLimits
from fastserve.wire.events import BodyData
from fastserve.wire.http1.fields import FieldsParser, SectionReader
from fastserve.wire.http1.grammar import TOKEN
from fastserve.wire.http1.request import MAX_LENGTH

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=(?:%b|%b))?)*)\r\n" % (TOKEN, TOKEN, _QUOTED))
_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
# RFC 9110 §6.5.1. The libraries take these for those of the head, each in its own way.
_NEVER_TRAILERS = (b"content-length", b"transfer-encoding", b"host")
_LONGEST_SIZE = len("FFFFFFFFFFFFFFFF\r\n")


class Reading(enum.Enum):
    """What comes next in a chunked body."""

    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()


class ChunkedBody:
    """Takes one chunked body out of a buffer.

    `consumed` says after each call how far into the buffer the call has read.
    """

    __slots__ = (
        "_extension_bytes",
        "_fields_parser",
        "_left",
        "_limits",
        "_reading",
        "_total",
        "_trailers",
        "consumed",
    )

    def __init__(self, limits: RequestLimits, fields_parser: FieldsParser) -> None:
        self._limits = limits
        self._fields_parser = fields_parser
        self._reading = Reading.SIZE
        self._left = 0  # bytes of the present chunk's data that have not come yet
        self._total = 0  # bytes announced by all size lines so far
        self._extension_bytes = 0
        self._trailers = SectionReader()
        self.consumed = 0

    def next_event(self, buffer: bytes, at: int) -> BodyData | None:
        """Return the next event in buffer[at:], or None when it needs more bytes. Small chunks are joined.

        Raises:
            ProtocolViolation: 400 for broken framing, 413 or 431 over a limit.
        """
        self.consumed = at
        parts: list[bytes] = []
        try:
            while self._reading != Reading.TRAILERS:
                if not self._read_on(buffer, parts):
                    break
            else:
                if not parts:
                    return self._read_trailers(buffer)
        except ProtocolViolation:
            if not parts:
                raise  # Otherwise once they are taken: nothing has been read of what is wrong.
        return BodyData(b"".join(parts), is_last=False) if parts else None

    def _read_on(self, buffer: bytes, parts: list[bytes]) -> bool:
        """Read a step further, add the data that it has, and tell whether it was there."""
        if self._reading == Reading.SIZE:
            self._read_plain_chunks(buffer, parts)
            return self._read_size(buffer)
        if self._reading == Reading.DATA_END:
            return self._read_data_end(buffer)
        return self._read_data(buffer, parts)

    def _read_plain_chunks(self, buffer: bytes, parts: list[bytes]) -> None:
        """Read the chunks that have come as a whole and have no extensions, up to the first that is not like that."""
        at = self.consumed
        total = self._total
        most = self._limits.body_bytes or MAX_LENGTH
        while (line := _PLAIN_SIZE_LINE.match(buffer, at)) is not None:
            size = int(line[1], 16)
            begin = line.end()
            end = begin + size
            if not size or total + size > most or buffer[end : end + 2] != b"\r\n":
                break
            parts.append(buffer[begin:end])
            total += size
            at = end + 2
        self.consumed, self._total = at, total

    def _read_size(self, buffer: bytes) -> bool:
        if buffer.find(b"\n", self.consumed) < 0:
            self._check_unfinished_size(buffer)
            return False
        line = _SIZE_LINE.match(buffer, self.consumed)
        if line is None:
            raise ProtocolViolation("malformed chunk size line")
        self._extension_bytes += len(line[2])
        if self._extension_bytes > self._limits.trailer_bytes:
            raise ProtocolViolation("too many bytes of chunk extensions")
        self._left = int(line[1], 16)
        self._total += self._left
        if self._total > (self._limits.body_bytes or MAX_LENGTH):
            raise ProtocolViolation("the request body is too large", status=413)
        self.consumed = line.end()
        if self._left:
            self._reading = Reading.DATA
        else:
            self._reading = Reading.TRAILERS
            self._trailers.begin(self._limits.trailer_bytes, self._limits.fields)
        return True

    def _check_unfinished_size(self, buffer: bytes) -> None:
        allowed = _LONGEST_SIZE + self._limits.trailer_bytes - self._extension_bytes
        if len(buffer) - self.consumed > allowed:
            raise ProtocolViolation("the chunk size line is too long")

    def _read_data(self, buffer: bytes, parts: list[bytes]) -> bool:
        data = buffer[self.consumed : self.consumed + self._left]
        if not data:
            return False
        parts.append(data)
        self.consumed += len(data)
        self._left -= len(data)
        if not self._left:
            self._reading = Reading.DATA_END
        return True

    def _read_data_end(self, buffer: bytes) -> bool:
        end = buffer[self.consumed : self.consumed + 2]
        if not b"\r\n".startswith(end):
            raise ProtocolViolation("chunk data is not followed by CRLF")
        if len(end) < 2:
            return False
        self.consumed += 2
        self._reading = Reading.SIZE
        return True

    def _read_trailers(self, buffer: bytes) -> BodyData | None:
        """Read the trailer section. It is checked and dropped: ASGI has no place for request trailers."""
        end = self._trailers.find_end(buffer, self.consumed)
        if not end:
            return None
        block = buffer[self.consumed : end]
        try:
            fields = self._fields_parser.parse(block)
        except FieldsRefused as refusal:
            raise ProtocolViolation(f"malformed trailer section: {refusal}") from None
        if any(name in _NEVER_TRAILERS for name, _ in fields):
            raise ProtocolViolation("a trailer that must be in the head")
        self.consumed = end
        return BodyData(b"", is_last=True)
