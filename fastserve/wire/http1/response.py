"""Responses as bytes (RFC 9112 §4, §6, §7): status lines, ready default fields, and the framing of the body."""

from __future__ import annotations

import enum
import http
import re
from collections.abc import Iterable
from email.utils import formatdate

from fastserve.errors import InvalidResponse, ProtocolViolation
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.grammar import TOKEN, VALUE_OCTETS
from fastserve.wire.http1.request import MAX_LENGTH

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_STATUS_LINES = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(1000)]
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n"
# Fields that are needed before the body, or say how to read it (RFC 9110 §6.5.1).
_NO_TRAILERS = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"host",
        b"keep-alive",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_is_name = re.compile(TOKEN).fullmatch
_OWN_OPTIONS = (b"close", b"keep-alive")
# How many fields are remembered in encoded form, and up to which length of their value.
_MOST_KNOWN = 1024
_LONGEST_KNOWN = 256
# Lengths whose lines are ready.
_LENGTHS_READY = 2048
_LENGTH_LINES = [b"content-length: %d\r\n" % length for length in range(_LENGTHS_READY)]


class Role(enum.IntEnum):
    """What a response field means to the encoder."""

    PLAIN = 0
    DEFAULT = 1  # stands in for a default field of the same name
    CONTENT_LENGTH = 2
    CONNECTION = 3
    TRANSFER_ENCODING = 4


class ResponseDefaults:
    """What the responses of one worker have in common, kept as ready bytes.

    server: value of the Server field, None for no such field. date: whether to send Date. fields: further fields for
    every response. An application that sets a field of the same name replaces the default.

    block: the default fields. known: valid fields that have been seen, encoded; a Content-Length as its number.
    """

    __slots__ = ("_date", "_fields", "_lines", "_roles", "block", "known")

    def __init__(self, *, server: bytes | None, date: bool, fields: Iterable[Field] = ()) -> None:
        own = list(fields)
        replaced = {name.lower() for name, _ in own}
        self._date = date and b"date" not in replaced
        if server is not None and b"server" not in replaced:
            own.insert(0, (b"server", server))
        self._fields = own
        self._roles = {name.lower(): Role.DEFAULT for name, _ in own}
        self._roles[b"date"] = Role.DEFAULT
        self._roles[b"content-length"] = Role.CONTENT_LENGTH
        self._roles[b"connection"] = Role.CONNECTION
        self._roles[b"transfer-encoding"] = Role.TRANSFER_ENCODING
        self.known: dict[Field, bytes | int] = {}
        self.block = b""
        self._lines: list[Field] = []

    def refresh(self, now: float) -> None:
        """Renew the Date field; `now` is in seconds since the epoch. The loop's tick calls this once a second."""
        fields = self._fields
        if self._date:
            fields = [(b"date", formatdate(now, usegmt=True).encode()), *fields]
        self._lines = [(name.lower(), b"%b: %b\r\n" % (name, value)) for name, value in fields]
        self.block = self.block_without(())

    def block_without(self, names: Iterable[bytes]) -> bytes:
        """Return the default fields except those that a response sets itself."""
        return b"".join([line for name, line in self._lines if name not in names])

    def role(self, name: bytes) -> Role:
        """Return what a field name, in lower case, means."""
        return self._roles.get(name, Role.PLAIN)

    def remember(self, field: Field, meaning: bytes | int) -> None:
        """Keep what a field became; it is likely to come again."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        self.known[field] = meaning


class BodyFraming(enum.IntEnum):
    """How the end of a response body is told (RFC 9112 §6.3)."""

    NONE = 0  # no body bytes: HEAD, 1xx, 204, 205, 304
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3  # HTTP/1.0 without a length: the body ends where the connection does


_NONE, _LENGTH, _CHUNKED, _CLOSE = BodyFraming


class ResponseEncoder:
    """Encodes the responses of one connection, one after the other.

    `start` takes the head and holds it back; the first `encode_body` lets it out together with the first part of the
    body. Until then another start may replace it, so that a failure can still become a clean 500.

    keep_alive: whether the connection may be used again after the response. It may be cleared from outside while the
    start is held.
    """

    __slots__ = (
        "_asks_to_close",
        "_declared",
        "_defaults",
        "_framing",
        "_head",
        "_held",
        "_left",
        "_replaced",
        "_status",
        "keep_alive",
    )

    def __init__(self, defaults: ResponseDefaults) -> None:
        self._defaults = defaults
        self._left = 0  # bytes of the body still to come, where its length is declared
        # The start that is held:
        self._status = 0
        self._held: list[bytes] | None = None
        self._declared: int | None = None
        self._asks_to_close = False
        self._replaced: set[bytes] | None = None
        self.begin(None)

    def begin(self, head: RequestHead | None) -> None:
        """Prepare to answer a request, or something that could not be read as one."""
        self._head = head
        self._held = None
        self._framing = _NONE
        self.keep_alive = head is not None and head.keep_alive

    def start(self, status: int, fields: Iterable[Field]) -> None:
        """Take the start of a response and hold it back.

        Raises:
            InvalidResponse: the status or a field is wrong. The start that was held before is lost.
        """
        self._declared = self._replaced = self._held = None
        self._asks_to_close = False
        lines = [_status_line(status), b""]
        self._status = status
        known = self._defaults.known
        try:
            for field in fields:
                line = known.get(field if isinstance(field, tuple) else tuple(field))
                if line is None:
                    name, value = field
                    line = self._encode_field(name, value)
                elif isinstance(line, int):
                    self._declare(line)
                    continue
                lines.append(line)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidResponse(f"response headers must be pairs of byte strings: {error}") from None
        self._held = lines

    def _encode_field(self, name: bytes, value: bytes) -> bytes:
        """Return the line of a field, b"" when the encoder writes the field itself."""
        lower = name.lower()
        role = self._defaults.role(lower)
        if role == Role.CONTENT_LENGTH:
            length = _parse_length(value)
            self._declare(length)
            if len(value) <= _LONGEST_KNOWN:
                self._defaults.remember((name, value), length)
            return b""
        line = _field_line(name, value)
        if role == Role.PLAIN:
            if len(line) <= _LONGEST_KNOWN:
                self._defaults.remember((name, value), line)
        elif role == Role.DEFAULT:
            self._replaced = {lower} if self._replaced is None else self._replaced | {lower}
        elif role == Role.CONNECTION:
            return self._merge_connection(value)
        else:
            return b""  # Transfer-Encoding is the server's to choose (ASGI, Response Start)
        return line

    def _declare(self, length: int) -> None:
        if self._declared is not None:
            raise InvalidResponse("more than one Content-Length")
        self._declared = length

    def _merge_connection(self, value: bytes) -> bytes:
        options = [option.strip(b" \t") for option in value.split(b",")]
        if b"close" in [option.lower() for option in options]:
            self._asks_to_close = True
        others = b", ".join([option for option in options if option.lower() not in _OWN_OPTIONS])
        return b"connection: %b\r\n" % others if others else b""

    def encode_body(self, body: bytes, last: bool) -> list[bytes]:
        """Return the next part of the body as it goes on the wire, the held start before it; `last` ends it.

        Raises:
            InvalidResponse: the body is longer or, with `last`, shorter than its Content-Length. A start that was held
                is still held.
        """
        if self._held is not None:
            parts = self._encode_head(self._held, len(body), last)
        else:
            parts = []
            if self._framing == _LENGTH:
                self._left = _left_after(self._left, len(body), last)
        if self._framing == _CHUNKED:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if last:
                parts.append(b"0\r\n\r\n")
        elif self._framing != _NONE:
            parts.append(body)
        return parts

    def _encode_head(self, lines: list[bytes], size: int, last: bool) -> list[bytes]:
        """Return the parts of the head that is held, which is let go. size: of the first part of the body."""
        framing_line = self._choose_framing(size, last)
        self._held = None
        lines[1] = self._defaults.block_without(self._replaced) if self._replaced else self._defaults.block
        if self._asks_to_close or self._framing == _CLOSE or self._status < 200:
            self.keep_alive = False
        if not self.keep_alive:
            end = b"connection: close\r\n\r\n"
        elif self._is_http10():
            end = b"connection: keep-alive\r\n\r\n"
        else:
            end = b"\r\n"
        lines.append(framing_line)
        lines.append(end)
        return lines

    def _choose_framing(self, size: int, last: bool) -> bytes:
        """Decide how the body ends and return the field line that says so."""
        status, declared = self._status, self._declared
        if status < 200 or status in (204, 205, 304) or (self._head is not None and self._head.method == "HEAD"):
            self._framing = _NONE
            return self._length_without_body(size, last)
        if declared is None and last:
            declared = size
        if declared is not None:
            self._left = _left_after(declared, size, last)
            self._framing = _LENGTH
            return _length_line(declared)
        if self._is_http10():
            self._framing = _CLOSE
            return b""
        self._framing = _CHUNKED
        return b"transfer-encoding: chunked\r\n"

    def _length_without_body(self, size: int, last: bool) -> bytes:
        """Return the Content-Length of a response that has no body, if it has one (RFC 9110 §8.6)."""
        if self._status < 200 or self._status == 204:
            return b""
        if self._status == 205:
            return b"content-length: 0\r\n"
        # HEAD and 304 tell what a GET would get: as declared, or as sent when the application sent it all.
        declared = self._declared
        if declared is None and size and last and self._status != 304:
            declared = size
        return b"" if declared is None else _length_line(declared)

    def _is_http10(self) -> bool:
        return self._head is not None and self._head.is_http10

    def declare_length(self, length: int) -> int:
        """Declare the length of the body, unless the start that is held has done so; return what is declared."""
        if self._declared is None:
            self._declared = length
        return self._declared

    def encode_around(self, size: int, last: bool) -> tuple[bytes, bytes]:
        """Return what goes before and after a part of the body that is sent by other means; see `encode_body`.

        Where `has_body` says that there is no body, that part is not to be sent.
        """
        parts = []
        if self._held is not None:
            parts = self._encode_head(self._held, size, last)
        elif self._framing == _LENGTH:
            self._left = _left_after(self._left, size, last)
        after = b""
        if self._framing == _CHUNKED:
            if size:
                parts.append(b"%x\r\n" % size)
                after = b"\r\n"
            if last:
                after += b"0\r\n\r\n"
        return b"".join(parts), after

    def has_body(self) -> bool:
        """Tell whether the response whose head was encoded last has a body."""
        return self._framing != _NONE

    def takes_trailers(self) -> bool:
        """Tell whether the client has said that it takes trailers (RFC 9110 §6.5.1)."""
        if self._head is None or self._is_http10():
            return False
        values = [value for name, value in self._head.fields if name == b"te"]
        return any(
            coding.partition(b";")[0].strip(b" \t").lower() == b"trailers"
            for value in values
            for coding in value.split(b",")
        )

    def encode_trailers(self, fields: Iterable[Field]) -> list[bytes]:
        """Return the end of a body that has trailers, if it is chunked; a body of another kind has just ended.

        Raises:
            InvalidResponse: a field is wrong, or the body is shorter than its Content-Length.
        """
        lines = []
        for name, value in fields:
            if name.lower() in _NO_TRAILERS:
                raise InvalidResponse(f"{name!r} cannot be a trailer")
            lines.append(_field_line(name, value))
        if self._framing == _LENGTH:
            self._left = _left_after(self._left, 0, True)
        return [b"0\r\n", *lines, b"\r\n"] if self._framing == _CHUNKED else []

    def encode_early_hint(self, links: Iterable[bytes]) -> bytes:
        """Return a 103 (Early Hints) response (RFC 8297); nothing for HTTP/1.0, which knows no interim responses.

        Raises:
            InvalidResponse: a link has a control character.
        """
        lines = [_field_line(b"link", link) for link in links]
        if not lines or self._head is None or self._is_http10():
            return b""
        return b"".join((_EARLY_HINTS, *lines, b"\r\n"))

    def encode_continue(self) -> bytes:
        """Return a 100 (Continue) response (RFC 9110 §15.2.1)."""
        return _CONTINUE

    def encode_switch(self, fields: Iterable[Field]) -> bytes:
        """Return the response after which the connection speaks the protocol of the request (RFC 9110 §15.2.2).

        Raises:
            InvalidResponse: a field is wrong.
        """
        assert self._head is not None
        assert self._head.protocol is not None
        self.start(101, fields)
        assert self._held is not None
        status_line, _, *lines = self._held
        self._held = None
        block = self._defaults.block_without(self._replaced or ())
        switch = b"upgrade: %b\r\nconnection: upgrade\r\n" % self._head.protocol
        return b"".join((status_line, block, switch, *lines, b"\r\n"))

    def encode_refusal(self, violation: ProtocolViolation, head: RequestHead | None) -> list[bytes]:
        """Return the response to a request that broke the protocol: complete, and the last of the connection.

        head: of the request, as far as it is known; HEAD is answered without a body.
        """
        self.begin(head)
        self.keep_alive = False
        self.start(violation.status, [(b"content-type", b"text/plain; charset=utf-8"), *violation.fields])
        return self.encode_body(violation.text, True)


def _field_line(name: bytes, value: bytes) -> bytes:
    # Every value on a line of its own, and nothing in it that ends a line early (CVE-2020-7695 in uvicorn).
    if not _is_name(name):
        raise InvalidResponse(f"invalid response header name {name!r}")
    if value.translate(None, VALUE_OCTETS):
        raise InvalidResponse(f"control character in the response header {name!r}: {value!r}")
    return b"%b: %b\r\n" % (name, value)


def _status_line(status: int) -> bytes:
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise InvalidResponse(f"invalid response status {status!r}")
    return _STATUS_LINES[status]


def _parse_length(value: bytes) -> int:
    if not isinstance(value, bytes) or not value.isdigit() or int(value) > MAX_LENGTH:
        raise InvalidResponse(f"invalid Content-Length {value!r}")
    return int(value)


def _length_line(length: int) -> bytes:
    return _LENGTH_LINES[length] if length < _LENGTHS_READY else b"content-length: %d\r\n" % length


def _left_after(left: int, size: int, last: bool) -> int:
    left -= size
    if left < 0:
        raise InvalidResponse(f"the response body is {-left} bytes longer than its Content-Length")
    if left and last:
        raise InvalidResponse(f"the response body is {left} bytes shorter than its Content-Length")
    return left
