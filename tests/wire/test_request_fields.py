"""What the fields of a request mean: Host, framing, persistence and expectations."""

from __future__ import annotations

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.request import MAX_LENGTH, add_fields, parse_request_line

HOST = (b"host", b"example.com")
CHUNKED = (b"transfer-encoding", b"chunked")


def _head(*fields: Field, line: bytes = b"POST / HTTP/1.1") -> RequestHead:
    """Return the head of a request line, completed with these fields and a Host."""
    head = parse_request_line(line)
    add_fields(head, [HOST, *fields])
    return head


def _refusal_of_fields(fields: list[Field], line: bytes = b"POST / HTTP/1.1") -> int:
    head = parse_request_line(line)
    with pytest.raises(ProtocolViolation) as caught:
        add_fields(head, fields)
    assert caught.value.reason
    return caught.value.status


# Host.


@pytest.mark.parametrize(
    "host",
    [
        b"example.com",
        b"example.com:8000",
        b"EXAMPLE.com.",
        b"a_b-c.d~",
        b"127.0.0.1:80",
        b"[::1]",
        b"[2001:db8::1]:443",
        b"[::ffff:192.0.2.1]",
        b"%41%c3%a9",
        b"!$&'()*+,;=",
        b"example.com:",
        b"",
    ],
)
def test_a_host_by_the_grammar_is_accepted(host: bytes) -> None:
    head = parse_request_line(b"GET / HTTP/1.1")
    add_fields(head, [(b"host", host)])
    assert head.fields == [(b"host", host)]


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(b"a b", id="space"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b"user@example.com", id="user"),
        pytest.param(b"http://example.com", id="URL"),
        pytest.param(b"example.com/", id="slash"),
        pytest.param(b"example.com?x", id="question mark"),
        pytest.param(b"example.com#x", id="fragment"),
        pytest.param(b"example.com\\x", id="backslash"),
        pytest.param(b'"example.com"', id="quotes"),
        pytest.param(b"<example.com>", id="angle brackets"),
        pytest.param(b"caf\xc3\xa9.example", id="UTF-8"),
        pytest.param(b"a%4", id="escape cut short"),
        pytest.param(b"a%zz", id="bad escape"),
        pytest.param(b"a:b", id="port of letters"),
        pytest.param(b"a:-1", id="signed port"),
        pytest.param(b"a:800000", id="port of six digits"),
        pytest.param(b"a:80:80", id="two ports"),
        pytest.param(b"::1", id="IPv6 without brackets"),
        pytest.param(b"[::1", id="bracket not closed"),
        pytest.param(b"::1]", id="bracket not opened"),
        pytest.param(b"[]", id="empty brackets"),
        pytest.param(b"[::1]x", id="more behind the bracket"),
        pytest.param(b"[::1%25eth0]", id="IPv6 zone"),
        pytest.param(b"[example.com]", id="name in brackets"),
        pytest.param(b"[.]", id="dot in brackets"),
        pytest.param(b"[127.0.0.1]", id="IPv4 in brackets"),
        pytest.param(b"[1:2]", id="IPv6 too short"),
        pytest.param(b"[1::2::3]", id="IPv6 with two gaps"),
        pytest.param(b"[12345::]", id="IPv6 with five digits"),
        pytest.param(b"a\n", id="line end behind"),
    ],
)
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    assert _refusal_of_fields([(b"host", host)]) == 400
    assert _refusal_of_fields([(b"host", host)], b"GET / HTTP/1.0") == 400


def test_http_1_1_needs_a_host() -> None:
    assert _refusal_of_fields([(b"accept", b"*/*")]) == 400
    assert _refusal_of_fields([], b"GET http://example.com/ HTTP/1.1") == 400


def test_http_1_0_needs_no_host() -> None:
    head = parse_request_line(b"GET / HTTP/1.0")
    add_fields(head, [])
    assert head.fields == []


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
def test_a_second_host_is_refused_even_if_it_is_the_same(line: bytes) -> None:
    assert _refusal_of_fields([HOST, HOST], line) == 400
    assert _refusal_of_fields([HOST, (b"connection", b"close"), (b"host", b"")], line) == 400


def test_the_authority_of_the_target_replaces_host() -> None:
    head = _head((b"a", b"1"), line=b"GET http://real.example:81/x HTTP/1.1")
    assert head.fields == [(b"host", b"real.example:81"), (b"a", b"1")]


def test_the_authority_of_the_target_is_host_where_there_is_none() -> None:
    head = parse_request_line(b"GET http://real.example/ HTTP/1.0")
    add_fields(head, [(b"a", b"1")])
    assert head.fields == [(b"host", b"real.example"), (b"a", b"1")]


# Framing.


def test_a_request_without_framing_fields_has_no_body() -> None:
    assert _head().content_length == 0
    assert not _head().has_body()


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"1", 1),
        (b"0010", 10),
        (b"00000000000000000000", 0),
        (b"9223372036854775807", MAX_LENGTH),
        (b"09223372036854775807", MAX_LENGTH),
    ],
)
def test_a_length_is_decimal_digits(value: bytes, length: int) -> None:
    assert _head((b"content-length", value)).content_length == length


@pytest.mark.parametrize(
    ("value", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"+5", 400, id="plus"),
        pytest.param(b"-5", 400, id="minus"),
        pytest.param(b"5_0", 400, id="underscore"),
        pytest.param(b"5 0", 400, id="space inside"),
        pytest.param(b"5\t", 400, id="tab that was not trimmed"),
        pytest.param(b"0x5", 400, id="hexadecimal"),
        pytest.param(b"5a", 400, id="letter"),
        pytest.param(b"5.0", 400, id="fraction"),
        pytest.param(b"1e3", 400, id="exponent"),
        pytest.param(b"5, 5", 400, id="list of equal ones"),
        pytest.param(b"5,", 400, id="list of one"),
        pytest.param(b"\xb2", 400, id="digit of Latin-1"),
        pytest.param("\u0665".encode(), 400, id="digit of Unicode"),
        pytest.param(b"9223372036854775808", 413, id="2**63"),
        pytest.param(b"18446744073709551621", 413, id="5 when cut to 64 bits"),
        pytest.param(b"000000000000000000005", 413, id="21 digits"),
        pytest.param(b"9" * 5000, 413, id="more digits than int() takes"),
    ],
)
def test_a_length_of_anything_else_is_refused(value: bytes, status: int) -> None:
    assert _refusal_of_fields([HOST, (b"content-length", value)]) == status


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_two_lengths_are_refused(second: bytes) -> None:
    assert _refusal_of_fields([HOST, (b"content-length", b"5"), (b"content-length", second)]) == 400


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_a_chunked_body_has_no_known_length(value: bytes) -> None:
    head = _head((b"transfer-encoding", value))
    assert head.content_length is None
    assert head.has_body()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"gzip", id="gzip"),
        pytest.param(b"identity", id="identity"),
        pytest.param(b"gzip, chunked", id="gzip and chunked"),
        pytest.param(b"chunked, gzip", id="chunked is not the last"),
        pytest.param(b"gzip\t ,\t chunked", id="white space around the comma"),
        pytest.param(b"xchunked", id="longer name before"),
        pytest.param(b"chunked123", id="longer name behind"),
        pytest.param(b"chunke", id="shorter name"),
        pytest.param(b"chunked;q=1", id="parameter"),
        pytest.param(b'chunked ; a="b"', id="quoted parameter"),
    ],
)
def test_another_coding_is_not_implemented(value: bytes) -> None:
    assert _refusal_of_fields([HOST, (b"transfer-encoding", value)]) == 501


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b",", id="comma only"),
        pytest.param(b"chunked,", id="comma behind"),
        pytest.param(b", chunked", id="comma before"),
        pytest.param(b"gzip,,chunked", id="empty element"),
        pytest.param(b"chunked, chunked", id="chunked twice"),
        pytest.param(b"chunked,\tgzip,CHUNKED", id="chunked first and last"),
        pytest.param(b"\x0bchunked", id="vertical tab before"),
        pytest.param(b"chunked\x0c", id="form feed behind"),
        pytest.param(b"chunked\x00", id="NUL behind"),
        pytest.param(b"chunk ed", id="space inside"),
        pytest.param(b'"chunked"', id="quotes"),
        pytest.param(b"chunked\xa0", id="space of Latin-1"),
        pytest.param(b";chunked", id="no name"),
        pytest.param(b"(chunked)", id="comment"),
    ],
)
def test_a_malformed_coding_is_refused(value: bytes) -> None:
    assert _refusal_of_fields([HOST, (b"transfer-encoding", value)]) == 400


@pytest.mark.parametrize("coding", [b"chunked", b"gzip", b"identity", b""])
def test_a_coding_and_a_length_are_refused_in_any_order(coding: bytes) -> None:
    fields = [(b"transfer-encoding", coding), (b"content-length", b"5")]
    assert _refusal_of_fields([HOST, *fields]) == 400
    assert _refusal_of_fields([*reversed(fields), HOST]) == 400


@pytest.mark.parametrize("second", [b"chunked", b"identity", b""])
def test_two_coding_lines_are_refused(second: bytes) -> None:
    assert _refusal_of_fields([HOST, CHUNKED, (b"transfer-encoding", second)]) == 400
    assert _refusal_of_fields([HOST, (b"transfer-encoding", second), CHUNKED]) == 400


@pytest.mark.parametrize("coding", [b"chunked", b"gzip"])
def test_http_1_0_has_no_codings(coding: bytes) -> None:
    assert _refusal_of_fields([HOST, (b"transfer-encoding", coding)], b"POST / HTTP/1.0") == 400


# Persistence.


@pytest.mark.parametrize(
    ("version", "options", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b""], True),
        (b"1.1", [b"keep-alive"], True),
        (b"1.1", [b"upgrade"], True),
        (b"1.1", [b"close"], False),
        (b"1.1", [b"Close"], False),
        (b"1.1", [b"TE,CLOSE"], False),
        (b"1.1", [b"keep-alive ,\tclose\t, x"], False),
        (b"1.1", [b"keep-alive", b"x", b"close"], False),
        (b"1.1", [b"disclose"], True),
        (b"1.1", [b"close-notify"], True),
        (b"1.1", [b"not close"], True),
        (b"1.1", [b'"close"'], True),
        (b"1.0", [], False),
        (b"1.0", [b"keep-alive"], True),
        (b"1.0", [b"x, Keep-Alive"], True),
        (b"1.0", [b"x", b"keep-alive"], True),
        (b"1.0", [b"keep-alive, close"], False),
        (b"1.0", [b"close", b"keep-alive"], False),
        (b"1.0", [b"keep-alive2"], False),
        (b"1.2", [], True),
    ],
)
def test_the_connection_stays_open_as_version_and_options_say(
    version: bytes, options: list[bytes], keep_alive: bool
) -> None:
    fields = [(b"connection", option) for option in options]
    assert _head(*fields, line=b"GET / HTTP/" + version).keep_alive is keep_alive


# Expectations.


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
@pytest.mark.parametrize("framing", [CHUNKED, (b"content-length", b"5")])
def test_a_client_with_a_body_may_wait_for_100(value: bytes, framing: Field) -> None:
    assert _head((b"expect", value), framing).expects_continue


def test_a_client_without_a_body_does_not_wait() -> None:
    assert not _head((b"expect", b"100-continue")).expects_continue
    assert not _head((b"expect", b"100-continue"), (b"content-length", b"0")).expects_continue


@pytest.mark.parametrize("values", [[b"tea"], [b""], [b"100-continue, tea"], [b"100-continue"] * 2, [b"100"]])
def test_another_expectation_is_refused(values: list[bytes]) -> None:
    assert _refusal_of_fields([HOST, *((b"expect", value) for value in values)]) == 417


@pytest.mark.parametrize("value", [b"100-continue", b"tea"])
def test_an_expectation_of_an_http_1_0_client_is_ignored(value: bytes) -> None:
    head = _head((b"expect", value), (b"content-length", b"5"), line=b"POST / HTTP/1.0")
    assert not head.expects_continue


def test_fields_are_kept_as_they_come() -> None:
    fields = [(b"b", b"1"), HOST, (b"a", b"2"), (b"b", b"1"), (b"content-length", b"0")]
    head = parse_request_line(b"GET / HTTP/1.1")
    add_fields(head, list(fields))
    assert head.fields == fields
