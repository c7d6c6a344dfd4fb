"""One HTTP/1 connection: which events come when, what a connection can ask of its wire, and what is refused."""

from __future__ import annotations

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.settings import RequestLimits
from fastserve.wire.events import BodyData, RequestHead
from fastserve.wire.http1.protocol import Http1

from .client import Answer
from .peer import Ending, Peer, cut_everywhere, cut_in_two, read, read_pieces

HOST = b"Host: example.com\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _events(wire: Http1) -> list[RequestHead | BodyData]:
    """Return the events that the wire has now."""
    return list(iter(wire.next_event, None))


def _head(wire: Http1) -> RequestHead:
    event = wire.next_event()
    assert isinstance(event, RequestHead)
    return event


# Events.


def test_a_new_wire_has_no_events(wire: Http1) -> None:
    assert wire.next_event() is None
    assert wire.is_idle()
    assert not wire.is_complete
    assert not wire.is_ended


def test_a_request_without_a_body_is_complete_with_its_head(wire: Http1) -> None:
    wire.receive_data(GET)
    assert [type(event) for event in _events(wire)] == [RequestHead]
    assert wire.is_complete
    assert not wire.is_idle()


def test_a_body_with_a_length_is_given_out_as_it_comes(wire: Http1) -> None:
    wire.receive_data(POST + b"Content-Length: 6\r\n\r\nab")
    assert _events(wire)[1:] == [BodyData(b"ab", is_last=False)]
    wire.receive_data(b"c")
    assert _events(wire) == [BodyData(b"c", is_last=False)]
    wire.receive_data(b"defrest")
    assert _events(wire) == [BodyData(b"def", is_last=True)]
    assert wire.is_complete
    assert wire.count_unread() == len(b"rest")


def test_a_chunked_body_is_given_out_as_it_comes(wire: Http1) -> None:
    wire.receive_data(CHUNKED + b"3\r\nab")
    assert _events(wire)[1:] == [BodyData(b"ab", is_last=False)]
    wire.receive_data(b"c\r\n1\r\nd\r\n0\r\n")
    assert _events(wire) == [BodyData(b"cd", is_last=False)]
    wire.receive_data(b"\r\nrest")
    assert _events(wire) == [BodyData(b"", is_last=True)]
    assert wire.is_complete
    assert wire.count_unread() == len(b"rest")


def test_the_next_request_is_not_read_before_it_is_asked_for(wire: Http1) -> None:
    wire.receive_data(GET + b"GARBAGE\r\n\r\n")
    assert len(_events(wire)) == 1
    assert wire.next_event() is None
    assert wire.count_unread() == len(b"GARBAGE\r\n\r\n")
    wire.start_next_message()
    assert not wire.is_complete
    with pytest.raises(ProtocolViolation):
        wire.next_event()


def test_requests_that_wait_are_read_one_at_a_time_in_order(wire: Http1) -> None:
    wire.receive_data(b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(5)))
    for number in range(5):
        assert _head(wire).raw_path == b"/%d" % number
        wire.start_next_message()
    assert wire.is_idle()


def test_what_is_not_pulled_stays_unread(wire: Http1) -> None:
    body = b"x" * 1000
    wire.receive_data(POST + b"Content-Length: 3000\r\n\r\n" + body)
    assert wire.count_unread() == len(POST) + len(b"Content-Length: 3000\r\n\r\n") + 1000
    _head(wire)
    assert wire.count_unread() == 1000
    wire.receive_data(body)
    assert wire.count_unread() == 2000
    assert wire.next_event() == BodyData(body * 2, is_last=False)
    assert wire.count_unread() == 0


# What a connection asks.


def test_a_wire_is_idle_until_the_first_byte_of_a_request(wire: Http1) -> None:
    peer = Peer(wire)
    for octet in cut_everywhere(GET):
        assert wire.is_idle() is (peer.delivered == 0)
        peer.deliver(octet)
    assert wire.is_idle()  # behind the first request, before the second
    wire.receive_data(b"G")
    assert not wire.is_idle()


def test_a_wire_that_has_half_an_empty_line_is_not_idle(wire: Http1) -> None:
    wire.receive_data(b"\r")
    assert wire.next_event() is None
    assert not wire.is_idle()


@pytest.mark.parametrize(
    ("fields", "is_last"), [(b"", False), (b"Connection: close\r\n", True), (b"Connection: keep-alive\r\n", False)]
)
def test_a_request_is_the_last_one_when_the_client_says_so(fields: bytes, is_last: bool, wire: Http1) -> None:
    wire.receive_data(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
    _head(wire)
    assert wire.is_last_request() is is_last


def test_a_request_is_the_last_one_when_the_client_has_closed(wire: Http1) -> None:
    wire.receive_data(GET)
    _head(wire)
    wire.receive_eof()
    assert wire.is_last_request()


def test_nothing_follows_a_request_that_was_never_sent(wire: Http1) -> None:
    assert wire.is_last_request()


def test_the_rest_of_a_body_is_known_where_it_has_a_length(wire: Http1) -> None:
    assert wire.body_bytes_left() == 0
    wire.receive_data(POST + b"Content-Length: 10\r\n\r\nabc")
    _head(wire)
    assert wire.body_bytes_left() == 10
    wire.next_event()
    assert wire.body_bytes_left() == 7
    wire.receive_data(b"defghij")
    wire.next_event()
    assert wire.body_bytes_left() == 0


def test_the_rest_of_a_chunked_body_is_not_known_until_its_end(wire: Http1) -> None:
    wire.receive_data(CHUNKED + b"3\r\nabc\r\n")
    _events(wire)
    assert wire.body_bytes_left() is None
    wire.receive_data(b"0\r\n\r\n")
    _events(wire)
    assert wire.body_bytes_left() == 0


@pytest.mark.parametrize(
    ("request_head", "content", "options"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", b"hello", [], id="GET"),
        pytest.param(b"HEAD / HTTP/1.1\r\n", b"", [], id="HEAD"),
        pytest.param(b"GET / HTTP/1.1\r\nConnection: close\r\n", b"hello", [b"close"], id="close"),
        pytest.param(b"GET / HTTP/1.0\r\n", b"hello", [b"close"], id="HTTP/1.0"),
        pytest.param(
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", b"hello", [b"keep-alive"], id="HTTP/1.0 that stays"
        ),
    ],
)
def test_a_response_answers_the_request_that_was_read_last(
    request_head: bytes, content: bytes, options: list[bytes], wire: Http1
) -> None:
    wire.receive_data(GET + request_head + HOST + b"\r\n")
    for _ in range(2):
        wire.start_next_message()
        _head(wire)
        wire.response.start(200, ())
        answer = Answer.of(b"".join(wire.response.encode_body(b"hello", last=True)))
    assert answer.content == content
    assert answer.values(b"connection") == options


# The end of file.


@pytest.mark.parametrize("data", [b"", GET, GET * 2, POST + b"Content-Length: 2\r\n\r\nok", CHUNKED + b"0\r\n\r\n"])
def test_a_client_may_close_between_two_requests(data: bytes, parser: str) -> None:
    transcript = read(parser, data, eof=True)
    assert transcript.ending is Ending.IDLE
    assert transcript == read(parser, data)


@pytest.mark.parametrize(
    "data",
    [GET, POST + b"Content-Length: 2\r\n\r\nok", CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"],
    ids=["get", "length", "chunked"],
)
def test_a_client_that_closes_in_the_middle_of_a_request_is_refused(data: bytes, parser: str) -> None:
    for place in range(1, len(data)):
        assert read(parser, data[:place]).ending is Ending.INCOMPLETE
        assert read(parser, data[:place], eof=True).ending == 400


def test_what_came_before_the_end_of_file_is_read_first(wire: Http1) -> None:
    wire.receive_data(GET + POST + b"Content-Length: 3\r\n\r\nab")
    wire.receive_eof()
    assert wire.is_ended
    assert len(_events(wire)) == 1
    wire.start_next_message()
    assert isinstance(wire.next_event(), RequestHead)
    assert wire.next_event() == BodyData(b"ab", is_last=False)
    with pytest.raises(ProtocolViolation):
        wire.next_event()


# Refusals.


@pytest.mark.parametrize("octet", sorted(set(b'\x16\x80\x00\n \t:/["') | set(range(0x80, 0x100))))
def test_a_first_byte_that_begins_no_request_is_refused_at_once(octet: int, parser: str) -> None:
    assert read(parser, bytes([octet])).ending == 400


@pytest.mark.parametrize("data", [b"\rG", b"\r\r", b"\r\n\r", b"\r\n\n", b"\r\n ", b"\r\n\x16", b"\n"])
def test_what_is_no_empty_line_and_no_request_is_refused_at_once(data: bytes, parser: str) -> None:
    assert read(parser, data).ending == 400
    assert read_pieces(parser, cut_everywhere(data)).ending == 400


@pytest.mark.parametrize("eof", [False, True])
def test_an_empty_line_behind_the_last_request_is_no_request(eof: bool, parser: str) -> None:
    """It is skipped for clients that send one after a body: then nothing need follow it."""
    data = POST + b"Content-Length: 2\r\n\r\nok\r\n"
    for pieces in ([data], cut_everywhere(data)):
        transcript = read_pieces(parser, pieces, eof=eof)
        assert len(transcript.complete) == 1
        assert transcript.ending is Ending.IDLE


def test_an_empty_line_is_skipped_before_each_request(parser: str) -> None:
    transcript = read(parser, (b"\r\n" + GET) * 3)
    assert len(transcript.complete) == 3
    assert transcript.ending is Ending.IDLE


# Where a library refuses a field, and a rule names what is wrong more exactly, the status is that of the rule.
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param(b"Transfer-Encoding: gzip\r\n", 501, id="unknown coding"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\n", 501, id="list of codings"),
        pytest.param(b"Transfer-Encoding: chunked, chunked\r\n", 400, id="chunked twice"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400, id="coding and length"),
        pytest.param(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400, id="length and coding"),
        pytest.param(b"Content-Length: 18446744073709551616\r\n", 413, id="length beyond 64 bits"),
        pytest.param(b"Content-Length: 9223372036854775808\r\n", 413, id="length beyond 63 bits"),
        pytest.param(b"Content-Length: %b1\r\n" % (b"0" * 5000), 413, id="length of many digits"),
        pytest.param(b"Content-Length: +1\r\n", 400, id="signed length"),
        pytest.param(b"Content-Length: 1\r\nContent-Length: 1\r\n", 400, id="two lengths"),
        pytest.param(HOST, 400, id="two Hosts"),
        pytest.param(b"Expect: tea\r\n", 417, id="expectation"),
        pytest.param(b"X : a\r\n", 400, id="malformed field"),
        pytest.param(b"X : a\r\nTransfer-Encoding: gzip\r\n", 501, id="malformed field and unknown coding"),
    ],
)
def test_a_refusal_has_the_status_of_the_rule_with_any_parser(fields: bytes, status: int, parser: str) -> None:
    data = POST + fields + b"\r\n"
    assert read(parser, data).ending == status
    assert read_pieces(parser, cut_everywhere(data)).ending == status


# Two rules are broken at once. One of them is seen as soon as its line is there, the other at the end of the line or of
# the section, so it takes care that the status does not depend on how the bytes arrive.
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /a\nb HTTP/2.0\r\n" + HOST + b"\r\n", id="LF in the target and another version"),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\nX: \x00\r\n\r\n", id="unknown coding and NUL"),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\nX: a\r\n b\r\n\r\n", id="unknown coding and folding"),
        pytest.param(POST + b"Expect: tea\r\nX: a\nY: b\r\n\r\n", id="expectation and bare LF"),
        pytest.param(POST + b"Expect: \x00100-continue\r\n\r\n", id="expectation with NUL"),
        pytest.param(POST + b"Content-Length: 9223372036854775808\r\nX: a\rb\r\n\r\n", id="large length and bare CR"),
    ],
)
def test_a_refusal_has_the_same_status_however_the_bytes_arrive(data: bytes, parser: str) -> None:
    whole = read(parser, data).ending
    assert {read_pieces(parser, pieces).ending for pieces in cut_in_two(data)} == {whole}
    assert read_pieces(parser, cut_everywhere(data)).ending == whole


# A field section that comes again is not parsed again. Nobody may notice.

SECTIONS = [
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: 1\r\n\r\n", id="get"),
    pytest.param(b"POST /other?x HTTP/1.1\r\n" + HOST + b"A: 1\r\n\r\n", id="same section, other line"),
    pytest.param(b"GET / HTTP/1.0\r\n" + HOST + b"A: 1\r\n\r\n", id="same section in HTTP/1.0"),
    pytest.param(b"GET / HTTP/1.2\r\n" + HOST + b"A: 1\r\n\r\n", id="same section in HTTP/1.2"),
    pytest.param(
        b"GET http://other.example/ HTTP/1.1\r\n" + HOST + b"A: 1\r\n\r\n", id="same section, absolute target"
    ),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: 1\r\nB: 2\r\n\r\n", id="longer section"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", id="shorter section"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: 2\r\n\r\n", id="other value"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: 1\r\nConnection: close\r\n\r\n", id="close"),
    pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"A: 1\r\nContent-Length: 2\r\n\r\nok", id="length"),
    pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"A: 1\r\nContent-Length: 0\r\n\r\n", id="length of zero"),
    pytest.param(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", id="chunked"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n\r\n", id="expectation"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: 1\r\nA : 2\r\n\r\n", id="malformed"),
    pytest.param(b"GET / HTTP/1.1\r\nA: 1\r\n\r\n", id="no Host"),
    pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: %b\r\n\r\n" % (b"x" * 5000), id="large"),
]


@pytest.mark.parametrize("second", SECTIONS)
@pytest.mark.parametrize("first", SECTIONS)
def test_a_request_is_read_as_if_it_were_the_first_one(first: bytes, second: bytes, parser: str) -> None:
    if read(parser, first).ending is not Ending.IDLE:
        return
    alone = read(parser, second)
    for pieces in ([first + second], [first, second], [first, second[:40], second[40:]]):
        transcript = read_pieces(parser, pieces)
        assert transcript.messages[1:] == alone.messages
        assert transcript.ending == alone.ending


def test_a_request_that_closes_closes_each_time(wire: Http1) -> None:
    wire.receive_data(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert not _head(wire).keep_alive
    wire.start_next_message()
    wire.receive_data(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert not _head(wire).keep_alive


def test_a_head_that_the_application_changes_does_not_change_the_next_one(wire: Http1) -> None:
    wire.receive_data(GET * 4)
    for _ in range(4):
        head = _head(wire)
        assert head.fields == [(b"host", b"example.com")]
        head.fields.append((b"x", b"1"))
        head.fields[0] = (b"host", b"changed")
        head.keep_alive = False
        wire.start_next_message()


@pytest.mark.parametrize(("limit", "outcome"), [(0, Ending.IDLE), (5, Ending.IDLE), (4, 413), (1, 413)])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_a_body_over_the_limit_is_refused(body: bytes, limit: int, outcome: Ending | int, parser: str) -> None:
    assert read(parser, POST + body, limits=RequestLimits(body_bytes=limit)).ending == outcome


def test_a_request_line_over_the_limit_is_refused_before_it_ends(parser: str) -> None:
    limits = RequestLimits(line_bytes=64)
    assert read(parser, b"GET /" + b"x" * 60, limits=limits).ending is Ending.INCOMPLETE
    assert read(parser, b"GET /" + b"x" * 61, limits=limits).ending == 414


@pytest.mark.parametrize(
    ("data", "has_body"),
    [
        pytest.param(b"HEAD / HTTP/1.1\r\n\r\n", False, id="HEAD without Host"),
        pytest.param(b"HEAD" + CHUNKED.removeprefix(b"POST") + b"xyz\r\n", False, id="HEAD with a bad body"),
        pytest.param(CHUNKED + b"xyz\r\n", True, id="POST with a bad body"),
        pytest.param(b"HEAD" + GET.removeprefix(b"GET") + b"xyz\r\n", True, id="no request behind HEAD"),
    ],
)
def test_a_refusal_has_a_body_unless_the_method_is_head(data: bytes, has_body: bool, wire: Http1) -> None:
    """RFC 9110 §9.3.2: no content in a response to HEAD."""
    peer = Peer(wire)
    peer.deliver(data)
    assert peer.refusal is not None
    answer = Answer.of(b"".join(wire.encode_refusal(peer.refusal)))
    assert answer.values(b"connection") == [b"close"]
    assert bool(answer.content) is has_body
