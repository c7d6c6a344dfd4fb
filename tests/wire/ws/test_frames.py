"""Frames, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.wire.ws.events import NO_CODE
from fastserve.wire.ws.frames import FIN, Opcode, _unmask_each, encode_close, encode_pong, frame_head, is_code, unmask
from tests.wire.ws.client import frames, mask


@given(data=st.binary(max_size=300), begin=st.integers(0, 20), key=st.binary(min_size=4, max_size=4))
def test_unmasking_is_that_of_the_rfc(data: bytes, begin: int, key: bytes) -> None:
    begin = min(begin, len(data))
    expected = mask(data[begin:], key)
    assert unmask(data, begin, len(data) - begin, key) == expected
    assert _unmask_each(data, begin, len(data) - begin, key) == expected


def test_unmasking_leaves_shared_objects_alone() -> None:
    for size in range(3):
        unmask(b"\xff" * 10, 0, size, b"\x01\x02\x03\x04")
    assert bytes(1) == b"\0"
    assert [bytes((octet,))[0] for octet in range(256)] == list(range(256))


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (65535, b"\x7e\xff\xff"),
        (65536, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION])
def test_a_length_is_written_in_its_shortest_form(opcode: Opcode, size: int, head: bytes) -> None:
    assert frame_head(FIN | opcode, size) == bytes((FIN | opcode,)) + head


def test_a_pong_has_the_data_of_its_ping() -> None:
    assert encode_pong(b"data") == b"\x8a\x04data"


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (1000, "", b"\x03\xe8"),
        (4999, "bye", b"\x13\x87bye"),
        (NO_CODE, "ignored", b""),
        (1000, "x" * 200, b"\x03\xe8" + b"x" * 123),
        (1000, "x" + "\u20ac" * 50, b"\x03\xe8x" + "\u20ac".encode() * 40),
    ],
    ids=["code", "reason", "no code", "too long", "cut between characters"],
)
def test_a_close_frame_is_never_longer_than_a_control_frame_may_be(code: int, reason: str, payload: bytes) -> None:
    assert frames(encode_close(code, reason)) == [(0x88, payload)]


def test_the_codes_that_may_be_sent_are_those_of_the_registry() -> None:
    allowed = [code for code in range(6000) if is_code(code)]
    assert allowed == [1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)]
