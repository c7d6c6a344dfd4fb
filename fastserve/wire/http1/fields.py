"""Field sections (RFC 9112 §5): what holds for every parser library, and the interface of their adapters.

An adapter accepts the field lines of the RFC, strictly, and gives names and values in one form, whichever its library
is. Where the section ends and how large it may be is decided here, while it arrives.
"""

from __future__ import annotations

from typing import Protocol

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import Field
from fastserve.wire.http1.grammar import VALUE_OCTETS


class FieldsParser(Protocol):
    """The adapter of one parser library."""

    name: str

    def parse(self, block: bytes) -> list[Field]:
        """Return the fields of a section, given with its empty line. Names are made lower-case, values trimmed.

        Raises:
            FieldsRefused: it is not a sequence of field lines that end in CRLF, without folding (RFC 9112 §5).
        """


class SectionReader:
    """Finds the end of a field section while it arrives.

    A section that is there as a whole is left to the parser. One that comes in parts has its lines examined one by one,
    each line once, so that limits hold across reads and a bad line is refused as soon as it is there.
    """

    __slots__ = ("_count", "_examined", "_max_bytes", "_max_fields")

    def __init__(self) -> None:
        self.begin(0, 0)

    def begin(self, max_bytes: int, max_fields: int) -> None:
        """Start a new section, with its limits."""
        self._max_bytes = max_bytes
        self._max_fields = max_fields
        self._examined = 0  # bytes of complete lines that have been examined
        self._count = 0  # fields among them

    def find_end(self, buffer: bytes, at: int) -> int:
        """Return where the section that starts at buffer[at] ends, or 0 when more bytes are needed.

        Raises:
            ProtocolViolation: 400 for a bad line, 431 over a limit.
        """
        if not self._examined:
            if buffer.startswith(b"\r\n", at):
                return at + 2
            end = buffer.find(b"\r\n\r\n", at) + 4
            if 4 <= end <= at + self._max_bytes and buffer.count(b"\n", at, end) <= self._max_fields + 1:
                return end
        return self._examine_lines(buffer, at)

    def _examine_lines(self, buffer: bytes, at: int) -> int:
        start = at + self._examined
        while (end := buffer.find(b"\n", start) + 1) > 0:
            if end - at > self._max_bytes:
                break
            if buffer.startswith(b"\r\n", start):
                return end
            if not are_clean_lines(buffer[start:end]):
                raise ProtocolViolation("invalid octet or line end among the fields")
            self._count += 1
            if self._count > self._max_fields:
                raise ProtocolViolation(f"more than {self._max_fields} fields", status=431)
            start = end
        self._examined = start - at
        if len(buffer) - at > self._max_bytes:
            raise ProtocolViolation(f"more than {self._max_bytes} bytes of fields", status=431)
        return 0


def are_clean_lines(lines: bytes) -> bool:
    """Tell whether every line ends in CRLF, none is folded (RFC 9112 §5.2), and no control occurs (RFC 9110 §5.5)."""
    return (
        lines.endswith(b"\r\n")
        and lines[0] not in b" \t"
        and b"\r\n " not in lines
        and b"\r\n\t" not in lines
        and not lines.replace(b"\r\n", b"").translate(None, VALUE_OCTETS)
    )


def split_fields(block: bytes) -> list[Field]:
    """Return the fields of clean lines as they stand, judging nothing: a line without a colon has an empty value."""
    fields = []
    for line in block.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            fields.append((name.lower(), value.strip(b" \t")))
    return fields
