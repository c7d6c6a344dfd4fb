"""Frames, byte for byte (RFC 6455 §5.2): opcodes, masking, and what the server sends."""

from __future__ import annotations

import enum
import struct
import sys
from typing import Any

from fastserve.wire.ws.events import NO_CODE


class Opcode(enum.IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


FIN = 0x80
"""In the first byte of a frame: it is the last one of its message."""

RSV1 = 0x40
"""In the first byte of a frame: the message that it begins is compressed (RFC 7692 §7.2.1)."""

MOST_CONTROL_BYTES = 125
"""The largest payload of a control frame (RFC 6455 §5.5)."""

PING = bytes((FIN | Opcode.PING, 0))
"""A ping without data."""

_MOST_REASON_BYTES = MOST_CONTROL_BYTES - 2
_LENGTH_16 = 126
_LENGTH_64 = 127
# Heads of small messages, by their length.
_TEXT_HEADS = [bytes((FIN | Opcode.TEXT, size)) for size in range(_LENGTH_16)]
_BINARY_HEADS = [bytes((FIN | Opcode.BINARY, size)) for size in range(_LENGTH_16)]
_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY
_BYTE_ORDER = sys.byteorder
_IS_COMPILED = not __file__.endswith(".py")


def unmask(data: bytes, begin: int, size: int, key: bytes) -> bytes:
    """Return `size` bytes of a payload that begins at data[begin], with its masking taken off (RFC 6455 §5.3).

    key: of four bytes; the first one is for the first byte here.
    """
    if _IS_COMPILED:
        return _unmask_each(data, begin, size, key)
    # As two large numbers, which is the fastest that Python has.
    masked = int.from_bytes(data[begin : begin + size], _BYTE_ORDER)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], _BYTE_ORDER)
    return (masked ^ mask).to_bytes(size, _BYTE_ORDER)


def _unmask_each(data: bytes, begin: int, size: int, key: bytes) -> bytes:
    """Do the same byte by byte. The compiler makes vectors of it."""
    masked, mask = data, key
    if size < 2:
        return bytes([masked[begin] ^ mask[0]]) if size else b""  # Python shares these: they must not be written to.
    # Compiled, a copy that nobody has seen yet is written through a pointer.
    unmasked: Any = masked[begin : begin + size] if _IS_COMPILED else bytearray(size)
    target: Any = unmasked
    first, second, third, fourth = mask[0], mask[1], mask[2], mask[3]
    index = 0
    while index + 4 <= size:
        target[index] = masked[begin + index] ^ first
        target[index + 1] = masked[begin + index + 1] ^ second
        target[index + 2] = masked[begin + index + 2] ^ third
        target[index + 3] = masked[begin + index + 3] ^ fourth
        index += 4
    while index < size:
        target[index] = masked[begin + index] ^ mask[index % 4]
        index += 1
    return unmasked if _IS_COMPILED else bytes(unmasked)


def frame_head(first: int, size: int) -> bytes:
    """Return the head of a frame that is not masked. first: its first byte; size: of its payload."""
    if size < _LENGTH_16:
        if first == _TEXT:
            return _TEXT_HEADS[size]
        if first == _BINARY:
            return _BINARY_HEADS[size]
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack("!BBH", first, _LENGTH_16, size)
    return struct.pack("!BBQ", first, _LENGTH_64, size)


def encode_pong(data: bytes) -> bytes:
    """Return the answer to a ping."""
    return frame_head(FIN | Opcode.PONG, len(data)) + data


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; one without a code for NO_CODE. Of a reason that is too long the beginning is sent."""
    payload = b""
    if code != NO_CODE:
        text = reason.encode("utf-8", "replace")
        if len(text) > _MOST_REASON_BYTES:
            text = text[:_MOST_REASON_BYTES].decode("utf-8", "ignore").encode()
        payload = code.to_bytes(2, "big") + text
    return frame_head(FIN | Opcode.CLOSE, len(payload)) + payload


def is_code(code: int) -> bool:
    """Tell whether a close frame may have this code (RFC 6455 §7.4 and the registry of IANA)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
