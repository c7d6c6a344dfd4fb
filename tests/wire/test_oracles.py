"""Whatever request the wire accepts, httptools and h11 accept too, and read the same in it (see oracles.py)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from .corpus import ValidCase, valid_cases
from .generated import broken, conversations
from .oracles import assert_same, read_with_h11, read_with_httptools
from .peer import PARSERS, Message, Peer, new_wire

_octets = conversations().map(lambda conversation: conversation[0])


def _accepted(parser: str, data: bytes) -> list[tuple[bytes, Message]]:
    """Return the messages that the wire accepts, each with its bytes."""
    peer = Peer(new_wire(parser))
    peer.deliver(data)
    starts = [0, *peer.ends]
    return [
        (data[start:end], message)
        for start, end, message in zip(starts, peer.ends, peer.transcript.complete, strict=False)
    ]


def _compare(parser: str, data: bytes) -> None:
    for octets, message in _accepted(parser, data):
        assert_same(message, read_with_h11(octets))
        reading = read_with_httptools(octets)
        if reading is not None:
            assert_same(message, reading)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in valid_cases()])
def test_the_libraries_read_the_corpus_as_the_wire_does(case: ValidCase, parser: str) -> None:
    _compare(parser, case.data)


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: a"])
def test_the_libraries_accept_the_trailers_that_the_wire_accepts(trailer: bytes, parser: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    _compare(parser, head + b"0\r\n" + trailer + b"\r\n\r\n")


@settings(max_examples=300, deadline=None)
@given(_octets)
def test_the_libraries_read_valid_requests_as_the_wire_does(data: bytes) -> None:
    for parser in PARSERS:
        _compare(parser, data)


@settings(max_examples=600, deadline=None)
@given(broken(_octets))
def test_the_libraries_read_whatever_the_wire_accepts_of_broken_requests_as_it_does(data: bytes) -> None:
    for parser in PARSERS:
        _compare(parser, data)
