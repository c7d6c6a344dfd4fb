"""Response heads: statuses, fields, defaults, and what an application cannot do to the connection with them."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from fastserve.errors import InvalidResponse, ProtocolViolation
from fastserve.wire.events import Field
from fastserve.wire.http1.response import ResponseDefaults

from .client import Answer, a_request, encode, new_encoder

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
EPOCH = b"Thu, 01 Jan 1970 00:00:00 GMT"
# One name for each thing that a field can mean to the encoder.
NAMES = [b"x-plain", b"server", b"date", b"content-length", b"connection", b"transfer-encoding"]


def _defaults(*, server: bytes | None = b"fastserve", date: bool = True, fields: Any = ()) -> ResponseDefaults:
    defaults = ResponseDefaults(server=server, date=date, fields=fields)
    defaults.refresh(0.0)
    return defaults


def _answer(fields: Any, defaults: ResponseDefaults | None = None, *, status: int = 200) -> Answer:
    return Answer.of(encode(new_encoder(a_request(), defaults), status, fields))


def test_a_response_is_defaults_then_fields_then_framing() -> None:
    encoder = new_encoder(a_request(), _defaults())
    data = encode(encoder, 200, [(b"content-type", b"text/plain"), (b"X-A", b"1")], [b"hello"])
    assert data == (
        b"HTTP/1.1 200 OK\r\n"
        b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"server: fastserve\r\n"
        b"content-type: text/plain\r\n"
        b"X-A: 1\r\n"
        b"content-length: 5\r\n"
        b"\r\n"
        b"hello"
    )


# Statuses.


def test_any_status_of_three_digits_has_a_status_line() -> None:
    phrases = {status.value: status.phrase.encode() for status in HTTPStatus}
    for status in range(100, 1000):
        assert _answer((), status=status).status_line == b"HTTP/1.1 %d %b" % (status, phrases.get(status, b""))


@pytest.mark.parametrize("status", [0, 1, 99, 1000, -200, True, 200.5, "200", b"200", None, [200]])
def test_another_status_is_invalid(status: Any) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request()).start(status, ())


# Fields.


def test_fields_keep_their_order_their_duplicates_and_their_case() -> None:
    fields = [(b"Set-Cookie", b"a=1"), (b"X-b", b""), (b"Set-Cookie", b"b=2"), (b"set-cookie", b"a=1")]
    data = encode(new_encoder(a_request()), 200, fields)
    assert b"\r\nSet-Cookie: a=1\r\nX-b: \r\nSet-Cookie: b=2\r\nset-cookie: a=1\r\n" in data


def _pairs() -> Iterator[Field]:
    yield b"a", b"1"
    yield b"b", b"2"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b"a", b"1"), (b"b", b"2")], id="list of tuples"),
        pytest.param(((b"a", b"1"), (b"b", b"2")), id="tuple of tuples"),
        pytest.param([[b"a", b"1"], [b"b", b"2"]], id="list of lists"),
        pytest.param({b"a": b"1", b"b": b"2"}.items(), id="view of a dict"),
        pytest.param(_pairs(), id="generator"),
    ],
)
def test_fields_are_pairs_in_anything_iterable(fields: Any) -> None:
    assert _answer(fields).fields[:2] == [(b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(None, id="nothing"),
        pytest.param(5, id="number"),
        pytest.param([b"ab"], id="byte string of two for a pair"),
        pytest.param([(b"a",)], id="one"),
        pytest.param([(b"a", b"1", b"2")], id="three"),
        pytest.param([None], id="no pair"),
        pytest.param({b"ab": b"1"}, id="dict"),
    ],
)
def test_fields_that_are_no_pairs_are_invalid(fields: Any) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request()).start(200, fields)


@pytest.mark.parametrize("value", ["5", "text", 5, None, [b"5"], {b"5"}])
@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_is_no_byte_string_is_invalid(name: bytes, value: Any) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request(), _defaults()).start(200, [(name, value)])


@pytest.mark.parametrize("name", ["x-plain", "content-length", 5, None, memoryview(b"x"), [b"x"]])
def test_a_name_that_is_no_byte_string_is_invalid(name: Any) -> None:
    with pytest.raises(InvalidResponse):
        new_encoder(a_request()).start(200, [(name, b"5")])


def test_a_name_is_a_token() -> None:
    for octet in range(256):
        name = b"a%cb" % octet
        if octet in TOKEN:
            assert _answer([(name, b"1")]).values(name.lower()) == [b"1"]
        else:
            with pytest.raises(InvalidResponse):
                _answer([(name, b"1")])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b" a", b"a ", b"a\r\nb", b"a\n", b"caf\xe9"])
def test_a_name_that_is_no_token_is_invalid(name: bytes) -> None:
    with pytest.raises(InvalidResponse):
        _answer([(name, b"1")])


@pytest.mark.parametrize("name", [b"x-plain", b"server", b"date", b"connection"])
def test_a_value_has_no_controls_but_tab(name: bytes) -> None:
    for octet in range(256):
        value = b"a%cb" % octet
        if octet == 0x09 or (octet >= 0x20 and octet != 0x7F and octet != ord(",")):
            assert _answer([(name, value)], _defaults()).values(name) == [value]
        elif octet != ord(","):
            with pytest.raises(InvalidResponse):
                _answer([(name, value)], _defaults())


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"a\r\nevil: 1", id="another field"),
        pytest.param(b"a\r\n\r\n<script>", id="another body"),
        pytest.param(b"a\nevil: 1", id="bare LF"),
        pytest.param(b"a\revil: 1", id="bare CR"),
        pytest.param(b"a\r\n", id="line end behind"),
        pytest.param(b"a\n", id="LF behind"),
        pytest.param(b"\r\na", id="line end before"),
        pytest.param(b"a\r\n folded", id="folded"),
        pytest.param(b"a\x00b", id="NUL"),
        pytest.param(b"close\r\nevil: 1", id="behind an option"),
        pytest.param(b"close,\r\nevil: 1", id="behind a list of options"),
        pytest.param(b"chunked\r\nevil: 1", id="behind a coding"),
        pytest.param(b"0\r\nevil: 1", id="behind a length"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_cannot_end_its_line(name: bytes, value: bytes) -> None:
    """CVE-2020-7695 in uvicorn, CVE-2018-1000164 in gunicorn."""
    encoder = new_encoder(a_request(), _defaults())
    with pytest.raises(InvalidResponse):
        encoder.start(200, [(b"x-before", b"1"), (name, value)])


def test_a_start_that_failed_can_be_followed_by_a_good_one() -> None:
    encoder = new_encoder(a_request(), _defaults())
    with pytest.raises(InvalidResponse):
        encoder.start(
            200,
            [(b"content-length", b"9"), (b"connection", b"close, x"), (b"server", b"other"), (b"x", b"\n")],
        )
    assert encode(encoder, 500, [(b"a", b"1")], [b"failed"]) == (
        b"HTTP/1.1 500 Internal Server Error\r\ndate: " + EPOCH + b"\r\nserver: fastserve\r\n"
        b"a: 1\r\ncontent-length: 6\r\n\r\nfailed"
    )
    assert encoder.keep_alive


@pytest.mark.parametrize(("status", "fields"), [(1000, []), (200, [(b"x", b"\n")])])
def test_a_start_that_fails_loses_the_one_before(status: int, fields: list[Field]) -> None:
    encoder = new_encoder(a_request())
    encoder.start(200, [(b"a", b"1")])
    with pytest.raises(InvalidResponse):
        encoder.start(status, fields)
    assert b"".join(encoder.encode_body(b"", last=True)) == b""


def test_another_start_replaces_the_one_that_is_held() -> None:
    encoder = new_encoder(a_request(), _defaults())
    encoder.start(200, [(b"content-length", b"9"), (b"connection", b"close"), (b"date", b"never"), (b"a", b"1")])
    answer = Answer.of(encode(encoder, 404, [(b"b", b"2")], [b"no"]))
    assert answer.status_line == b"HTTP/1.1 404 Not Found"
    assert answer.fields == [(b"date", EPOCH), (b"server", b"fastserve"), (b"b", b"2"), (b"content-length", b"2")]


# Default fields.


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        pytest.param(_defaults(server=None, date=False), [], id="none"),
        pytest.param(_defaults(server=b"x", date=False), [(b"server", b"x")], id="server"),
        pytest.param(_defaults(server=None), [(b"date", EPOCH)], id="date"),
        pytest.param(
            _defaults(server=b"x", fields=[(b"X-A", b"1"), (b"X-A", b"2")]),
            [(b"date", EPOCH), (b"server", b"x"), (b"x-a", b"1"), (b"x-a", b"2")],
            id="further fields",
        ),
        pytest.param(
            _defaults(fields=[(b"Server", b"own"), (b"Date", b"never")]),
            [(b"server", b"own"), (b"date", b"never")],
            id="further fields in place of server and date",
        ),
    ],
)
def test_every_response_has_the_default_fields(defaults: ResponseDefaults, expected: list[Field]) -> None:
    assert _answer((), defaults).fields == [*expected, (b"content-length", b"0")]


def test_the_date_is_renewed() -> None:
    defaults = _defaults()
    assert _answer((), defaults).values(b"date") == [EPOCH]
    defaults.refresh(1_000_000_000.9)
    assert _answer((), defaults).values(b"date") == [b"Sun, 09 Sep 2001 01:46:40 GMT"]


@pytest.mark.parametrize("name", [b"date", b"Date", b"server", b"SERVER", b"x-default", b"X-Default"])
def test_a_field_of_the_application_replaces_the_default_in_any_case(name: bytes) -> None:
    defaults = _defaults(fields=[(b"X-Default", b"default"), (b"X-Default", b"2")])
    for _ in range(2):  # also when the field is known from before
        answer = _answer([(b"a", b"1"), (name, b"own")], defaults)
        assert answer.values(name.lower()) == [b"own"]
        others = {b"date", b"server", b"x-default"} - {name.lower()}
        assert all(answer.values(other) for other in others)
    assert _answer((), defaults).values(name.lower()) != [b"own"]


def test_an_application_may_replace_several_defaults_by_several_fields() -> None:
    fields = [(b"Server", b"a"), (b"date", b"b"), (b"server", b"c")]
    assert _answer(fields, _defaults()).fields == [*((k.lower(), v) for k, v in fields), (b"content-length", b"0")]


# Fields that are the server's to write.


@pytest.mark.parametrize("name", [b"transfer-encoding", b"Transfer-Encoding", b"TRANSFER-ENCODING"])
@pytest.mark.parametrize("value", [b"chunked", b"gzip, chunked", b"identity", b""])
def test_transfer_encoding_of_the_application_is_ignored(name: bytes, value: bytes) -> None:
    assert _answer([(name, value), (name, value)]).fields == [(b"content-length", b"0")]


@pytest.mark.parametrize(
    ("sent", "expected", "keep_alive"),
    [
        pytest.param([], [], True, id="nothing"),
        pytest.param([b"keep-alive"], [], True, id="what is anyway"),
        pytest.param([b"Keep-Alive, KEEP-ALIVE"], [], True, id="twice"),
        pytest.param([b""], [], True, id="empty"),
        pytest.param([b"close"], [b"close"], False, id="close"),
        pytest.param([b"Close"], [b"close"], False, id="close in any case"),
        pytest.param([b"close", b"close"], [b"close"], False, id="close twice"),
        pytest.param([b"keep-alive, close"], [b"close"], False, id="close counts more"),
        pytest.param([b"close", b"keep-alive"], [b"close"], False, id="close counts more on two lines"),
        pytest.param([b"upgrade"], [b"upgrade"], True, id="another option"),
        pytest.param([b"x ,\tclose\t, y"], [b"x, y", b"close"], False, id="close among others"),
        pytest.param([b"x, keep-alive"], [b"x"], True, id="keep-alive among others"),
        pytest.param([b"disclose"], [b"disclose"], True, id="longer word"),
    ],
)
def test_connection_options_of_the_application_are_merged(
    sent: list[bytes], expected: list[bytes], keep_alive: bool
) -> None:
    encoder = new_encoder(a_request())
    answer = Answer.of(encode(encoder, 200, [(b"Connection", value) for value in sent]))
    assert answer.values(b"connection") == expected
    assert encoder.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("version", "asks_to_stay", "options"),
    [("1.1", True, []), ("1.1", False, [b"close"]), ("1.0", True, [b"keep-alive"]), ("1.0", False, [b"close"])],
)
def test_the_connection_stays_open_if_the_client_wants_it(
    version: str, asks_to_stay: bool, options: list[bytes]
) -> None:
    encoder = new_encoder(a_request(version=version, keep_alive=asks_to_stay))
    assert encoder.keep_alive is asks_to_stay
    answer = Answer.of(encode(encoder, 200, [(b"connection", b"keep-alive")], [b"body"]))
    assert answer.status_line == b"HTTP/1.1 200 OK"
    assert answer.values(b"connection") == options
    assert encoder.keep_alive is asks_to_stay


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_server_can_make_a_response_the_last_one_while_its_start_is_held(version: str) -> None:
    encoder = new_encoder(a_request(version=version))
    encoder.start(200, ())
    encoder.keep_alive = False
    assert Answer.of(b"".join(encoder.encode_body(b"", last=True))).values(b"connection") == [b"close"]
    encoder.begin(a_request())
    assert encoder.keep_alive


# What is remembered.


def test_a_field_that_comes_again_is_the_same_and_one_that_differs_is_not() -> None:
    defaults = _defaults(server=None, date=False)
    for name, value in [(b"A", b"1"), (b"A", b"2"), (b"a", b"1"), (b"A", b"1"), (b"A", b""), (b"A: 1", b"")]:
        encoder = new_encoder(a_request(), defaults)
        if name == b"A: 1":
            with pytest.raises(InvalidResponse):
                encoder.start(200, [(name, value)])
        else:
            assert b"\r\n%b: %b\r\n" % (name, value) in encode(encoder, 200, [(name, value)])


def test_the_fields_that_are_remembered_are_bounded_in_number_and_length() -> None:
    defaults = _defaults()
    for number in range(3000):
        fields = [(b"x-request-id", b"%d" % number), (b"x-%d" % number, b"1"), (b"x-long", b"%d" % number * 100)]
        assert [value for name, value in _answer(fields, defaults).fields if name.startswith(b"x-")] == [
            value for _, value in fields
        ]
        assert len(defaults.known) <= 1024
        assert max(map(len, (value for value in defaults.known.values() if isinstance(value, bytes)))) <= 256


# What the server says by itself.


def test_continue_is_a_response_without_fields() -> None:
    assert new_encoder(a_request()).encode_continue() == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 501, 505])
def test_a_refusal_is_a_complete_response_with_a_date_and_the_last_one(status: int) -> None:
    encoder = new_encoder(a_request(), _defaults())
    encoder.start(200, [(b"content-length", b"999"), (b"x-secret", b"1")])
    answer = Answer.of(b"".join(encoder.encode_refusal(ProtocolViolation("for the log", status=status), None)))
    text = b"Invalid HTTP request received." if status == 400 else HTTPStatus(status).phrase.encode()
    assert answer == Answer(
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        [
            (b"date", EPOCH),
            (b"server", b"fastserve"),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ],
        text,
    )
    assert not encoder.keep_alive
