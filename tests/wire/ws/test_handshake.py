"""What a request says that wants to open a WebSocket."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import RequestHead
from fastserve.wire.ws.deflate import Deflating
from fastserve.wire.ws.handshake import Handshake, accept_key, read_handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def handshake(*fields: tuple[bytes, bytes], key: bytes | None = KEY, version: bytes | None = b"13", **more: Any) -> Any:
    """Return what the request with these fields asks for."""
    own = [(b"sec-websocket-key", key), (b"sec-websocket-version", version)]
    values: dict[str, Any] = {"method": "GET", "http_version": "1.1", "protocol": b"websocket", **more}
    present = [(name, value) for name, value in own if value is not None]
    return read_handshake(RequestHead(raw_path=b"/", query=b"", authority=None, fields=[*present, *fields], **values))


def offers(*values: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"sec-websocket-extensions", value) for value in values)


def test_the_accepting_value_is_that_of_the_rfc() -> None:
    assert accept_key(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_answer_has_what_was_agreed_on() -> None:
    assert handshake().answer(None, None) == [(b"sec-websocket-accept", accept_key(KEY))]
    assert handshake().answer("chat", Deflating(client_forgets=True))[1:] == [
        (b"sec-websocket-protocol", b"chat"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_no_context_takeover"),
    ]


def test_http2_has_no_key() -> None:
    asked = handshake(key=None, http_version="2", method="CONNECT")
    assert asked == Handshake((), None, None)
    assert asked.answer(None, None) == []


def test_subprotocols_are_in_the_order_of_the_client_also_in_several_fields() -> None:
    name = b"sec-websocket-protocol"
    assert handshake((name, b"b, a"), (name, b" c,,")).subprotocols == ("b", "a", "c")


def test_many_subprotocols_take_no_time() -> None:
    names = [f"{number:x}" for number in range(16_000)]
    began_at = time.process_time()
    assert handshake((b"sec-websocket-protocol", ",".join(names).encode())).subprotocols == tuple(names)
    assert time.process_time() - began_at < 0.3, "comparing each with each takes a second and more"


@pytest.mark.parametrize("value", [b"\xff", b"a b", b"a, a", b"a/b", b'"a"'])
def test_a_subprotocol_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="Sec-WebSocket-Protocol") as caught:
        handshake((b"sec-websocket-protocol", value))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ((), None),
        ((b"",), None),
        ((b"x-webkit-deflate-frame",), None),
        ((b"permessage-deflate; client_max_window_bits",), b"permessage-deflate; client_max_window_bits=12"),
        ((b'permessage-deflate ; server_max_window_bits = "10"',), b"permessage-deflate; server_max_window_bits=10"),
        ((b"permessage-deflate; what, permessage-deflate",), b"permessage-deflate"),
        ((b"permessage-deflate; server_max_window_bits=8", b"foo; a=b; c, permessage-deflate"), b"permessage-deflate"),
        ((b"permessage-deflate; what",), None),
    ],
)
def test_the_first_offer_that_can_be_met_is_accepted(values: tuple[bytes, ...], answer: bytes | None) -> None:
    deflating = handshake(*offers(*values)).deflating
    assert (None if deflating is None else deflating.answer()) == answer


@pytest.mark.parametrize("value", [b"a b", b"permessage-deflate; =1", b"a; b=", b"\xff", b";", b'a; b="c d"'])
def test_extensions_that_are_malformed_are_refused(value: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="Sec-WebSocket-Extensions") as caught:
        handshake(*offers(value))
    assert caught.value.status == 400


@pytest.mark.parametrize("key", [None, b"", b"x", b"dGhlIHNhbXBsZQ==", b"dGhlIHNhbXBsZSBub25jZQ=", b"!" * 24])
def test_a_key_that_is_none_is_refused(key: bytes | None) -> None:
    with pytest.raises(ProtocolViolation, match="Key") as caught:
        handshake(key=key)
    assert caught.value.status == 400


def test_two_keys_are_refused() -> None:
    with pytest.raises(ProtocolViolation, match="Key"):
        handshake((b"sec-websocket-key", KEY))


@pytest.mark.parametrize("version", [None, b"8", b"13, 8", b"013"])
def test_another_version_is_told_which_one_there_is(version: bytes | None) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        handshake(version=version)
    assert caught.value.status == 426
    assert (b"sec-websocket-version", b"13") in caught.value.fields
    assert (b"upgrade", b"websocket") in caught.value.fields


@pytest.mark.parametrize("more", [{"method": "POST"}, {"content_length": 5}, {"content_length": None}])
def test_a_request_of_another_kind_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        handshake(**more)
    assert caught.value.status == 400
