"""Field sections read by h11."""

from __future__ import annotations

import h11

from fastserve.errors import FieldsRefused
from fastserve.wire.events import Field
from fastserve.wire.http1.fields import are_clean_lines, split_fields

# HTTP/1.0, because the rule that HTTP/1.1 needs a Host is applied once for all libraries, and not to trailers.
_REQUEST_LINE = b"POST / HTTP/1.0\r\n"


class H11Fields:
    """The adapter of h11.

    h11 unfolds lines and takes bare LF and some controls, so that is checked before. And it merges equal Content-Length
    fields and lists, which the rule against those could then no longer see; so it judges, and the fields are taken from
    the lines that it accepted.
    """

    name = "h11"
    __slots__ = ()

    def parse(self, block: bytes) -> list[Field]:
        """See FieldsParser."""
        if not are_clean_lines(block):
            raise FieldsRefused("invalid octet or line end")
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(block) + len(_REQUEST_LINE))
        parser.receive_data(_REQUEST_LINE + block)
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise FieldsRefused(str(error)) from None
        if not isinstance(event, h11.Request):
            raise FieldsRefused("incomplete field section")
        return split_fields(block)
