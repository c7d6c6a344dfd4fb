"""The other end of a wire: it delivers bytes in any pieces and writes down what the wire made of them.

What it writes down, a Transcript, is in normal form: the parts of a body are joined, so that transcripts of the same
bytes in different pieces are equal, unless the wire is wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from fastserve.errors import ProtocolViolation
from fastserve.settings import RequestLimits
from fastserve.wire.events import Event, Field, RequestHead
from fastserve.wire.http1.head import HeadReader
from fastserve.wire.http1.parsers import fields_parser
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults

PARSERS = ("httptools", "h11", "own reader")
"""Values of `--http`; the last one is what "auto" stands for in a compiled build."""
NO_LIMITS_REACHED = RequestLimits()


class Ending(enum.Enum):
    """How it stands when all bytes are delivered and none was refused."""

    IDLE = "between two requests"
    INCOMPLETE = "in the middle of a request"
    LAST = "behind the last request"  # nothing behind it was read


@dataclass(frozen=True, slots=True)
class Message:
    """A request as the wire reported it. Without is_complete, `body` is as much of it as was reported."""

    head: RequestHead
    body: bytes = b""
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a wire made of the bytes that it got.

    ending: or the status of the refusal. unread: how many bytes stayed behind the last request.
    """

    messages: tuple[Message, ...]
    ending: Ending | int
    unread: int = 0

    @property
    def complete(self) -> list[Message]:
        """The messages that came to their end."""
        return [message for message in self.messages if message.is_complete]


@dataclass(slots=True)
class Peer:
    """Talks to one wire.

    It starts the next request as soon as one is complete, as a connection does that answers at once, and not behind a
    request that asks to close. refusal: what the wire raised. ends: how many bytes each complete message took, counted
    from the first byte of all.
    """

    wire: Http1
    messages: list[Message] = field(default_factory=list)
    refusal: ProtocolViolation | None = None
    delivered: int = 0
    ends: list[int] = field(default_factory=list)

    def deliver(self, data: bytes) -> None:
        """Give the wire these bytes, unless it has refused earlier ones."""
        if self.refusal is None:
            self.delivered += len(data)
            self.wire.receive_data(data)
            self._pull()

    def close(self) -> None:
        """Send the end of file."""
        if self.refusal is None:
            self.wire.receive_eof()
            self._pull()

    @property
    def transcript(self) -> Transcript:
        """What has happened up to now."""
        messages = tuple(self.messages)
        if self.refusal is not None:
            return Transcript(messages, self.refusal.status)
        if self.wire.is_complete:
            return Transcript(messages, Ending.LAST, self.wire.count_unread())
        return Transcript(messages, Ending.IDLE if self.wire.is_idle() else Ending.INCOMPLETE)

    def _pull(self) -> None:
        try:
            while (event := self.wire.next_event()) is not None:
                self._note(event)
                if self.wire.is_complete:
                    assert self.wire.next_event() is None, "an event behind the end of a message"
                    self.ends.append(self.delivered - self.wire.count_unread())
                    if not self.messages[-1].head.keep_alive:
                        return
                    self.wire.start_next_message()
        except ProtocolViolation as violation:
            self.refusal = violation

    def _note(self, event: Event) -> None:
        if isinstance(event, RequestHead):
            assert self.wire.is_complete is not event.has_body()
            self.messages.append(Message(event, is_complete=not event.has_body()))
        else:
            assert self.wire.is_complete is event.is_last
            assert event.data or event.is_last, "an event without news"
            open_message = self.messages.pop()
            assert not open_message.is_complete
            self.messages.append(Message(open_message.head, open_message.body + event.data, event.is_last))


def new_wire(parser: str, limits: RequestLimits = NO_LIMITS_REACHED) -> Http1:
    """Return a wire as a worker makes it, with no default response fields."""
    reader = HeadReader(limits) if parser == "own reader" else None
    return Http1(fields_parser(parser), limits, ResponseDefaults(server=None, date=False), reader)


def read_pieces(
    parser: str, pieces: Iterable[bytes], *, limits: RequestLimits = NO_LIMITS_REACHED, eof: bool = False
) -> Transcript:
    """Return the transcript of a connection on which these pieces arrive, one after the other."""
    peer = Peer(new_wire(parser, limits))
    for piece in pieces:
        peer.deliver(piece)
    if eof:
        peer.close()
    return peer.transcript


def read(parser: str, data: bytes, *, limits: RequestLimits = NO_LIMITS_REACHED, eof: bool = False) -> Transcript:
    """Return the transcript of bytes that arrive at once."""
    return read_pieces(parser, [data], limits=limits, eof=eof)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces, cut at these places. None of the pieces is empty."""
    edges = sorted({0, len(data), *(place for place in places if 0 < place < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def cut_everywhere(data: bytes) -> list[bytes]:
    """Return the data byte by byte."""
    return cut(data, range(len(data)))


def cut_in_two(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data in two pieces, in every way there is."""
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]


def field_values(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """Return the values of all fields of this name."""
    return [value for each, value in fields if each == name]
