"""Compressed messages: the extension permessage-deflate (RFC 7692).

Memory is bounded by the window for what the server sends, and for what the client sends where it offers to be told one:
then 4 KiB, else 32 KiB, as zlib takes them. Nothing is allocated until the first compressed message.

What a client sends is decompressed as it comes, in time that is proportional to its size and that of what comes of it.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass

from fastserve.errors import WebSocketViolation

NAME = "permessage-deflate"

MOST_STREAMS = 16
"""How many deflate streams a message may touch. A final block ends one; the next one costs an allocation, and a copy of
what has come of it. Compressors that know final blocks end a message with one."""

# What zlib is given. The memory of a compressor is 2**(bits + 2) + 2**(level + 9) bytes, that of a decompressor
# 2**bits and about 7 KiB (zlib.h, "Memory usage").
_WINDOW_BITS = 12
_MEMORY_LEVEL = 5
_LEVEL = 1  # the fastest, as nginx has it
_MOST_WINDOW_BITS = 15
_LEAST_WINDOW_BITS = 8
# zlib cannot write raw data with the smallest window (zlib.h, deflateInit2).
_LEAST_OWN_BITS = 9

# What ends each message, and is not sent (RFC 7692 §7.2.1).
_TAIL = b"\x00\x00\xff\xff"
_BAD_DATA = 1007


@dataclass(frozen=True, slots=True)
class Deflating:
    """What was agreed on.

    server_bits, client_bits: the windows, as powers of two. server_forgets, client_forgets: whether each side begins
    every message anew (no_context_takeover). tells_server_bits, tells_client_bits: whether the answer names the
    windows.
    """

    server_bits: int = _WINDOW_BITS
    client_bits: int = _MOST_WINDOW_BITS
    server_forgets: bool = False
    client_forgets: bool = False
    tells_server_bits: bool = False
    tells_client_bits: bool = False

    def answer(self) -> bytes:
        """Return the value of Sec-WebSocket-Extensions that agrees."""
        parts = [NAME]
        if self.server_forgets:
            parts.append("server_no_context_takeover")
        if self.client_forgets:
            parts.append("client_no_context_takeover")
        if self.tells_server_bits:
            parts.append(f"server_max_window_bits={self.server_bits}")
        if self.tells_client_bits:
            parts.append(f"client_max_window_bits={self.client_bits}")
        return "; ".join(parts).encode("ascii")


def negotiate(params: list[tuple[str, str | None]]) -> Deflating | None:
    """Return what to agree on for the parameters of one offer; None when it must be declined (RFC 7692 §7.1)."""
    found = dict(params)
    if len(found) != len(params):
        return None
    server_forgets = "server_no_context_takeover" in found
    client_forgets = "client_no_context_takeover" in found
    if found.pop("server_no_context_takeover", None) or found.pop("client_no_context_takeover", None):
        return None  # They have no value.
    server_bits, client_bits = _WINDOW_BITS, _MOST_WINDOW_BITS
    tells_server_bits = "server_max_window_bits" in found
    if tells_server_bits:
        offered = _parse_bits(found.pop("server_max_window_bits"))
        if offered is None or offered < _LEAST_OWN_BITS:
            return None
        server_bits = min(offered, _WINDOW_BITS)
    tells_client_bits = "client_max_window_bits" in found
    if tells_client_bits:
        value = found.pop("client_max_window_bits")
        offered = _MOST_WINDOW_BITS if value is None else _parse_bits(value)
        if offered is None:
            return None
        client_bits = min(offered, _WINDOW_BITS)
    if found:
        return None  # parameters that nobody knows
    return Deflating(server_bits, client_bits, server_forgets, client_forgets, tells_server_bits, tells_client_bits)


def _parse_bits(value: str | None) -> int | None:
    """Return a window that is written without leading zeros, None for anything else (RFC 7692 §7.1.2)."""
    if value is None or not value.isascii() or not value.isdigit() or value.startswith("0") or len(value) > 2:
        return None
    bits = int(value)
    return bits if _LEAST_WINDOW_BITS <= bits <= _MOST_WINDOW_BITS else None


class Deflater:
    """Compresses the messages that the server sends."""

    __slots__ = ("_bits", "_deflating", "_forgets")

    def __init__(self, agreed: Deflating) -> None:
        self._bits = agreed.server_bits
        self._forgets = agreed.server_forgets
        self._deflating: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """Return the payload of a whole message, compressed (RFC 7692 §7.2.1)."""
        if self._deflating is None:
            self._deflating = zlib.compressobj(_LEVEL, zlib.DEFLATED, -self._bits, _MEMORY_LEVEL)
        data = self._deflating.compress(payload) + self._deflating.flush(zlib.Z_SYNC_FLUSH)
        if self._forgets:
            self._deflating = None
        return data[: -len(_TAIL)]


class Inflater:
    """Decompresses the messages that the client sends."""

    __slots__ = ("_bits", "_forgets", "_inflating", "_streams")

    def __init__(self, agreed: Deflating) -> None:
        self._bits = max(agreed.client_bits, _LEAST_OWN_BITS)
        self._forgets = agreed.client_forgets
        self._inflating: zlib._Decompress | None = None
        self._streams = 1  # that the message at hand has touched

    def inflate(self, part: bytes, is_end: bool, room: int) -> bytes | None:
        """Return a part of a message, decompressed (RFC 7692 §7.2.2); None when that is more than `room` bytes.

        Raises:
            WebSocketViolation: it is not compressed data, or there are too many final blocks.
        """
        if is_end:
            part += _TAIL
        inflated: list[bytes] = []
        try:
            while part:
                if self._inflating is None:
                    self._inflating = zlib.decompressobj(-self._bits)
                elif self._inflating.eof:
                    # After a final block there is another stream, if anything (RFC 7692 §7.2.3.4).
                    self._streams += 1
                    if self._streams > MOST_STREAMS:
                        raise WebSocketViolation(_BAD_DATA, "a message has too many final blocks")
                    self._inflating = zlib.decompressobj(-self._bits)
                piece = self._inflating.decompress(part, min(room + 1, sys.maxsize))
                room -= len(piece)
                if room < 0:
                    return None
                inflated.append(piece)
                part = self._inflating.unused_data
        except zlib.error:
            raise WebSocketViolation(_BAD_DATA, "a message is not compressed as agreed") from None
        if is_end:
            self._streams = 1
            if self._forgets:
                self._inflating = None
        return inflated[0] if len(inflated) == 1 else b"".join(inflated)
