"""Field sections: where they end, how large they may be, and what a clean line is."""

from __future__ import annotations

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.wire.http1.fields import SectionReader, are_clean_lines, split_fields

MAX_BYTES = 64
MAX_FIELDS = 4


def _read(pieces: list[bytes], *, at: int = 0) -> int:
    """Return where the section ends that arrives in these pieces, or the status of the refusal below zero."""
    reader = SectionReader()
    reader.begin(MAX_BYTES, MAX_FIELDS)
    buffer = b"-" * at
    try:
        for piece in pieces:
            buffer += piece
            if end := reader.find_end(buffer, at):
                return end
    except ProtocolViolation as violation:
        return -violation.status
    return 0


def _byte_by_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


# What a section of 64 bytes looks like: "A: " and padding, CRLF, CRLF.
FULL = b"A: %b\r\n\r\n" % (b"x" * (MAX_BYTES - 7))


@pytest.mark.parametrize(
    ("data", "end"),
    [
        pytest.param(b"\r\n", 2, id="no fields"),
        pytest.param(b"\r\nA: b\r\n\r\n", 2, id="more behind no fields"),
        pytest.param(b"A: b\r\n\r\n", 8, id="one field"),
        pytest.param(b"A: b\r\nC: d\r\n\r\nrest\r\n\r\n", 14, id="more behind"),
        pytest.param(b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n", 18, id="as many fields as may be"),
        pytest.param(b"A:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n", -431, id="one field more"),
        pytest.param(FULL, MAX_BYTES, id="as many bytes as may be"),
        pytest.param(b"A" + FULL, -431, id="one byte more"),
        pytest.param(b"A: b\r\n" * 3 + b"A" * 60, -431, id="no end within the limit"),
        pytest.param(b"A" * (MAX_BYTES + 1), -431, id="no line end within the limit"),
        pytest.param(b"A" * MAX_BYTES, 0, id="no line end up to the limit"),
        pytest.param(b"A: b\r\n", 0, id="not ended"),
        pytest.param(b"A: b\r\n\r", 0, id="half an end"),
        pytest.param(b"A: b\n\r\n", -400, id="bare LF"),
        pytest.param(b"A: b\nC: d\r\n", -400, id="bare LF and no end"),
        pytest.param(b"A: b\r\n\n", -400, id="bare LF for an end"),
        pytest.param(b"\n", -400, id="bare LF at once"),
        pytest.param(b" A: b\r\n", -400, id="folded"),
        pytest.param(b"A: \x00\r\n", -400, id="control"),
        pytest.param(b"A: b\rc\r\n", -400, id="bare CR"),
        pytest.param(b"A: b\nA: b\nA: b\nA: b\nA: b\nA: b\r\n\r\n", -400, id="bare LF and too many lines"),
        pytest.param(b"x\r\n", 0, id="no colon: left to the parser"),
    ],
)
@pytest.mark.parametrize("at", [0, 3])
def test_the_end_is_found_in_the_same_place_however_the_section_arrives(data: bytes, end: int, at: int) -> None:
    expected = end + at if end > 0 else end
    assert _read(_byte_by_byte(data), at=at) == expected
    for place in range(1, len(data)):
        in_two = [data[:place], data[place:]]
        assert _read(in_two, at=at) == expected, in_two


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(b"A: b\r\n\r\n", 8, id="good"),
        pytest.param(FULL, MAX_BYTES, id="as many bytes as may be"),
        pytest.param(b"A" + FULL, -431, id="one byte more"),
        pytest.param(b"A:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n", -431, id="one field more"),
        pytest.param(b"A: b\nA: b\nA: b\nA: b\nA: b\nA: b\r\n\r\n", -400, id="bare LF and too many lines"),
        pytest.param(b"A: b\n\r\n", -400, id="bare LF and no end"),
    ],
)
def test_a_section_that_is_there_as_a_whole_is_bounded_too(data: bytes, outcome: int) -> None:
    assert _read([data]) == outcome


def test_a_reader_begins_anew_with_each_section() -> None:
    reader = SectionReader()
    for _ in range(3):
        reader.begin(MAX_BYTES, MAX_FIELDS)
        assert reader.find_end(b"A: b\r\nA: b\r\n", 0) == 0
        assert reader.find_end(b"A: b\r\nA: b\r\nA: b\r\n\r\n", 0) == 20


def test_a_reader_that_has_not_begun_takes_nothing() -> None:
    with pytest.raises(ProtocolViolation):
        SectionReader().find_end(b"A: b\r\n\r\n", 0)


@pytest.mark.parametrize(
    "lines",
    [b"A: b\r\n", b"A: b\r\nC: d\r\n\r\n", b"\r\n", b"A:\tb \xff\r\n", b"no colon\r\n", b"A\t: b\r\n"],
)
def test_lines_of_text_that_end_in_crlf_are_clean(lines: bytes) -> None:
    assert are_clean_lines(lines)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"A: b", id="no end"),
        pytest.param(b"A: b\n", id="bare LF"),
        pytest.param(b"A: b\r", id="bare CR"),
        pytest.param(b"A: b\r\r\n", id="CR CR LF"),
        pytest.param(b"A: b\nC: d\r\n", id="bare LF inside"),
        pytest.param(b"A: b\rC: d\r\n", id="bare CR inside"),
        pytest.param(b" A: b\r\n", id="begins with a space"),
        pytest.param(b"\tA: b\r\n", id="begins with a tab"),
        pytest.param(b"A: b\r\n c\r\n", id="folded"),
        pytest.param(b"A: b\r\n\tc\r\n", id="folded with a tab"),
    ],
)
def test_other_lines_are_not_clean(lines: bytes) -> None:
    assert not are_clean_lines(lines)


def test_a_clean_line_has_no_controls_but_tab() -> None:
    for octet in range(256):
        is_text = octet == 0x09 or (octet >= 0x20 and octet != 0x7F)
        assert are_clean_lines(b"A: b%cc\r\n" % octet) is is_text


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b"\r\n", []),
        (b"A: b\r\n\r\n", [(b"a", b"b")]),
        (b"A:\t b \t\r\nA:\r\n\r\n", [(b"a", b"b"), (b"a", b"")]),
        (b"A: b: c\r\n\r\n", [(b"a", b"b: c")]),
        (b"no colon\r\n\r\n", [(b"no colon", b"")]),
        (b"A : b\r\n\r\n", [(b"a ", b"b")]),
    ],
)
def test_lines_are_split_at_the_first_colon(block: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    assert split_fields(block) == fields
