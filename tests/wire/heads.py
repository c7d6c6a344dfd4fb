"""The proof of the head reader (wire/http1/head.py): whatever it takes, others take too and read the same in it.

Used by test_head.py, which runs with all tests, and by tests/fuzz/head.py, which runs for as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastserve.settings import RequestLimits
from fastserve.wire.events import Event, Field, RequestHead
from fastserve.wire.http1.head import HeadReader
from fastserve.wire.http1.parsers import fields_parser
from fastserve.wire.http1.protocol import Http1
from fastserve.wire.http1.response import ResponseDefaults

from .oracles import assert_same, read_with_h11, read_with_httptools
from .peer import NO_LIMITS_REACHED, Message, Peer, cut_everywhere, cut_in_two, read_pieces

_LIBRARIES = ("httptools", "h11")


@dataclass(frozen=True, slots=True)
class Taken:
    """A message whose head no library was asked about, with its bytes; None when they have not all come."""

    message: Message
    octets: bytes | None


class _Asked:
    """The adapter of httptools, which counts how often it is asked."""

    name = "httptools"

    def __init__(self) -> None:
        self._adapter = fields_parser(self.name)
        self.count = 0

    def parse(self, block: bytes) -> list[Field]:
        self.count += 1
        return self._adapter.parse(block)


class _Watching(Peer):
    """A peer that notes which heads came without a library."""

    def __init__(self, limits: RequestLimits) -> None:
        self._library = _Asked()
        self._count = 0
        self.is_by_reader: list[bool] = []
        defaults = ResponseDefaults(server=None, date=False)
        super().__init__(Http1(self._library, limits, defaults, HeadReader(limits)))

    def _note(self, event: Event) -> None:
        if isinstance(event, RequestHead):
            self.is_by_reader.append(self._library.count == self._count)
        self._count = self._library.count  # Trailers ask it too.
        super()._note(event)


def taken(data: bytes, limits: RequestLimits = NO_LIMITS_REACHED) -> list[Taken]:
    """Return the messages whose heads the reader takes of bytes that arrive at once."""
    peer = _Watching(limits)
    peer.deliver(data)
    octets: list[bytes | None] = [data[start:end] for start, end in zip([0, *peer.ends], peer.ends, strict=False)]
    octets += [None] * (len(peer.messages) - len(octets))
    found = zip(peer.messages, octets, peer.is_by_reader, strict=True)
    return [Taken(message, its_octets) for message, its_octets, is_by_reader in found if is_by_reader]


def check(data: bytes, limits: RequestLimits = NO_LIMITS_REACHED, *, cuts: Iterable[list[bytes]] = ()) -> int:
    """Fail unless the reader is right about this data, and return how many heads it took.

    With the reader, and in whatever pieces, the wire comes to the same messages, the same refusal and the same unread
    rest as without it, with either library; and what the reader took, the libraries read alike from the original
    bytes. cuts: further ways to cut the data, besides whole.
    """
    expected = read_pieces(_LIBRARIES[0], [data], limits=limits)
    assert read_pieces(_LIBRARIES[1], [data], limits=limits) == expected
    for pieces in ([data], *cuts):
        assert read_pieces("own reader", pieces, limits=limits) == expected
    by_reader = taken(data, limits)
    for each in by_reader:
        if each.octets is not None:
            _compare(each.message, each.octets)
    return len(by_reader)


def _compare(message: Message, octets: bytes) -> None:
    assert_same(message, read_with_h11(octets))
    reading = read_with_httptools(octets)
    if reading is not None:
        assert_same(message, reading)


def all_cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data byte by byte, and in any two pieces."""
    yield cut_everywhere(data)
    yield from cut_in_two(data)
