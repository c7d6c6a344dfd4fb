"""The adapters of the parser libraries (with_httptools, with_h11) judge field lines alike; and choosing one by name."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastserve.errors import FieldsRefused
from fastserve.wire.events import Field
from fastserve.wire.http1.fields import FieldsParser
from fastserve.wire.http1.parsers import fields_parser

from .peer import PARSERS

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _judge(adapter: FieldsParser, block: bytes) -> list[Field] | None:
    """Return the fields, or None when they are refused."""
    try:
        return adapter.parse(block)
    except FieldsRefused:
        return None


@pytest.mark.parametrize(("given", "name"), [("httptools", "httptools"), ("h11", "h11"), ("auto", "httptools")])
def test_a_parser_is_chosen_by_its_name(given: str, name: str) -> None:
    assert fields_parser(given).name == name


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        pytest.param(b"\r\n", [], id="no fields"),
        pytest.param(b"Host: a\r\n\r\n", [(b"host", b"a")], id="one"),
        pytest.param(b"X: 1\r\nx: 2\r\nX: 1\r\n\r\n", [(b"x", b"1"), (b"x", b"2"), (b"x", b"1")], id="duplicates"),
        pytest.param(b"A:\r\nB: \r\nC:\t \t\r\n\r\n", [(b"a", b""), (b"b", b""), (b"c", b"")], id="empty values"),
        pytest.param(b"A: \t b \t c\t \r\n\r\n", [(b"a", b"b \t c")], id="white space"),
        pytest.param(b"A:b\r\n\r\n", [(b"a", b"b")], id="no white space"),
        pytest.param(b"A: b: c:\r\n\r\n", [(b"a", b"b: c:")], id="colons in the value"),
        pytest.param(b"A: \xa0\xff\x85 \xa0\r\n\r\n", [(b"a", b"\xa0\xff\x85 \xa0")], id="obs-text"),
        pytest.param(b"%b: a\r\n\r\n" % TOKEN, [(TOKEN.lower(), b"a")], id="all token octets"),
        pytest.param(b"Content-Length: 0\r\n\r\n", [(b"content-length", b"0")], id="no body announced"),
        pytest.param(b"Content-Length: 5\r\n\r\n", [(b"content-length", b"5")], id="body announced"),
        pytest.param(b"Content-Length:\t 5 \t\r\n\r\n", [(b"content-length", b"5")], id="length between tabs"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n", [(b"transfer-encoding", b"chunked")], id="chunked body"),
        pytest.param(
            b"Transfer-Encoding: Chunked \r\n\r\n", [(b"transfer-encoding", b"Chunked")], id="coding in any case"
        ),
        pytest.param(
            b"Transfer-Encoding:\t chunked \t\r\n\r\n", [(b"transfer-encoding", b"chunked")], id="coding between tabs"
        ),
        pytest.param(b"Connection: close\r\n\r\n", [(b"connection", b"close")], id="close"),
        pytest.param(
            b"Connection: Upgrade\r\nUpgrade: x\r\nA: b\r\n\r\n",
            [(b"connection", b"Upgrade"), (b"upgrade", b"x"), (b"a", b"b")],
            id="upgrade",
        ),
        pytest.param(b"Expect: 100-continue\r\n\r\n", [(b"expect", b"100-continue")], id="expectation"),
    ],
)
def test_fields_are_returned_in_one_form(block: bytes, fields: list[Field], adapter: FieldsParser) -> None:
    assert adapter.parse(block) == fields


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"hello\r\n\r\n", id="no colon"),
        pytest.param(b": a\r\n\r\n", id="no name"),
        pytest.param(b"A : b\r\n\r\n", id="space before the colon"),
        pytest.param(b"A\t: b\r\n\r\n", id="tab before the colon"),
        pytest.param(b"A b: c\r\n\r\n", id="space in the name"),
        pytest.param(b" A: b\r\n\r\n", id="space before the name"),
        pytest.param(b"A: b\r\n c\r\n\r\n", id="folded"),
        pytest.param(b"A: b\r\n\tc\r\n\r\n", id="folded with a tab"),
        pytest.param(b"A: b\r\n \r\n\r\n", id="folded with nothing"),
        pytest.param(b"A:\r\n b\r\n\r\n", id="folded at once"),
        pytest.param(b"A: b\nC: d\r\n\r\n", id="bare LF"),
        pytest.param(b"A: b\rC: d\r\n\r\n", id="bare CR"),
        pytest.param(b"A: b\r\r\n\r\n", id="CR CR LF"),
        pytest.param(b"\nA: b\r\n\r\n", id="bare LF before"),
        pytest.param(b"A: b\n\r\n\r\n", id="bare LF before the end"),
        pytest.param(b"A\n: b\r\n\r\n", id="bare LF behind the name"),
        pytest.param(b"A: b\r\n\n\r\n\r\n", id="bare LF as a line"),
        pytest.param(b"A: b\r\n\r\r\n\r\n", id="bare CR as a line"),
        pytest.param(b"Content-Length: 5\nA: b\r\n\r\n", id="bare LF behind a length"),
        pytest.param(b"Transfer-Encoding: chunked\nA: b\r\n\r\n", id="bare LF behind a coding"),
        pytest.param(b"Connection: close\nA: b\r\n\r\n", id="bare LF behind an option"),
    ],
)
def test_what_is_no_field_line_is_refused(block: bytes, adapter: FieldsParser) -> None:
    with pytest.raises(FieldsRefused) as caught:
        adapter.parse(block)
    assert str(caught.value)


def test_an_octet_that_is_in_no_token_is_in_no_name(adapter: FieldsParser) -> None:
    for octet in set(range(256)) - {ord(":")}:
        expected = [(b"a%bb" % bytes([octet]).lower(), b"c")] if octet in TOKEN else None
        assert _judge(adapter, b"A%cB: c\r\n\r\n" % octet) == expected


@pytest.mark.parametrize("name", [b"A", b"Content-Type", b"Host", b"Upgrade", b"Connection"])
def test_a_value_has_no_controls_but_tab(name: bytes, adapter: FieldsParser) -> None:
    for octet in range(256):
        is_text = octet == 0x09 or (octet >= 0x20 and octet != 0x7F)
        expected = [(name.lower(), b"a%cb" % octet)] if is_text else None
        assert _judge(adapter, b"%b: a%cb\r\n\r\n" % (name, octet)) == expected


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding"])
def test_a_value_that_frames_has_no_controls_whatever_library_knows_it(name: bytes, adapter: FieldsParser) -> None:
    for octet in {*range(0x20), 0x7F} - {0x09}:
        assert _judge(adapter, b"%b: %c5\r\n\r\n" % (name, octet)) is None
        assert _judge(adapter, b"%b: 5%c\r\n\r\n" % (name, octet)) is None


@pytest.mark.parametrize("name", PARSERS)
def test_a_section_does_not_depend_on_the_one_before(name: str) -> None:
    adapter = fields_parser(name)
    first = adapter.parse(b"Connection: close, upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\n")
    assert _judge(adapter, b"bad line\r\n\r\n") is None
    second = adapter.parse(b"A: b\r\n\r\n")
    assert first == [(b"connection", b"close, upgrade"), (b"upgrade", b"x"), (b"content-length", b"5")]
    assert second == [(b"a", b"b")]


def test_h11_is_not_given_half_a_section() -> None:
    with pytest.raises(FieldsRefused, match="incomplete"):
        fields_parser("h11").parse(b"A: b\r\n")


def test_h11_takes_sections_beyond_its_own_limit() -> None:
    value = b"x" * 60_000  # h11's own is 16 KiB
    assert fields_parser("h11").parse(b"A: %b\r\n\r\n" % value) == [(b"a", value)]


_names = st.sampled_from([b"A", b"Host", b"Content-Type", b"Cookie", b"x-Y", b"", b"B "])
_values = st.lists(st.sampled_from([b"a", b"\t", b" ", b"\x00", b"\xff", b":", b"\r", b"\n", b",", b"="]), max_size=5)
_ends = st.sampled_from([b"\r\n"] * 5 + [b"\n", b"\r", b"\r\n ", b"\r\r\n"])


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(_names, st.sampled_from([b":"] * 5 + [b""]), _values.map(b"".join), _ends), max_size=4))
def test_all_adapters_agree_on_lines_of_all_kinds(lines: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    section = b"".join(map(b"".join, lines)) + b"\r\n"
    assume(b"\r\n\r\n" in section)
    block = section[: section.find(b"\r\n\r\n") + 4]  # an adapter gets no more than that
    assume(not block.startswith(b"\r\n"))
    assume(block.lower().count(b"host:") < 2)  # h11 also counts those; the wire does it for all (see add_fields)
    verdicts = [_judge(fields_parser(name), block) for name in PARSERS]
    assert verdicts[0] == verdicts[1]
