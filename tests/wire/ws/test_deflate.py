"""permessage-deflate: what is agreed on, and what the two sides make of it."""

from __future__ import annotations

import zlib

import pytest

from fastserve.errors import WebSocketViolation
from fastserve.wire.ws.deflate import MOST_STREAMS, Deflater, Deflating, Inflater, negotiate

Params = list[tuple[str, str | None]]
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"


@pytest.mark.parametrize(
    ("params", "answer"),
    [
        ([], b"permessage-deflate"),
        ([(CLIENT_BITS, None)], b"permessage-deflate; client_max_window_bits=12"),
        ([(CLIENT_BITS, "15")], b"permessage-deflate; client_max_window_bits=12"),
        ([(CLIENT_BITS, "8")], b"permessage-deflate; client_max_window_bits=8"),
        ([(SERVER_BITS, "15")], b"permessage-deflate; server_max_window_bits=12"),
        ([(SERVER_BITS, "9")], b"permessage-deflate; server_max_window_bits=9"),
        ([("server_no_context_takeover", None)], b"permessage-deflate; server_no_context_takeover"),
        ([("client_no_context_takeover", None)], b"permessage-deflate; client_no_context_takeover"),
    ],
)
def test_an_offer_is_answered_with_what_holds(params: Params, answer: bytes) -> None:
    agreed = negotiate(params)
    assert agreed is not None
    assert agreed.answer() == answer


@pytest.mark.parametrize(
    "params",
    [
        [("unknown", None)],
        [(SERVER_BITS, None)],
        [(SERVER_BITS, "8")],
        [(SERVER_BITS, "16")],
        [(SERVER_BITS, "012")],
        [(SERVER_BITS, "\u0661\u0662")],
        [(CLIENT_BITS, "7")],
        [(CLIENT_BITS, "x")],
        [(CLIENT_BITS, "10"), (CLIENT_BITS, "10")],
        [("server_no_context_takeover", "1")],
        [("client_no_context_takeover", "1")],
    ],
    ids=repr,
)
def test_an_offer_that_cannot_be_met_is_declined(params: Params) -> None:
    assert negotiate(params) is None


def inflate(inflating: zlib._Decompress, data: bytes) -> bytes:
    return inflating.decompress(data + b"\0\0\xff\xff")


@pytest.mark.parametrize("forgets", [False, True])
def test_a_client_with_the_agreed_window_can_read_what_is_sent(forgets: bool) -> None:
    deflater = Deflater(Deflating(server_bits=9, server_forgets=forgets))
    content = bytes(range(256)) * 40
    one, two = deflater.deflate(content), deflater.deflate(content)
    inflating = zlib.decompressobj(-9)
    assert inflate(inflating, one) == content
    assert inflate(zlib.decompressobj(-9) if forgets else inflating, two) == content
    assert not one.endswith(b"\0\0\xff\xff")


def test_only_a_side_that_forgets_sends_the_same_twice() -> None:
    for forgets in (False, True):
        deflater = Deflater(Deflating(server_forgets=forgets))
        assert (deflater.deflate(b"message" * 9) == deflater.deflate(b"message" * 9)) is forgets


@pytest.mark.parametrize("bits", [8, 9, 12, 15])
def test_messages_that_refer_to_the_one_before_are_read(bits: int) -> None:
    squeezer = zlib.compressobj(wbits=-max(bits, 9))
    inflater = Inflater(Deflating(client_bits=bits))
    for _ in range(3):
        data = squeezer.compress(b"the same again") + squeezer.flush(zlib.Z_SYNC_FLUSH)
        assert inflater.inflate(data[:-4], True, 100) == b"the same again"


def test_a_message_may_end_in_a_final_block() -> None:
    # RFC 7692 §7.2.3.4
    inflater = Inflater(Deflating())
    assert inflater.inflate(bytes.fromhex("f348cdc9c9070000"), True, 100) == b"Hello"
    assert inflater.inflate(bytes.fromhex("f248cdc9c90700"), True, 100) == b"Hello"


def test_a_message_may_consist_of_several_blocks() -> None:
    # RFC 7692 §7.2.3.5
    assert Inflater(Deflating()).inflate(bytes.fromhex("f248050000 00ffffcac9c90700"), True, 100) == b"Hello"


HELLO_IN_A_FINAL_BLOCK = bytes.fromhex("f348cdc9c90700")


@pytest.mark.parametrize("pieces", [1, MOST_STREAMS - 1])
def test_a_message_may_have_some_final_blocks_each_in_one_piece_or_in_many(pieces: int) -> None:
    inflater = Inflater(Deflating())
    content = HELLO_IN_A_FINAL_BLOCK * (MOST_STREAMS - 1)
    size = len(content) // pieces
    for _ in range(3):
        parts = [inflater.inflate(content[at : at + size], False, 1000) for at in range(0, len(content), size)]
        parts.append(inflater.inflate(b"\0", True, 1000))
        assert b"".join(part or b"" for part in parts) == b"Hello" * (MOST_STREAMS - 1)


@pytest.mark.parametrize("pieces", [1, MOST_STREAMS])
def test_a_message_of_more_final_blocks_is_refused(pieces: int) -> None:
    inflater = Inflater(Deflating())
    for _ in range(pieces - 1):
        assert inflater.inflate(b"\x03\x00", False, 1000) == b""
    with pytest.raises(WebSocketViolation) as caught:
        inflater.inflate(b"\x03\x00" * (MOST_STREAMS + 2 - pieces), False, 1000)
    assert caught.value.code == 1007


def test_more_than_there_is_room_for_is_not_returned() -> None:
    data = Deflater(Deflating()).deflate(b"x" * 100)
    assert Inflater(Deflating()).inflate(data, True, 100) == b"x" * 100
    assert Inflater(Deflating()).inflate(data, True, 99) is None


def test_what_is_not_compressed_is_bad_data() -> None:
    with pytest.raises(WebSocketViolation) as caught:
        Inflater(Deflating()).inflate(b"\xff\xff", True, 100)
    assert caught.value.code == 1007
