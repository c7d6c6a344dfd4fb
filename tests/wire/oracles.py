"""httptools and h11 as whole parsers, to compare the wire with: each reads the original bytes of one request.

Where a library is known to differ, and is meant to, it says so here and in no other place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11
import httptools

from fastserve.wire.events import Field

from .peer import Message

# llhttp knows a list of methods; the wire takes any token.
_METHODS_OF_LLHTTP = re.compile(
    rb"(?:DELETE|GET|HEAD|POST|PUT|OPTIONS|TRACE|COPY|LOCK|MKCOL|MOVE|PROPFIND|PROPPATCH|SEARCH|UNLOCK|BIND|REBIND"
    rb"|UNBIND|ACL|REPORT|MKACTIVITY|CHECKOUT|MERGE|M-SEARCH|NOTIFY|SUBSCRIBE|UNSUBSCRIBE|PATCH|PURGE|MKCALENDAR"
    rb"|LINK|UNLINK) "
)
# llhttp refuses minor versions above 1; the wire serves them as 1.1.
_HIGHER_MINOR_VERSION = re.compile(rb"[^\r]* HTTP/1\.[2-9]\r\n")
# llhttp takes a tab behind "chunked" for a part of it; RFC 9110 §5.5 has it trimmed.
_TAB_BEHIND_CHUNKED = re.compile(rb"transfer-encoding:[ \t]*chunked *\t", re.IGNORECASE)


@dataclass(slots=True)
class Reading:
    """What a library read. body: None when it stopped before."""

    method: bytes = b""
    target: bytes = b""
    fields: list[Field] = field(default_factory=list)
    body: bytes | None = b""
    is_complete: bool = False


def read_with_httptools(data: bytes) -> Reading | None:
    """Return what httptools reads, None where it is known to refuse what the wire accepts.

    Raises:
        httptools.HttpParserError: it refuses.
    """
    data = data.removeprefix(b"\r\n")
    if not _METHODS_OF_LLHTTP.match(data):
        return None
    if _HIGHER_MINOR_VERSION.match(data) or _TAB_BEHIND_CHUNKED.search(data):
        return None
    callbacks = _Callbacks()
    parser = httptools.HttpRequestParser(callbacks)
    reading = callbacks.reading
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        reading.body = None  # It stops at an Upgrade; the wire reads on.
    reading.method = parser.get_method()
    return reading


class _Callbacks:
    """Notes what httptools reports. It reports trailers like headers."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._head_is_complete = False

    def on_url(self, url: bytes) -> None:
        self.reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_complete:
            self.reading.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._head_is_complete = True

    def on_body(self, body: bytes) -> None:
        assert self.reading.body is not None
        self.reading.body += body

    def on_message_complete(self) -> None:
        self.reading.is_complete = True


def read_with_h11(data: bytes) -> Reading:
    """Return what h11 reads.

    Raises:
        h11.RemoteProtocolError: it refuses.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 1)
    # h11 refuses an empty line before a request, which the wire skips.
    connection.receive_data(data.removeprefix(b"\r\n"))
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    reading = Reading(request.method, request.target, list(request.headers))
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    reading.body = body
    reading.is_complete = isinstance(event, h11.EndOfMessage)
    return reading


def assert_same(message: Message, reading: Reading) -> None:
    """Fail unless the library read what the wire did."""
    head = message.head
    assert reading.is_complete
    assert reading.method == head.method.encode()
    assert reading.body is None or reading.body == message.body
    target = reading.target
    fields = list(reading.fields)
    if head.authority is not None:
        # The wire takes an absolute target apart, and its authority stands for Host.
        _, _, target = target.partition(b"://")
        assert target.startswith(head.authority)
        target = target.removeprefix(head.authority)
        fields = [(b"host", head.authority), *(each for each in fields if each[0] != b"host")]
        if not target:
            target = b"*" if head.method == "OPTIONS" else b"/"
        elif target.startswith(b"?"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    assert (path, query) == (head.raw_path, head.query)
    assert list(map(_comparable, fields)) == list(map(_comparable, head.fields))


def _comparable(field: Field) -> Field:
    """Return the field as h11 changes it: it makes the names of transfer codings lower-case."""
    name, value = field
    return (name, value.lower() if name == b"transfer-encoding" else value)
