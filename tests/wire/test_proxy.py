"""The PROXY protocol."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import ProtocolViolation
from fastserve.wire.proxy import Endpoint, ProxyHeader, read_proxy_header

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
FOUR = socket.inet_pton(socket.AF_INET, "192.0.2.7") + socket.inet_pton(socket.AF_INET, "192.0.2.1")
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
PORTS = struct.pack("!HH", 4711, 443)
PATHS = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
TLVS = b"\x04\x00\x03abc" + b"\x20\x00\x05\x01\x00\x00\x00\x00"


def v2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


CLIENT4, SERVER4 = ("192.0.2.7", 4711), ("192.0.2.1", 443)
CLIENT6, SERVER6 = ("2001:db8::7", 4711), ("2001:db8::1", 443)

KNOWN = [
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", CLIENT4, SERVER4, id="v1 IPv4"),
    pytest.param(b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 4711 443\r\n", CLIENT6, SERVER6, id="v1 IPv6"),
    pytest.param(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 65535\r\n", ("0.0.0.0", 0), ("0.0.0.0", 65535), id="v1 bounds"),
    pytest.param(v2(0x21, 0x11, FOUR + PORTS), CLIENT4, SERVER4, id="v2 IPv4"),
    pytest.param(v2(0x21, 0x21, SIX + PORTS), CLIENT6, SERVER6, id="v2 IPv6"),
    pytest.param(v2(0x21, 0x11, FOUR + PORTS + TLVS), CLIENT4, SERVER4, id="v2 IPv4 and TLVs"),
    pytest.param(v2(0x21, 0x21, SIX + PORTS + TLVS), CLIENT6, SERVER6, id="v2 IPv6 and TLVs"),
    pytest.param(v2(0x21, 0x31, PATHS), ("/run/client", None), ("/run/server", None), id="v2 Unix"),
    pytest.param(v2(0x21, 0x31, bytes(216) + TLVS), None, None, id="v2 Unix without names"),
]

UNKNOWN = [
    pytest.param(b"PROXY UNKNOWN\r\n", id="v1"),
    pytest.param(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", id="v1 with addresses"),
    pytest.param(v2(0x20, 0x00, b""), id="v2 LOCAL"),
    pytest.param(v2(0x20, 0x11, FOUR + PORTS), id="v2 LOCAL with addresses"),
    pytest.param(v2(0x20, 0xFF, TLVS), id="v2 LOCAL of any family"),
    pytest.param(v2(0x21, 0x00, b""), id="v2 UNSPEC"),
    pytest.param(v2(0x21, 0x01, TLVS), id="v2 UNSPEC stream with TLVs"),
    pytest.param(v2(0x21, 0x10, FOUR + PORTS), id="v2 IPv4 without a protocol"),
]

MALFORMED = [
    pytest.param(b"GET / HTTP/1.1\r\n", "no PROXY header", id="HTTP"),
    pytest.param(b"\x16\x03\x01", "no PROXY header", id="TLS"),
    pytest.param(b"\r\n\r\nGET", "no PROXY header", id="empty lines"),
    pytest.param(b"proxy TCP4 ", "no PROXY header", id="small letters"),
    pytest.param(b"PROXY  UNKNOWN\r\n", "malformed PROXY header", id="two blanks"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n", "malformed PROXY header", id="one port"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 \r\n", "malformed PROXY header", id="blank at the end"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n\r\n", "malformed PROXY header", id="line feed"),
    pytest.param(b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", "malformed PROXY header", id="IPv6 as IPv4"),
    pytest.param(b"PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n", "malformed PROXY header", id="IPv4 as IPv6"),
    pytest.param(b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n", "malformed PROXY header", id="octal"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n", "malformed PROXY header", id="large port"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "malformed PROXY header", id="zero in front"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 2\r\n", "malformed PROXY header", id="negative port"),
    pytest.param(b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n", "malformed PROXY header", id="UDP"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 200, "the PROXY header is too long", id="long"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 93, "the PROXY header is too long", id="107 bytes without an end"),
    pytest.param(v2(0x11, 0x11, FOUR + PORTS), "unknown version or command", id="version 1 in binary"),
    pytest.param(v2(0x22, 0x11, FOUR + PORTS), "unknown version or command", id="another command"),
    pytest.param(v2(0x21, 0x41, FOUR + PORTS), "unknown address family", id="another family"),
    pytest.param(v2(0x21, 0x12, FOUR + PORTS), "unknown address family or protocol", id="datagrams"),
    pytest.param(v2(0x21, 0x11, FOUR + PORTS[:3]), "the addresses of a PROXY header are cut off", id="short IPv4"),
    pytest.param(v2(0x21, 0x21, FOUR + PORTS), "the addresses of a PROXY header are cut off", id="short IPv6"),
    pytest.param(v2(0x21, 0x31, PATHS[:-1]), "the addresses of a PROXY header are cut off", id="short Unix"),
    pytest.param(v2(0x21, 0x11, b""), "the addresses of a PROXY header are cut off", id="no addresses"),
]

WHOLE = [*(case.values[0] for case in KNOWN), *(case.values[0] for case in UNKNOWN)]


@pytest.mark.parametrize(("data", "client", "server"), KNOWN)
def test_a_header_says_where_a_connection_is_from(
    data: bytes, client: Endpoint | None, server: Endpoint | None
) -> None:
    assert read_proxy_header(data) == ProxyHeader(len(data), True, client, server)


@pytest.mark.parametrize("data", UNKNOWN)
def test_a_header_may_leave_the_addresses_of_the_socket(data: bytes) -> None:
    assert read_proxy_header(data) == ProxyHeader(len(data), False, None, None)


@pytest.mark.parametrize(("data", "reason"), MALFORMED)
def test_what_is_not_exactly_a_header_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolViolation) as raised:
        read_proxy_header(data)
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize("data", WHOLE)
def test_a_header_that_has_not_arrived_is_waited_for_and_what_follows_is_not_its_own(data: bytes) -> None:
    assert isinstance(data, bytes)
    for size in range(len(data)):
        assert read_proxy_header(data[:size]) is None
    for rest in (b"", b"\r\n", b"GET / HTTP/1.1\r\n", data):
        header = read_proxy_header(data + rest)
        assert header is not None
        assert header.size == len(data)


@pytest.mark.parametrize("size", [106, 107])
def test_the_longest_line_of_version_1_has_107_bytes(size: int) -> None:
    data = b"PROXY UNKNOWN ".ljust(size - 2, b"x") + b"\r\n"
    assert read_proxy_header(data) == ProxyHeader(size)


def test_the_longest_header_of_version_2_is_read() -> None:
    data = v2(0x21, 0x11, (FOUR + PORTS).ljust(65535, b"\0"))
    assert read_proxy_header(data) == ProxyHeader(16 + 65535, True, CLIENT4, SERVER4)


@given(begin=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]), rest=st.binary())
def test_any_bytes_are_a_header_the_beginning_of_one_or_refused(begin: bytes, rest: bytes) -> None:
    data = begin + rest
    try:
        header = read_proxy_header(data)
    except ProtocolViolation:
        return
    assert header is None or 0 < header.size <= len(data)
