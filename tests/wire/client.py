"""The client's side of responses: the requests that are answered, and two readers of what comes back.

`Answer` takes a response apart without judging it; `read_with_h11` has h11 read it, which judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11

from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.response import ResponseDefaults, ResponseEncoder


def a_request(method: str = "GET", *, version: str = "1.1", keep_alive: bool = True) -> RequestHead:
    """Return the head of a request to answer."""
    return RequestHead(method, b"/", b"", version, None, [], keep_alive=keep_alive)


def new_encoder(head: RequestHead | None, defaults: ResponseDefaults | None = None) -> ResponseEncoder:
    """Return an encoder for the response to this request, without default fields unless some are given."""
    encoder = ResponseEncoder(defaults or ResponseDefaults(server=None, date=False))
    encoder.begin(head)
    return encoder


def encode(
    encoder: ResponseEncoder, status: int, fields: Iterable[Field] = (), body: Sequence[bytes] = (b"",)
) -> bytes:
    """Return all the bytes of a response, its body given in these parts."""
    encoder.start(status, fields)
    *parts, last = body
    encoded = [piece for part in parts for piece in encoder.encode_body(part, last=False)]
    return b"".join([*encoded, *encoder.encode_body(last, last=True)])


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it is on the wire, its names in lower case."""

    status_line: bytes
    fields: list[Field]
    content: bytes

    @classmethod
    def of(cls, data: bytes) -> Answer:
        """Take a response apart."""
        head, end, content = data.partition(b"\r\n\r\n")
        assert end
        status_line, *lines = head.split(b"\r\n")
        pairs = [line.split(b": ", 1) for line in lines]
        return cls(status_line, [(name.lower(), value) for name, value in pairs], content)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all fields of this name."""
        return [value for each, value in self.fields if each == name]


@dataclass(frozen=True, slots=True)
class Received:
    """A response as h11 reads it. can_continue: another request may follow on the connection."""

    status: int
    fields: list[Field]
    body: bytes
    can_continue: bool


def read_with_h11(method: str, data: bytes, *, closes: bool = False) -> Received:
    """Return the response to a request of this method, behind which the server closes, or does not.

    Raises:
        h11.RemoteProtocolError: it is none.
    """
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if closes:
        connection.receive_data(b"")
    response = connection.next_event()
    assert isinstance(response, h11.Response), response
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert connection.trailing_data[0] == b"", "bytes behind the response"
    return Received(response.status_code, list(response.headers), body, connection.their_state is h11.DONE)
