"""What a wire tells its connection. These types cross the compiled boundary, so they are never compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Field: TypeAlias = tuple[bytes, bytes]
"""A header or trailer field: (name, value). Names that come from a wire are lower-case."""


@dataclass(slots=True)
class RequestHead:
    """A complete and valid request head.

    method: as received; methods are case-sensitive (RFC 9110 §9.1).
    raw_path: the path as received, still percent-encoded; b"*" for `OPTIONS *`.
    query: what follows the first "?", b"" when there is none.
    http_version: "1.0" or "1.1".
    authority: the host that an absolute-form target names, None for other forms.
    fields: in the order received, duplicates kept, names lower-case, values without surrounding whitespace.
    content_length: of the body in bytes, 0 when there is none, None when it is not known ahead.
    keep_alive: the client wants to use the connection again.
    expects_continue: it waits for a 100 (Continue) before it sends the body (RFC 9110 §10.1.1).
    """

    method: str
    raw_path: bytes
    query: bytes
    http_version: str
    authority: bytes | None
    fields: list[Field]
    content_length: int | None = 0
    keep_alive: bool = True
    expects_continue: bool = False

    @property
    def has_body(self) -> bool:
        """Whether BodyData events follow."""
        return self.content_length != 0


@dataclass(slots=True)
class BodyData:
    """The next bytes of the request body, with the transfer coding removed. The last event of a body says so."""

    data: bytes
    is_last: bool


Event: TypeAlias = RequestHead | BodyData
