"""Reading the heads that ordinary clients send, in one pass (RFC 9112 §3, §5).

This is compiled, and then several times as fast as a parser library with callbacks. It knows the plain forms only: a
whole head, a target in origin form, fields that need no judgement. Whatever else comes is not its business: it says so,
and the general way (protocol.py) reads the message from its start, and refuses it if it is wrong. So nothing is
accepted here that would be refused there, and nothing is read differently.
"""

from __future__ import annotations

from fastserve.settings import RequestLimits
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.grammar import METHODS, TOKEN_OCTETS, VALUE_OCTETS
from fastserve.wire.http1.request import is_host

# For each octet: what it is in a field name, made lower-case; 0 for one that cannot be in a name (RFC 9110 §5.1).
_NAME_OCTETS = bytes(bytes([octet]).lower()[0] if octet in TOKEN_OCTETS else 0 for octet in range(256))
# 1 for each octet of a target: printable ASCII without "#". 2 for "?".
_TARGET_OCTETS = bytes(2 if octet == 0x3F else int(0x21 <= octet <= 0x7E and octet != 0x23) for octet in range(256))
# 1 for each octet of a field value.
_VALUE_OCTETS = bytes(int(octet in VALUE_OCTETS) for octet in range(256))

_SP = 0x20
_HTAB = 0x09
_CR = 0x0D
_LF = 0x0A
_COLON = 0x3A
_SLASH = 0x2F
_QUERY = 2

_METHODS = METHODS
_GET = "GET"
_GET_BYTES = b"GET "
_VERSION_BYTES = 10
# A length with more digits is left to the general way.
_MOST_DIGITS = 15
# Field names are kept, one for each hash, so that a common one is not made anew for each request.
_NAMES_KEPT = 512
_LONGEST_KEPT = 40


class HeadReader:
    """Reads heads, one after the other, that are there as a whole.

    end: where in the buffer that ends which was read last.
    """

    __slots__ = (
        "_coding",
        "_connection",
        "_host",
        "_length",
        "_line_bytes",
        "_max_bytes",
        "_max_fields",
        "end",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self._line_bytes = limits.line_bytes
        self._max_bytes = limits.head_bytes
        self._max_fields = limits.fields
        # Of the fields that mean something to us, the values in the head at hand:
        self._host: bytes | None = None
        self._length: bytes | None = None
        self._coding: bytes | None = None
        self._connection: bytes | None = None
        self.end = 0

    def read_line(self, buffer: bytes, at: int) -> RequestHead | None:
        """Return the head that the request line at buffer[at] begins, without fields; None when it is not plain."""
        data, names, targets = buffer, _NAME_OCTETS, _TARGET_OCTETS
        size = min(len(buffer), at + self._line_bytes + 2)
        end = at
        while end < size and names[data[end]]:
            end += 1
        if end + 1 >= size or data[end] != _SP or data[end + 1] != _SLASH:
            return None
        method = _GET if buffer.startswith(_GET_BYTES, at) else _METHODS.get(data[at:end])
        if method is None:
            return None
        begin = end + 1
        end = begin
        while end < size and targets[data[end]] == 1:
            end += 1
        path = data[begin:end]
        query = b""
        if end < size and targets[data[end]] == _QUERY:
            begin = end + 1
            end = begin
            while end < size and targets[data[end]]:
                end += 1
            query = data[begin:end]
        if end + _VERSION_BYTES >= size or data[end] != _SP:
            return None
        end += 1
        self.end = end + _VERSION_BYTES
        if buffer.startswith(b"HTTP/1.1\r\n", end):
            version = "1.1"
        elif buffer.startswith(b"HTTP/1.0\r\n", end):
            version = "1.0"
        else:
            return None
        head = RequestHead.__new__(RequestHead)
        head.begin(method, path, query, version, None)
        return head

    def read_fields(self, head: RequestHead, buffer: bytes, at: int) -> bool:  # noqa: C901 - one pass, in one place
        """Add the field section at buffer[at] to a head, and tell whether that was possible: it is whole and plain."""
        data, names, values = buffer, _NAME_OCTETS, _VALUE_OCTETS
        size = min(len(buffer), at + self._max_bytes)
        fields: list[Field] = []
        self._host = self._length = self._coding = self._connection = None
        count = 0
        end = at
        while True:
            if end + 1 >= size:
                return False
            if data[end] == _CR:
                break
            begin = end
            first = names[data[end]]
            number = 0
            while end < size and names[data[end]]:
                number = (number * 31 + names[data[end]]) & 0xFFFF
                end += 1
            if end == begin or end >= size or data[end] != _COLON:
                return False
            name = _field_name(buffer, begin, end, number)
            end += 1
            while end < size and (data[end] == _SP or data[end] == _HTAB):
                end += 1
            begin = end
            while end < size and values[data[end]]:
                end += 1
            if end + 1 >= size or data[end] != _CR or data[end + 1] != _LF:
                return False
            last = end
            while last > begin and (data[last - 1] == _SP or data[last - 1] == _HTAB):
                last -= 1
            value = data[begin:last]
            end += 2
            count += 1
            if count > self._max_fields:
                return False
            fields.append((name, value))
            if _MEANT_FIRST[first] and name in _MEANT and not self._note(name, value):
                return False
        if data[end + 1] != _LF:
            return False
        self.end = end + 2
        head.fields = fields
        return self._understand(head)

    def _note(self, name: bytes, value: bytes) -> bool:
        """Keep a field that means something to us, and tell whether it is the only one of its name."""
        if name == b"host" and self._host is None:
            self._host = value
        elif name == b"content-length" and self._length is None:
            self._length = value
        elif name == b"connection" and self._connection is None:
            self._connection = value
        elif name == b"transfer-encoding" and self._coding is None:
            self._coding = value
        else:
            return False  # Expect is not plain either.
        return True

    def _understand(self, head: RequestHead) -> bool:
        """Complete a head with what its fields declare, and tell whether that is plain."""
        if self._host is None or not is_host(self._host):
            return False
        head.keep_alive = not head.is_http10
        if self._connection is not None and not _read_connection(head, self._connection.lower()):
            return False
        if self._coding is not None:
            head.content_length = None
            return self._coding == b"chunked" and self._length is None and not head.is_http10
        if self._length is not None:
            if not self._length.isdigit() or len(self._length) > _MOST_DIGITS:
                return False
            head.content_length = int(self._length)
        return True


def _read_connection(head: RequestHead, option: bytes) -> bool:
    head.keep_alive = option == b"keep-alive"
    return head.keep_alive or option == b"close"


_MEANT = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))
_MEANT_FIRST = bytes(any(name[0] == octet for name in _MEANT) for octet in range(256))


_names: list[bytes] = [b""] * _NAMES_KEPT


def _field_name(buffer: bytes, begin: int, end: int, number: int) -> bytes:
    """Return the name in lower case. number: its hash."""
    data, names = buffer, _NAME_OCTETS
    place = number % _NAMES_KEPT
    known = kept = _names[place]
    size = end - begin
    if len(known) == size:
        index = 0
        while index < size and kept[index] == names[data[begin + index]]:
            index += 1
        if index == size:
            return known
    name = data[begin:end].lower()
    if size <= _LONGEST_KEPT:
        _names[place] = name
    return name
