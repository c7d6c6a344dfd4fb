"""What a WebSocket tells besides messages; a text message is a str, a binary one is bytes."""

from __future__ import annotations

from typing import TypeAlias

NO_CODE = 1005
"""The code of a close frame that has none; it is never sent (RFC 6455 §7.1.5)."""


class Ping:
    """A ping, to be answered with a pong of the same data."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ping) and self.data == other.data

    def __repr__(self) -> str:
        return f"Ping({self.data!r})"


class Pong:
    """A pong, asked for or not."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pong) and self.data == other.data

    def __repr__(self) -> str:
        return f"Pong({self.data!r})"


class Close:
    """A close frame: the last event. code: NO_CODE when it has none."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int = NO_CODE, reason: str = "") -> None:
        self.code = code
        self.reason = reason

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Close) and self.code == other.code and self.reason == other.reason

    def __repr__(self) -> str:
        return f"Close({self.code}, {self.reason!r})"


WebSocketEvent: TypeAlias = str | bytes | Ping | Pong | Close
