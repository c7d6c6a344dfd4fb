"""The frames of a client, and of the server as a client sees them."""

from __future__ import annotations

from fastserve.wire.ws.frames import FIN

KEY = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: bytes | None = None,
) -> bytes:
    """Return a frame. length: what stands for it in place of the shortest form."""
    size = len(payload)
    if length is None:
        if size < 126:
            length = bytes((size,))
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    head = bytes(((FIN if fin else 0) | rsv | opcode, length[0] | (0x80 if masked else 0))) + length[1:]
    return head + KEY + mask(payload) if masked else head + payload


def mask(payload: bytes, key: bytes = KEY) -> bytes:
    """Return a payload with its masking, or without it, octet by octet as RFC 6455 §5.3 says."""
    return bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))


def text(content: str) -> bytes:
    """Return a text message in one frame."""
    return frame(Opcode.TEXT, content.encode())


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(Opcode.CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return the first byte and the payload of each frame that the server has sent."""
    found = []
    while data:
        size, at = data[1], 2
        assert size < 128, "the server must not mask"
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        assert len(data) >= at + size, "a frame is not complete"
        found.append((data[0], data[at : at + size]))
        data = data[at + size :]
    return found
