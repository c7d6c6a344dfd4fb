"""What the server sends."""

from __future__ import annotations

import zlib

import pytest

from fastserve.wire.ws.deflate import Deflater, Deflating
from fastserve.wire.ws.writer import Writer
from tests.wire.ws.client import frames


@pytest.mark.parametrize("size", [0, 125, 126, 16384, 16385, 65535, 65536, 200_000])
@pytest.mark.parametrize(("is_text", "first"), [(True, 0x81), (False, 0x82)])
def test_a_message_is_one_frame(size: int, is_text: bool, first: int) -> None:
    assert frames(b"".join(Writer().encode_message(b"x" * size, is_text))) == [(first, b"x" * size)]


def test_only_a_message_worth_it_is_compressed() -> None:
    writer = Writer(Deflater(Deflating()))
    assert frames(b"".join(writer.encode_message(b"x" * 255, True))) == [(0x81, b"x" * 255)]
    ((first, payload),) = frames(b"".join(writer.encode_message(b"x" * 256, True)))
    assert first == 0xC1
    assert zlib.decompressobj(-12).decompress(payload + b"\0\0\xff\xff") == b"x" * 256
