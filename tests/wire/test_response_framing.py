"""Response bodies: how their end is told, and that h11 as a client reads what was meant."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import InvalidResponse
from fastserve.wire.events import Field
from fastserve.wire.http1.response import ResponseEncoder

from .client import Answer, a_request, encode, new_encoder, read_with_h11
from .peer import field_values

LENGTH = b"content-length"
CODING = b"transfer-encoding"


def _length(length: int) -> list[Field]:
    return [(LENGTH, b"%d" % length)]


def _framing(answer: Answer) -> list[Field]:
    return [field for field in answer.fields if field[0] in (LENGTH, CODING)]


# A length.


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 100_000])
def test_a_body_that_is_complete_at_once_has_a_length(body: bytes) -> None:
    answer = Answer.of(encode(new_encoder(a_request()), 200, (), [body]))
    assert _framing(answer) == _length(len(body))
    assert answer.content == body


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
@pytest.mark.parametrize("parts", [[b"hello"], [b"he", b"llo"], [b"", b"hello", b""], [b"h", b"", b"ello"]])
def test_the_length_that_the_application_gives_is_sent_once(name: bytes, parts: list[bytes]) -> None:
    answer = Answer.of(encode(new_encoder(a_request()), 200, [(name, b"5")], parts))
    assert _framing(answer) == _length(5)
    assert answer.content == b"hello"


def test_leading_zeros_of_a_length_are_not_sent() -> None:
    assert _framing(Answer.of(encode(new_encoder(a_request()), 200, [(LENGTH, b"005")], [b"hello"]))) == _length(5)


@pytest.mark.parametrize(
    "value",
    [b"", b"+5", b"-5", b" 5", b"5 ", b"5, 5", b"5_0", b"0x5", b"five", b"5.0", b"5\n", b"\xb2", b"9" * 5000],
)
def test_a_length_that_is_no_number_is_invalid(value: bytes) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request()).start(200, [(LENGTH, value)])


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_two_lengths_are_invalid_even_if_they_are_equal(second: bytes) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request()).start(200, [(LENGTH, b"5"), (b"Content-Length", second)])


@pytest.mark.parametrize(
    ("body", "last"), [(b"hello!", True), (b"hello!", False), (b"hell", True), (b"", True)], ids=str
)
def test_a_first_part_that_contradicts_the_length_leaves_the_start_held(body: bytes, last: bool) -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, _length(5))
    with pytest.raises(InvalidResponse):
        encoder.encode_body(body, last=last)
    assert encoder.keep_alive
    answer = Answer.of(b"".join(encoder.encode_body(b"hello", last=True)))
    assert (answer.status_line, answer.content) == (b"HTTP/1.1 200 OK", b"hello")


def test_a_first_part_that_contradicts_the_length_can_still_become_an_error() -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, [*_length(5), (b"connection", b"close"), (b"x-a", b"1")])
    with pytest.raises(InvalidResponse):
        encoder.encode_body(b"hello!", last=True)
    answer = Answer.of(encode(encoder, 500, (), [b"failed"]))
    assert answer == Answer(b"HTTP/1.1 500 Internal Server Error", _length(6), b"failed")


@pytest.mark.parametrize(("body", "last"), [(b"lo!", True), (b"lo!", False), (b"l", True), (b"", True)], ids=str)
def test_a_later_part_that_contradicts_the_length_is_not_encoded(body: bytes, last: bool) -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, _length(5))
    encoder.encode_body(b"hel", last=False)
    with pytest.raises(InvalidResponse):
        encoder.encode_body(body, last=last)
    assert b"".join(encoder.encode_body(b"lo", last=True)) == b"lo"


# No length.


def test_a_body_without_a_length_is_chunked() -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, ())
    first = b"".join(encoder.encode_body(b"0123456789", last=False))
    assert Answer.of(first) == Answer(b"HTTP/1.1 200 OK", [(CODING, b"chunked")], b"a\r\n0123456789\r\n")
    assert b"".join(encoder.encode_body(b"", last=False)) == b""
    assert b"".join(encoder.encode_body(b"x" * 255, last=False)) == b"ff\r\n" + b"x" * 255 + b"\r\n"
    assert b"".join(encoder.encode_body(b"end", last=True)) == b"3\r\nend\r\n0\r\n\r\n"
    assert encoder.keep_alive


def test_a_chunked_body_may_begin_and_end_with_nothing() -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, ())
    assert Answer.of(b"".join(encoder.encode_body(b"", last=False))).content == b""
    assert b"".join(encoder.encode_body(b"", last=True)) == b"0\r\n\r\n"


def test_a_body_without_a_length_ends_with_the_connection_for_http_1_0() -> None:
    encoder = new_encoder(a_request(version="1.0"))
    answer = Answer.of(encode(encoder, 200, [(b"connection", b"keep-alive")], [b"hel", b"", b"lo"]))
    assert answer == Answer(b"HTTP/1.1 200 OK", [(b"connection", b"close")], b"hello")
    assert not encoder.keep_alive


def test_a_body_with_a_length_lets_http_1_0_keep_the_connection() -> None:
    encoder = new_encoder(a_request(version="1.0"))
    answer = Answer.of(encode(encoder, 200, _length(5), [b"hel", b"lo"]))
    assert answer == Answer(b"HTTP/1.1 200 OK", [*_length(5), (b"connection", b"keep-alive")], b"hello")
    assert encoder.keep_alive


# No body.


@pytest.mark.parametrize(
    ("method", "status", "fields", "parts", "framing"),
    [
        pytest.param("GET", 204, [], [b""], [], id="204"),
        pytest.param("GET", 204, [], [b"surplus"], [], id="204 with a body"),
        pytest.param("GET", 204, [(LENGTH, b"7")], [b"sur", b"plus"], [], id="204 with a length"),
        pytest.param("GET", 205, [], [b""], _length(0), id="205"),
        pytest.param("GET", 205, [], [b"sur", b"plus"], _length(0), id="205 with a body"),
        pytest.param("GET", 205, [(LENGTH, b"7")], [b"surplus"], _length(0), id="205 with a length"),
        pytest.param("GET", 304, [], [b""], [], id="304"),
        pytest.param("GET", 304, [], [b"surplus"], [], id="304 with a body"),
        pytest.param("GET", 304, [(LENGTH, b"5")], [b""], _length(5), id="304 with a length"),
        pytest.param("HEAD", 200, [], [b"hello"], _length(5), id="HEAD with a body"),
        pytest.param("HEAD", 200, [(LENGTH, b"5")], [b""], _length(5), id="HEAD with a length"),
        pytest.param("HEAD", 200, [(LENGTH, b"5")], [b"hello"], _length(5), id="HEAD with both"),
        pytest.param("HEAD", 200, [(LENGTH, b"5")], [b"hel", b"lo!"], _length(5), id="HEAD with a length and more"),
        pytest.param("HEAD", 200, [], [b""], [], id="HEAD with neither"),
        pytest.param("HEAD", 200, [], [b"hel", b"lo"], [], id="HEAD with a body in parts"),
        pytest.param("HEAD", 204, [(LENGTH, b"5")], [b"hello"], [], id="HEAD and 204"),
        pytest.param("HEAD", 304, [], [b"hello"], [], id="HEAD and 304"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_response_without_a_body_has_no_body_bytes_and_ends_the_connection_for_no_reason(
    method: str, status: int, fields: list[Field], parts: list[bytes], framing: list[Field], version: str
) -> None:
    encoder = new_encoder(a_request(method, version=version))
    data = encode(encoder, status, fields, parts)
    answer = Answer.of(data)
    assert _framing(answer) == framing
    assert answer.content == b""
    assert encoder.keep_alive
    assert read_with_h11(method, data).body == b""


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_a_final_response_of_the_first_class_has_no_body_and_is_the_last(status: int) -> None:
    encoder = new_encoder(a_request())
    answer = Answer.of(encode(encoder, status, _length(5), [b"he", b"llo"]))
    assert answer.fields == [(b"connection", b"close")]
    assert answer.content == b""
    assert not encoder.keep_alive


# One after the other, on one connection.


def test_a_response_does_not_depend_on_the_one_before() -> None:
    exchanges = [
        ("GET", 200, [], [b"a", b"b"]),
        ("HEAD", 200, [(b"connection", b"x"), *_length(9)], [b""]),
        ("GET", 200, _length(3), [b"a", b"bc"]),
        ("GET", 204, [(b"server", b"other")], [b""]),
        ("GET", 200, [], [b"abc"]),
    ]
    alone = [encode(new_encoder(a_request(method)), *rest) for method, *rest in exchanges]  # type: ignore[arg-type]
    for first, second in pairwise([*range(len(exchanges)), 0, 2, 4, 1, 3, 0]):
        encoder = new_encoder(a_request(exchanges[first][0]))
        encode(encoder, *exchanges[first][1:])
        encoder.begin(a_request(exchanges[second][0]))
        assert encode(encoder, *exchanges[second][1:]) == alone[second]


def test_a_response_that_was_cut_off_leaves_nothing_for_the_next() -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, _length(100))
    encoder.encode_body(b"begun", last=False)
    encoder.begin(a_request())
    assert Answer.of(encode(encoder, 200, (), [b"ok"])) == Answer(b"HTTP/1.1 200 OK", _length(2), b"ok")


# Large bodies.


@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 1_000_000])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_large_body_arrives_whole(size: int, parts: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    data = encode(new_encoder(a_request()), 200, (), [body[:size]] * parts)
    assert read_with_h11("GET", data).body == body[:size] * parts


@pytest.mark.parametrize("fields", [[], _length(1_000_001)])
def test_a_large_body_is_not_copied(fields: list[Field]) -> None:
    body = b"x" * 1_000_000
    encoder = new_encoder(a_request())
    encoder.start(200, fields)
    assert any(part is body for part in encoder.encode_body(body, last=False))


# What a client makes of it.

RESPONSES = [
    pytest.param("GET", 200, [], [b"hello"], id="derived length"),
    pytest.param("GET", 200, _length(5), [b"he", b"llo"], id="given length"),
    pytest.param("GET", 200, [], [b"he", b"", b"llo", b""], id="chunked"),
    pytest.param("GET", 200, [], [b"", b""], id="chunked and empty"),
    pytest.param("GET", 200, [(CODING, b"gzip")], [b"he", b"llo"], id="coding of the application"),
    pytest.param("POST", 500, [(b"connection", b"close")], [b"he", b"llo"], id="close"),
    pytest.param("GET", 999, [(b"x-a", b"\xff"), (b"X-A", b"")], [b"hello"], id="odd status and values"),
    pytest.param("GET", 404, [(b"Connection", b"x, keep-alive")], [b"hello"], id="options"),
    pytest.param("OPTIONS", 200, [], [b""], id="no content"),
]


def _check_with_h11(encoder: ResponseEncoder, method: str, data: bytes, status: int, body: bytes) -> list[Field]:
    received = read_with_h11(method, data, closes=not encoder.keep_alive)
    assert received.status == status
    assert received.body == body
    assert received.can_continue is encoder.keep_alive
    return received.fields


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(("method", "status", "fields", "parts"), RESPONSES)
def test_h11_reads_the_response_that_was_meant(
    method: str, status: int, fields: list[Field], parts: list[bytes], keep_alive: bool, version: str
) -> None:
    encoder = new_encoder(a_request(method, version=version, keep_alive=keep_alive))
    data = encode(encoder, status, fields, parts)
    received = _check_with_h11(encoder, method, data, status, b"".join(parts))
    for name, value in fields:
        if name.lower().startswith(b"x-"):
            assert value in field_values(received, name.lower())


_names = st.sampled_from([b"X-A", b"x-b", b"Content-Type", b"Set-Cookie", b"server"])
_values = st.text("".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)])), max_size=8).map(
    lambda text: text.encode("latin-1")
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.integers(200, 999),
    st.lists(st.tuples(_names, _values), max_size=4),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.sampled_from(["1.0", "1.1"]),
    st.booleans(),
    st.booleans(),
)
def test_h11_reads_any_response_that_was_meant(
    method: str, status: int, fields: list[Field], parts: list[bytes], version: str, keep_alive: bool, has_length: bool
) -> None:
    encoder = new_encoder(a_request(method, version=version, keep_alive=keep_alive))
    body = b"".join(parts)
    data = encode(encoder, status, [*fields, *(_length(len(body)) if has_length else [])], parts)
    expected = b"" if method == "HEAD" or status in (204, 205, 304) else body
    received = _check_with_h11(encoder, method, data, status, expected)
    own = (LENGTH, CODING, b"connection")
    assert [field for field in received if field[0] not in own] == [(name.lower(), value) for name, value in fields]
