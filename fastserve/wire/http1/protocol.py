"""One HTTP/1.x connection, server side, without I/O (RFC 9112).

Bytes go in by `receive_data`, events come out of `next_event`. Nothing is read ahead: while an event is not pulled, the
bytes behind it stay as they came, so a connection that stops pulling has stopped reading. A message ends in COMPLETE,
and only `start_next_message` lets the next one be read: pipelined requests are read one at a time, in order.

    REQUEST_LINE -> FIELDS -> COMPLETE              no body
                           -> BODY    -> COMPLETE   a Content-Length
                           -> CHUNKED -> COMPLETE
"""

from __future__ import annotations

import enum

from fastserve.errors import FieldsRefused, ProtocolViolation
from fastserve.settings import RequestLimits
from fastserve.wire.events import BodyData, Event, Field, RequestHead
from fastserve.wire.http1.chunked import ChunkedBody
from fastserve.wire.http1.fields import FieldsParser, SectionReader, are_clean_lines, split_fields
from fastserve.wire.http1.grammar import TOKEN_OCTETS
from fastserve.wire.http1.head import HeadReader
from fastserve.wire.http1.request import add_fields, parse_request_line
from fastserve.wire.http1.response import ResponseDefaults, ResponseEncoder

_TOKEN_OCTETS = frozenset(TOKEN_OCTETS)
_TLS_HELLO = b"\x16\x03"  # how every TLS connection begins (RFC 8446 §5.1)
# How large a field section may be to be remembered for the next request of the connection.
_REMEMBERED_BYTES = 4096


class Reading(enum.IntEnum):
    """Which part of a request comes next."""

    REQUEST_LINE = 0
    FIELDS = 1
    BODY = 2
    CHUNKED = 3
    COMPLETE = 4


_REQUEST_LINE = Reading.REQUEST_LINE
_FIELDS = Reading.FIELDS
_BODY = Reading.BODY
_CHUNKED = Reading.CHUNKED
_COMPLETE = Reading.COMPLETE


class Http1:
    """The wire of HTTP/1.x. One for each connection.

    head_reader: reads what it can of request heads; the rest, or everything without it, goes to the fields parser.
    response: encodes what goes the other way. is_ended: the peer has sent its last byte.
    is_complete: the request at hand has been read to its end.
    """

    __slots__ = (
        "_at",
        "_block",
        "_buffer",
        "_chunked",
        "_fields",
        "_fields_parser",
        "_head",
        "_head_reader",
        "_left",
        "_limits",
        "_reading",
        "_section",
        "_skipped_line",
        "is_complete",
        "is_ended",
        "response",
    )

    def __init__(
        self,
        fields_parser: FieldsParser,
        limits: RequestLimits,
        defaults: ResponseDefaults,
        head_reader: HeadReader | None = None,
    ) -> None:
        self._fields_parser = fields_parser
        self._head_reader = head_reader
        self._limits = limits
        self.response = ResponseEncoder(defaults)
        self._section = SectionReader()
        self._buffer = b""
        self._at = 0  # where in the buffer the unread bytes begin
        self._head: RequestHead | None = None  # of the request at hand, as soon as its request line is read
        self._chunked: ChunkedBody | None = None
        self._left = 0  # bytes of a body with a Content-Length that have not come yet
        # The last field section of a request without a body: most clients send the same one again and again.
        self._block = b""
        self._fields: list[Field] = []
        self.is_ended = False
        self.start_next_message()

    def start_next_message(self) -> None:
        """Let the next request be read."""
        if self._at == len(self._buffer):
            self._buffer, self._at = b"", 0  # An idle connection keeps no memory.
        self._reading = _REQUEST_LINE
        self._skipped_line = False
        self.is_complete = False

    def is_idle(self) -> bool:
        """Tell whether nothing of a request has come yet."""
        return self._reading == _REQUEST_LINE and self._at == len(self._buffer)

    def is_last_request(self) -> bool:
        """Tell whether the client has said that no request follows the one at hand, or cannot send one any more."""
        return self.is_ended or self._head is None or not self._head.keep_alive

    def count_unread(self) -> int:
        """Return how many bytes came that no event has used yet."""
        return len(self._buffer) - self._at

    def body_bytes_left(self) -> int | None:
        """Return how much of the request body is still to come; None when it is chunked and has not ended."""
        return None if self._reading == _CHUNKED else self._left

    def take_unread(self) -> bytes:
        """Return the bytes that came and that no event has used, which are another protocol's from now on."""
        unread = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        return unread

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def receive_eof(self) -> None:
        """Take note that the peer will send nothing more."""
        self.is_ended = True

    def next_event(self) -> Event | None:
        """Return the next event, or None when it needs more bytes or the message is complete.

        Raises:
            ProtocolViolation: the peer broke the protocol or a limit; nothing can be read from here on.
        """
        event: Event | None = None
        if self._at < len(self._buffer):
            if self._reading == _REQUEST_LINE:
                if self._head_reader is not None:
                    event = self._read_plain_head(self._head_reader)
                    if event is not None:
                        return event
                self._read_request_line()
            if self._reading == _FIELDS:
                event = self._read_fields()
            elif self._reading == _BODY:
                event = self._read_body()
            elif self._reading == _CHUNKED:
                event = self._read_chunked()
        if event is None and self.is_ended and not self.is_idle() and not self.is_complete:
            raise ProtocolViolation("the client closed in the middle of a request")
        return event

    def encode_refusal(self, violation: ProtocolViolation) -> list[bytes]:
        """Return the response to the request at hand, or what was to become one, that broke the protocol."""
        return self.response.encode_refusal(violation, self.known_head())

    def known_head(self) -> RequestHead | None:
        """Return the head of the request at hand, as far as it is known; None before its request line is."""
        return None if self._reading == _REQUEST_LINE else self._head

    # Reading.

    def _read_plain_head(self, reader: HeadReader) -> RequestHead | None:
        """Return the next head if it is a plain one that is there as a whole. If not, nothing has happened."""
        buffer = self._buffer
        head = reader.read_line(buffer, self._at)
        if head is None:
            return None
        at = reader.end
        end = self._recall_fields(head, at)
        if not end:
            if not reader.read_fields(head, buffer, at):
                return None
            end = reader.end
            self._remember_fields(head, at, end)
        self._head = head
        self._at = end
        self._reading = _FIELDS  # They are read, and the head is known, also when its body is refused.
        self._expect_body(head.content_length)
        self.response.begin(head)
        return head

    def _read_request_line(self) -> None:
        buffer, at = self._buffer, self._at
        if buffer[at] not in _TOKEN_OCTETS:
            at = self._skip_empty_line()
            if at == len(buffer):
                return
        limit = self._limits.line_bytes
        end = buffer.find(b"\r\n", at, at + limit + 2)
        if end < 0:
            if buffer.find(b"\n", at, at + limit) >= 0:
                raise ProtocolViolation("the request line does not end in CRLF")
            if len(buffer) - at > limit + 1:
                raise ProtocolViolation(f"the request line is longer than {limit} bytes", status=414)
            return
        self._head = parse_request_line(buffer[at:end])
        self._at = end + 2
        self._section.begin(self._limits.head_bytes, self._limits.fields)
        self._reading = _FIELDS

    def _skip_empty_line(self) -> int:
        """Skip one empty line before a request, which some clients send after a body (RFC 9112 §2.2).

        Anything else that cannot begin a request is refused without waiting for the rest: TLS to a plain port looks
        like that.
        """
        buffer, at = self._buffer, self._at
        if buffer.startswith(_TLS_HELLO, at):
            raise ProtocolViolation("TLS was sent to a plain HTTP port: the URL has to begin with http://")
        if self._skipped_line or not b"\r\n".startswith(buffer[at : at + 2]):
            raise ProtocolViolation("malformed request line")
        if len(buffer) - at == 1:
            return len(buffer)
        self._skipped_line = True
        self._at = at = at + 2
        if at < len(buffer) and buffer[at] not in _TOKEN_OCTETS:
            raise ProtocolViolation("malformed request line")
        return at

    def _read_fields(self) -> RequestHead | None:
        head = self._head
        assert head is not None
        at = self._at
        end = self._recall_fields(head, at)
        if not end:
            end = self._section.find_end(self._buffer, at)
            if not end:
                return None
            self._at = end  # also when they are refused
            add_fields(head, self._parse_fields(self._buffer[at:end], head))
            self._remember_fields(head, at, end)
        self._at = end
        self._expect_body(head.content_length)
        self.response.begin(head)
        return head

    def _parse_fields(self, block: bytes, head: RequestHead) -> list[Field]:
        try:
            return self._fields_parser.parse(block)
        except FieldsRefused as refusal:
            # Each library refuses something that the rules name more exactly: then that counts.
            if are_clean_lines(block):
                add_fields(head, split_fields(block))
            raise ProtocolViolation(f"malformed fields: {refusal}") from None

    def _recall_fields(self, head: RequestHead, at: int) -> int:
        """Give a head the remembered fields if these are what comes, and return where they end; 0 if they are not."""
        if not self._block or head.is_http10 or head.authority is not None:
            return 0
        if not self._buffer.startswith(self._block, at):
            return 0
        head.fields = self._fields[:]
        return at + len(self._block)

    def _remember_fields(self, head: RequestHead, at: int, end: int) -> None:
        """Remember the fields of a head, which are from `at` to `end`, if they say nothing but what is usual."""
        is_usual = head.keep_alive and head.content_length == 0 and not head.is_http10 and head.authority is None
        if is_usual and head.protocol is None and end - at <= _REMEMBERED_BYTES:
            self._block = self._buffer[at:end]
            self._fields = head.fields.copy()

    def _expect_body(self, length: int | None) -> None:
        if length == 0:
            self._complete()
        elif length is None:
            self._chunked = ChunkedBody(self._limits, self._fields_parser)
            self._reading = _CHUNKED
        elif length > (self._limits.body_bytes or length):
            raise ProtocolViolation(f"the request body is larger than {self._limits.body_bytes} bytes", status=413)
        else:
            self._left = length
            self._reading = _BODY

    def _complete(self) -> None:
        self._reading = _COMPLETE
        self.is_complete = True

    def _read_body(self) -> BodyData:
        buffer, at = self._buffer, self._at
        data = buffer[at : at + min(self._left, len(buffer) - at)]
        self._at = at + len(data)
        self._left -= len(data)
        if not self._left:
            self._complete()
        return BodyData(data, is_last=not self._left)

    def _read_chunked(self) -> BodyData | None:
        assert self._chunked is not None
        event = self._chunked.next_event(self._buffer, self._at)
        self._at = self._chunked.consumed
        if event is not None and event.is_last:
            self._chunked = None
            self._complete()
        return event
