"""The PROXY protocol, versions 1 and 2: what a proxy says of a connection before the first byte of the client.

The specification is haproxy.org/download/2.6/doc/proxy-protocol.txt, and sections are those of it. It is read strictly:
what is not exactly a header ends the connection, because a receiver must not guess whether there is one (§2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from fastserve.errors import ProtocolViolation

Endpoint: TypeAlias = tuple[str, int | None]
"""(host, port), or (path, None) of a Unix socket."""

_V1_BEGIN = b"PROXY "
_V1_BYTES = 107  # with its CRLF: the longest line there can be (§2.1)
_match_v1 = re.compile(
    rb"PROXY (?:TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]+) ([0-9]+)|UNKNOWN(?: .*)?)"
).fullmatch
_is_number = re.compile(rb"0|[1-9][0-9]{0,4}").fullmatch

_V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
_V2_BYTES = 16  # up to the addresses
_LOCAL, _PROXY = 0x20, 0x21  # version and command
_STREAM = 0x1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_ADDRESS_BYTES = {_INET: 4, _INET6: 16, _UNIX: 108}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says.

    size: how many bytes it has. has_addresses: whether it says where the connection is from, and where it went. If not,
    the proxy does not know, or it speaks for itself, and the addresses of the socket stand. client, server: None for a
    Unix socket without a name.
    """

    size: int
    has_addresses: bool = False
    client: Endpoint | None = None
    server: Endpoint | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Return the header that a connection begins with, None until more bytes arrive.

    Raises:
        ProtocolViolation: there is none, or it is malformed.
    """
    if data.startswith(_V1_BEGIN):
        return _read_v1(data)
    if data.startswith(_V2_BEGIN):
        return _read_v2(data)
    if _V1_BEGIN.startswith(data) or _V2_BEGIN.startswith(data):
        return None
    raise ProtocolViolation("no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_BYTES)
    if end < 0:
        if len(data) >= _V1_BYTES:
            raise ProtocolViolation("the PROXY header is too long")
        return None
    match = _match_v1(data[:end])
    if match is None:
        raise ProtocolViolation("malformed PROXY header")
    family, *ends = match.groups()
    if family is None:
        return ProxyHeader(end + 2)
    client, server, client_port, server_port = ends
    kind = IPv4Address if family == b"4" else IPv6Address
    try:
        endpoints = [
            (str(kind(host.decode("ascii"))), _port(port))
            for host, port in ((client, client_port), (server, server_port))
        ]
    except ValueError:
        raise ProtocolViolation("malformed PROXY header") from None
    return ProxyHeader(end + 2, True, *endpoints)


def _port(text: bytes) -> int:
    if not _is_number(text) or int(text) > 65535:
        raise ValueError("not a port")
    return int(text)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_BYTES:
        return None
    command = data[12]
    family, transport = data[13] >> 4, data[13] & 0x0F
    size = _V2_BYTES + int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise ProtocolViolation("unknown version or command of a PROXY header")
    if command == _PROXY and (family > _UNIX or transport > _STREAM):
        raise ProtocolViolation("unknown address family or protocol of a PROXY header")
    if len(data) < size:
        return None
    if command == _LOCAL or family == _UNSPEC or transport != _STREAM:
        return ProxyHeader(size)  # §2.2: such addresses are skipped
    return _read_v2_addresses(data[_V2_BYTES:size], family, size)


def _read_v2_addresses(data: bytes, family: int, size: int) -> ProxyHeader:
    """Return the header with its addresses, behind which further values (TLVs) may stand."""
    width = _ADDRESS_BYTES[family]
    ports_at = 2 * width
    if len(data) < ports_at + (0 if family == _UNIX else 4):
        raise ProtocolViolation("the addresses of a PROXY header are cut off")
    client, server = data[:width], data[width:ports_at]
    if family == _UNIX:
        return ProxyHeader(size, True, _path(client), _path(server))
    kind = IPv4Address if family == _INET else IPv6Address
    return ProxyHeader(
        size,
        True,
        (str(kind(client)), int.from_bytes(data[ports_at : ports_at + 2])),
        (str(kind(server)), int.from_bytes(data[ports_at + 2 : ports_at + 4])),
    )


def _path(data: bytes) -> Endpoint | None:
    path = data.rstrip(b"\0").decode(errors="surrogateescape")
    return (path, None) if path else None
