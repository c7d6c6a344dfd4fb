"""What a wire tells its connection."""

from __future__ import annotations

from typing import TypeAlias

Field: TypeAlias = tuple[bytes, bytes]
"""A header or trailer field: (name, value). Names that come from a wire are lower-case."""


class RequestHead:
    """A complete and valid request head.

    method: as received; methods are case-sensitive (RFC 9110 §9.1).
    raw_path: the path as received, still percent-encoded; b"*" for `OPTIONS *`.
    query: what follows the first "?", b"" when there is none.
    http_version: "1.0" or "1.1". is_http10: it is the former, which is asked several times for each request.
    authority: the host that an absolute-form target names, None for other forms.
    fields: in the order received, duplicates kept, names lower-case, values without surrounding whitespace.
    content_length: of the body in bytes, 0 when there is none, None when it is not known ahead.
    keep_alive: the client wants to use the connection again.
    expects_continue: it waits for a 100 (Continue) before it sends the body (RFC 9110 §10.1.1).
    protocol: what it would rather speak from now on, in lower case (RFC 9110 §7.8); None when it does not say.
    """

    __slots__ = (
        "authority",
        "content_length",
        "expects_continue",
        "fields",
        "http_version",
        "is_http10",
        "keep_alive",
        "method",
        "protocol",
        "query",
        "raw_path",
    )

    fields: list[Field]
    content_length: int | None
    protocol: bytes | None

    def __init__(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        http_version: str,
        authority: bytes | None,
        fields: list[Field],
        content_length: int | None = 0,
        keep_alive: bool = True,
        expects_continue: bool = False,
        protocol: bytes | None = None,
    ) -> None:
        self.begin(method, raw_path, query, http_version, authority)
        self.fields = fields
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.protocol = protocol

    def begin(self, method: str, raw_path: bytes, query: bytes, http_version: str, authority: bytes | None) -> None:
        """Be made from a request line, with the fields still to come; `__init__` takes longer to call when compiled."""
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.http_version = http_version
        self.is_http10 = http_version == "1.0"
        self.authority = authority
        self.fields = []
        self.content_length = 0
        self.keep_alive = True
        self.expects_continue = False
        self.protocol = None

    def has_body(self) -> bool:
        """Tell whether BodyData events follow."""
        return self.content_length != 0

    __hash__ = None  # type: ignore[assignment]  # It may be changed.

    def _key(self) -> tuple[object, ...]:
        return (
            self.method,
            self.raw_path,
            self.query,
            self.http_version,
            self.authority,
            self.fields,
            self.content_length,
            self.keep_alive,
            self.expects_continue,
            self.protocol,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestHead) and self._key() == other._key()

    def __repr__(self) -> str:
        return f"RequestHead{self._key()!r}"


class BodyData:
    """The next bytes of the request body, with the transfer coding removed. The last event of a body says so."""

    __slots__ = ("data", "is_last")

    def __init__(self, data: bytes, is_last: bool) -> None:
        self.data = data
        self.is_last = is_last

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BodyData) and self.data == other.data and self.is_last == other.is_last

    def __repr__(self) -> str:
        return f"BodyData({self.data!r}, is_last={self.is_last})"


Event: TypeAlias = RequestHead | BodyData
