"""The chunked coding of request bodies: its grammar, to the octet, and its limits."""

from __future__ import annotations

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.settings import RequestLimits
from fastserve.wire.events import BodyData
from fastserve.wire.http1.chunked import ChunkedBody
from fastserve.wire.http1.fields import FieldsParser
from fastserve.wire.http1.parsers import fields_parser

from .peer import NO_LIMITS_REACHED, PARSERS, cut_everywhere

MORE = "needs more"


class _Reader:
    """Feeds a chunked body as Http1 does, and keeps what comes out."""

    def __init__(self, adapter: FieldsParser, limits: RequestLimits = NO_LIMITS_REACHED) -> None:
        self._chunked = ChunkedBody(limits, adapter)
        self._buffer = b""
        self.body = b""
        self.events: list[BodyData] = []
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and not self.is_complete:
            event = self._chunked.next_event(self._buffer, 0)
            self._buffer = self._buffer[self._chunked.consumed :]
            if event is None:
                return
            self.events.append(event)
            self.body += event.data
            self.is_complete = event.is_last

    @property
    def unread(self) -> bytes:
        return self._buffer


def _read(adapter: FieldsParser, pieces: list[bytes], limits: RequestLimits = NO_LIMITS_REACHED) -> bytes | int | str:
    """Return the body that arrives in these pieces, the status of the refusal, or that more is needed."""
    reader = _Reader(adapter, limits)
    try:
        for piece in pieces:
            reader.feed(piece)
    except ProtocolViolation as violation:
        return violation.status
    return reader.body if reader.is_complete else MORE


def _outcome(adapter: FieldsParser, data: bytes, limits: RequestLimits = NO_LIMITS_REACHED) -> bytes | int | str:
    """Return what comes of the data, which is the same whole and byte by byte."""
    whole = _read(adapter, [data], limits)
    assert _read(adapter, cut_everywhere(data), limits) == whole
    return whole


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="empty"),
        pytest.param(b"3\r\nabc\r\n0\r\n\r\n", b"abc", id="one chunk"),
        pytest.param(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", id="two chunks"),
        pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="line ends as data"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="hexadecimal"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="hexadecimal, upper case"),
        pytest.param(b"0000000000000001\r\na\r\n0000000000000000\r\n\r\n", b"a", id="sixteen digits"),
        pytest.param(b"0\r\nA: b\r\nC:\r\n\r\n", b"", id="trailers"),
        pytest.param(b"1;a\r\nx\r\n0\r\n\r\n", b"x", id="extension without a value"),
        pytest.param(b"1;a=b\r\nx\r\n0\r\n\r\n", b"x", id="extension with a token"),
        pytest.param(b'1;a="b c"\r\nx\r\n0\r\n\r\n', b"x", id="extension with a quoted string"),
        pytest.param(b'1;a=""\r\nx\r\n0\r\n\r\n', b"x", id="extension with an empty string"),
        pytest.param(b'1;a="\\"\\\\;\xff\t"\r\nx\r\n0\r\n\r\n', b"x", id="extension with escapes"),
        pytest.param(b'1;a;b=c;d="e";!#$\r\nx\r\n0;z\r\n\r\n', b"x", id="extensions"),
    ],
)
def test_a_body_is_what_is_in_its_chunks(data: bytes, body: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, data) == body


def test_small_chunks_that_have_come_are_joined(adapter: FieldsParser) -> None:
    reader = _Reader(adapter)
    reader.feed(b"1\r\na\r\n" * 5 + b"3\r\nbc")
    assert [event.data for event in reader.events] == [b"aaaaabc"]
    reader.feed(b"d\r\n0\r\n\r\n")
    assert [(event.data, event.is_last) for event in reader.events[1:]] == [(b"d", False), (b"", True)]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [(b"x\r\n", 400), (b"1\r\nab\r\n", 400), (b"2;%b\r\nab\r\n" % (b"x" * 100), 400), (b"ff\r\n", 413)],
    ids=["size", "end", "extensions", "limit"],
)
def test_what_has_come_before_something_wrong_is_given_out_first(
    wrong: bytes, status: int, adapter: FieldsParser
) -> None:
    reader = _Reader(adapter, RequestLimits(body_bytes=100, trailer_bytes=50))
    with pytest.raises(ProtocolViolation) as caught:
        reader.feed(b"1\r\na\r\n2\r\nbc\r\n" + wrong)
    assert caught.value.status == status
    assert reader.body.startswith(b"abc")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"+1", id="plus"),
        pytest.param(b"-1", id="minus"),
        pytest.param(b"-0", id="minus zero"),
        pytest.param(b"0x1", id="prefix"),
        pytest.param(b"0X1", id="prefix, upper case"),
        pytest.param(b"1_0", id="underscore"),
        pytest.param(b"1h", id="suffix"),
        pytest.param(b"g", id="letter behind f"),
        pytest.param(b"1.0", id="fraction"),
        pytest.param(b"1,1", id="list"),
        pytest.param(b" 1", id="space before"),
        pytest.param(b"1 ", id="space behind"),
        pytest.param(b"\t1", id="tab before"),
        pytest.param(b"1\t", id="tab behind"),
        pytest.param(b"1 1", id="space inside"),
        pytest.param(b"1\x00", id="NUL behind"),
        pytest.param(b"1\x0b", id="vertical tab behind"),
        pytest.param(b"\xb2", id="digit of Latin-1"),
        pytest.param("\u0661".encode(), id="digit of Unicode"),
        pytest.param(b"00000000000000001", id="seventeen digits"),
        pytest.param(b"10000000000000001", id="1 when cut to 64 bits"),
        pytest.param(b"1\r", id="bare CR behind"),
        pytest.param(b"\r1", id="bare CR before"),
        pytest.param(b"1;", id="empty extension"),
        pytest.param(b";a", id="extension without a size"),
        pytest.param(b"1;;a", id="empty extension before another"),
        pytest.param(b"1;a;", id="empty extension behind another"),
        pytest.param(b"1 ;a", id="space before the semicolon"),
        pytest.param(b"1; a", id="space behind the semicolon"),
        pytest.param(b"1;a =b", id="space before the equals sign"),
        pytest.param(b"1;a= b", id="space behind the equals sign"),
        pytest.param(b"1;=b", id="extension without a name"),
        pytest.param(b"1;a=", id="extension with an empty value"),
        pytest.param(b"1;a=b=c", id="extension with two values"),
        pytest.param(b"1;a b", id="space in a name"),
        pytest.param(b"1;a\xff", id="name that is not ASCII"),
        pytest.param(b"1;a=(b)", id="value that is no token"),
        pytest.param(b'1;a="b', id="string not closed"),
        pytest.param(b'1;a="b"c', id="more behind a string"),
        pytest.param(b'1;a="b\\"', id="string closed by an escape"),
        pytest.param(b'1;a="\x00"', id="NUL in a string"),
        pytest.param(b'1;a="\\\x00"', id="NUL escaped in a string"),
        pytest.param(b'1;a="\x7f"', id="DEL in a string"),
        pytest.param(b'1;a="\r"', id="CR in a string"),
        pytest.param(b'1;"a"', id="string for a name"),
    ],
)
def test_a_malformed_size_line_is_refused(line: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, line + b"\r\nx\r\n0\r\n\r\n") == 400
    assert _outcome(adapter, b"1\r\nx\r\n" + line + b"\r\nx\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize("end", [b"\n", b"\n\r\n", b"\r\r\n", b" \r\n", b"\r \n", b"\n\n"])
def test_a_size_line_ends_in_crlf(end: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, b"1" + end + b"x\r\n0\r\n\r\n") == 400
    assert _outcome(adapter, b"1;a" + end + b"x\r\n0\r\n\r\n") == 400
    assert _outcome(adapter, b"0" + end + b"\r\n") == 400


@pytest.mark.parametrize(
    "end",
    [b"\n", b"\r", b"\r0", b"y\r\n", b"\n\r", b"\r\r\n", b" \r\n", b"0\r\n", b"\x00\x00", b"XX"],
)
def test_data_ends_in_crlf(end: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, b"1\r\nx" + end + b"0\r\n\r\n") == 400


def test_the_end_of_data_is_refused_at_its_first_wrong_octet(adapter: FieldsParser) -> None:
    assert _read(adapter, [b"1\r\nx"]) == MORE
    assert _read(adapter, [b"1\r\nx\r"]) == MORE
    assert _read(adapter, [b"1\r\nxy"]) == 400
    assert _read(adapter, [b"1\r\nx\ry"]) == 400


@pytest.mark.parametrize(
    "trailers",
    [
        pytest.param(b"no colon\r\n", id="no colon"),
        pytest.param(b"A : b\r\n", id="space before the colon"),
        pytest.param(b": b\r\n", id="no name"),
        pytest.param(b"A(: b\r\n", id="name that is no token"),
        pytest.param(b" A: b\r\n", id="folded at once"),
        pytest.param(b"A: b\r\n c\r\n", id="folded"),
        pytest.param(b"A: b\n", id="bare LF"),
        pytest.param(b"A: b\rC: d\r\n", id="bare CR"),
        pytest.param(b"A: \x00\r\n", id="NUL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n", id="the next request"),
    ],
)
def test_malformed_trailers_are_refused(trailers: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, b"0\r\n" + trailers + b"\r\n") == 400


# Fields that frame or route a message have no place in trailers (RFC 9110 §6.5.1), and each library counts or checks
# some of them as if they were headers. Whatever is made of them, it must not depend on the library.
@pytest.mark.parametrize(
    "trailers",
    [
        pytest.param(b"Content-Length: 5\r\n", id="length"),
        pytest.param(b"Content-Length: 5\r\nContent-Length: 5\r\n", id="two lengths"),
        pytest.param(b"Content-Length: %b\r\n" % (b"0" * 21), id="length of 21 digits"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", id="coding"),
        pytest.param(b"Transfer-Encoding: gzip\r\n", id="another coding"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", id="coding and length"),
        pytest.param(b"Host: a\r\n", id="Host"),
        pytest.param(b"Host: a\r\nHost: b\r\n", id="two Hosts"),
        pytest.param(b"Connection: close, upgrade\r\nUpgrade: x\r\n", id="upgrade"),
    ],
)
def test_trailers_that_belong_into_a_header_are_judged_alike_by_all_parsers(trailers: bytes) -> None:
    outcomes = {name: _outcome(fields_parser(name), b"0\r\n" + trailers + b"\r\n") for name in PARSERS}
    assert outcomes["httptools"] == outcomes["h11"]


@pytest.mark.parametrize("end", [b"\n", b"\r\r\n", b"x\r\n"])
def test_the_last_chunk_ends_in_an_empty_line(end: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, b"0\r\n" + end + b"\r\n") == 400


@pytest.mark.parametrize(
    "data",
    [
        b"1",
        b"1\r",
        b"1;a",
        b"1\r\n",
        b"1\r\nx",
        b"2\r\nx",
        b"1\r\nx\r",
        b"1\r\nx\r\n",
        b"0\r\n",
        b"0\r\n\r",
        b"0\r\nA: b\r\n",
    ],
)
def test_a_body_that_has_not_ended_needs_more(data: bytes, adapter: FieldsParser) -> None:
    assert _outcome(adapter, data) == MORE


def test_data_is_given_out_as_it_comes(adapter: FieldsParser) -> None:
    reader = _Reader(adapter)
    reader.feed(b"5\r\nab")
    reader.feed(b"cde\r\n1\r")
    reader.feed(b"\nf\r\n0\r\n")
    assert reader.events == [BodyData(b"ab", False), BodyData(b"cde", False), BodyData(b"f", False)]
    reader.feed(b"\r\nrest")
    assert reader.events[3:] == [BodyData(b"", True)]
    assert reader.unread == b"rest"


# Limits.


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(b"7FFFFFFFFFFFFFFF\r\n", MORE, id="the largest size"),
        pytest.param(b"8000000000000000\r\n", 413, id="one more"),
        pytest.param(b"FFFFFFFFFFFFFFFF\r\n", 413, id="sixteen digits"),
        pytest.param(b"1\r\nx\r\n7FFFFFFFFFFFFFFE\r\n", MORE, id="the largest sum"),
        pytest.param(b"1\r\nx\r\n7FFFFFFFFFFFFFFF\r\n", 413, id="one more in all"),
    ],
)
def test_sizes_are_counted_up_to_63_bits(data: bytes, outcome: int | str, adapter: FieldsParser) -> None:
    assert _outcome(adapter, data) == outcome


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(b"5\r\nabcde\r\n0\r\n\r\n", b"abcde", id="as many bytes as may be"),
        pytest.param(b"6\r\n", 413, id="one more"),
        pytest.param(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", id="as many in two chunks"),
        pytest.param(b"3\r\nabc\r\n3\r\n", 413, id="one more in two chunks"),
    ],
)
def test_a_body_larger_than_the_limit_is_refused_when_it_is_announced(
    data: bytes, outcome: bytes | int, adapter: FieldsParser
) -> None:
    assert _outcome(adapter, data, RequestLimits(body_bytes=5)) == outcome


EXTENSION = b";" + b"a" * 19


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(b"0%b\r\n\r\n" % EXTENSION, b"", id="as many bytes as may be"),
        pytest.param(b"0%ba\r\n\r\n" % EXTENSION, 400, id="one more"),
        pytest.param(b"1;a\r\nx\r\n" * 9 + b"0;a\r\n\r\n", b"x" * 9, id="as many in all chunks"),
        pytest.param(b"1;a\r\nx\r\n" * 10 + b"0;a\r\n\r\n", 400, id="one more in all chunks"),
        pytest.param(b"0000000000000000%b\r\n\r\n" % EXTENSION, b"", id="with the longest size"),
        pytest.param(b"0;%b" % (b"a" * 100), 400, id="a line without an end"),
        pytest.param(b"1;a\r\nx\r\n" * 10 + b"0;%b" % (b"a" * 30), 400, id="a line without an end behind others"),
        pytest.param(b"0" * 39, 400, id="digits without an end"),
    ],
)
def test_extensions_are_bounded_over_the_whole_body(data: bytes, outcome: bytes | int, adapter: FieldsParser) -> None:
    assert _outcome(adapter, data, RequestLimits(trailer_bytes=20)) == outcome


@pytest.mark.parametrize(
    ("trailers", "outcome"),
    [
        pytest.param(b"A: %b\r\n\r\n" % (b"x" * 13), b"", id="as many bytes as may be"),
        pytest.param(b"A: %b\r\n\r\n" % (b"x" * 14), 431, id="one more"),
        pytest.param(b"A: %b" % (b"x" * 18), 431, id="no end within the limit"),
        pytest.param(b"A:\r\nB:\r\nC:\r\n\r\n", b"", id="as many fields as may be"),
        pytest.param(b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n", 431, id="one field more"),
    ],
)
def test_trailers_are_bounded(trailers: bytes, outcome: bytes | int, adapter: FieldsParser) -> None:
    limits = RequestLimits(trailer_bytes=20, fields=3)
    assert _outcome(adapter, b"0\r\n" + trailers, limits) == outcome
