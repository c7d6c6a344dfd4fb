"""What a request head means (RFC 9112 §3, §6; RFC 9110 §7.2): request line, target forms, Host and framing.

Parser libraries differ in all of this, so it is decided here, once, and on the strict side: whatever two
implementations could read differently is refused, because a proxy in front may have read it the other way.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.http1.grammar import METHODS, TOKEN

MAX_LENGTH = 2**63 - 1
"""The largest body length, in bytes, that is counted with."""

# RFC 3986 §3.2.2 and §3.2.3, without user information; the name may be empty (RFC 9112 §3.2).
_HOST = rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::([0-9]{0,5}))?"
_LONGEST_HOST = 270  # a name has 255 octets at most (RFC 1035 §2.3.4)

_is_method = re.compile(TOKEN).fullmatch
_match_host = re.compile(_HOST).fullmatch
_match_version = re.compile(rb"HTTP/([0-9])\.[0-9]").fullmatch
# Printable ASCII without "#": a fragment is never sent (RFC 9110 §4.2.5), and two readers would cut it differently.
_is_target = re.compile(rb"[\x21\x22\x24-\x7e]+").fullmatch
_match_absolute = re.compile(rb"https?://([^/?]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE).fullmatch
_is_coding = re.compile(rb"%b(?:[ \t]*;.*)?" % TOKEN).fullmatch

_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_FRAMING_NAMES = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"))


def parse_request_line(line: bytes) -> RequestHead:
    """Return the head that a request line, given without its CRLF, begins. It has no fields yet.

    Raises:
        ProtocolViolation: 400 when malformed, 501 for CONNECT, 505 for a version other than 1.x.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ProtocolViolation("malformed request line")
    method = METHODS.get(parts[0]) or _other_method(parts[0])
    target = parts[1]
    if not _is_target(target):
        raise ProtocolViolation("invalid character in the request target")
    version = _VERSIONS.get(parts[2]) or _other_version(parts[2])
    if method == "CONNECT":
        raise ProtocolViolation("CONNECT is not implemented", status=501)
    if not target.startswith(b"/"):
        return _other_form(method, target, version)
    path, _, query = target.partition(b"?")
    return RequestHead(method, path, query, version, None, [])


def _other_method(method: bytes) -> str:
    if not _is_method(method):
        raise ProtocolViolation("the method is not a token")
    return method.decode("ascii")


def _other_version(version: bytes) -> str:
    match = _match_version(version)
    if match is None:
        raise ProtocolViolation("malformed HTTP version")
    if match[1] != b"1":
        raise ProtocolViolation("HTTP version not supported", status=505)
    return "1.1"  # RFC 9110 §2.5: a higher minor version is served as the highest one known


def _other_form(method: str, target: bytes, version: str) -> RequestHead:
    """Return the head for a target that is not in origin form (RFC 9112 §3.2)."""
    if target == b"*" and method == "OPTIONS":
        return RequestHead(method, target, b"", version, None, [])
    match = _match_absolute(target)
    # RFC 9110 §4.2.1: here the host must not be empty.
    if match is None or not is_host(match[1]) or match[1].startswith(b":"):
        raise ProtocolViolation("the request target has no form that is allowed here")
    authority, path, query = match.groups()
    if path is None and query is None and method == "OPTIONS":
        path = b"*"  # RFC 9112 §3.2.4: an OPTIONS on the whole server, as a proxy gets it
    return RequestHead(method, path or b"/", query or b"", version, authority, [])


def is_host(value: bytes) -> bool:
    """Tell whether a value of Host, or an authority, is a host with or without a port."""
    return len(value) <= _LONGEST_HOST and _is_short_host(value)


@lru_cache(maxsize=256)
def _is_short_host(value: bytes) -> bool:
    match = _match_host(value)
    if match is None or int(match[2] or 0) > 65535:
        return False
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode("ascii"))
        except ValueError:
            return False
    return True


def add_fields(head: RequestHead, fields: list[Field]) -> None:
    """Complete a head with its fields, and with the framing that they declare.

    Raises:
        ProtocolViolation: 400, or as RFC 9110 names it 413, 417 or 501, on anything ambiguous or unknown.
    """
    version = head.http_version
    host: bytes | None = None
    others: list[Field] | None = None
    for field in fields:
        if field[0] in _FRAMING_NAMES:
            if host is None and field[0] == b"host":
                host = field[1]
            elif others is None:
                others = [field]
            else:
                others.append(field)
    # RFC 9112 §3.2. A Host that is none ends up in URLs that applications build (CVE-2026-48710 in Starlette).
    if host is None:
        if version != "1.0":
            raise ProtocolViolation("no Host")
    elif not is_host(host):
        raise ProtocolViolation("invalid Host")
    head.fields = fields
    head.keep_alive = version == "1.1"
    if others is not None:
        _read_framing(head, others)
    if head.authority is not None:
        # RFC 9112 §3.2.2: the authority of an absolute-form target stands, whatever Host says.
        head.fields = [(b"host", head.authority), *(field for field in fields if field[0] != b"host")]


def _read_framing(head: RequestHead, fields: list[Field]) -> None:
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    if b"host" in found:
        raise ProtocolViolation("more than one Host")
    lengths = found.get(b"content-length")
    codings = found.get(b"transfer-encoding")
    if codings:
        _check_codings(codings, lengths, head.http_version)
        head.content_length = None
    elif lengths:
        head.content_length = _parse_length(lengths)
    if b"connection" in found:
        options = _split_list(found[b"connection"])
        head.keep_alive = b"close" not in options and (not head.is_http10 or b"keep-alive" in options)
        # RFC 9110 §7.8: without the option, or in an HTTP/1.0 request, the field is ignored.
        if b"upgrade" in options and b"upgrade" in found and not head.is_http10:
            head.protocol = _split_list(found[b"upgrade"])[0]
    # RFC 9110 §10.1.1: an expectation in an HTTP/1.0 request is ignored.
    if b"expect" in found and not head.is_http10:
        if [value.lower() for value in found[b"expect"]] != [b"100-continue"]:
            raise ProtocolViolation("unknown expectation", status=417)
        head.expects_continue = head.has_body()


def _check_codings(codings: list[bytes], lengths: list[bytes] | None, version: str) -> None:
    # RFC 9112 §6.3: both together is an attempt at smuggling, or a mistake that looks like one.
    if lengths:
        raise ProtocolViolation("both Transfer-Encoding and Content-Length")
    if version == "1.0":
        raise ProtocolViolation("Transfer-Encoding in an HTTP/1.0 request")
    if len(codings) > 1:
        raise ProtocolViolation("more than one Transfer-Encoding")
    coding = codings[0].lower()
    if coding == b"chunked":
        return
    names = [part.strip(b" \t") for part in coding.split(b",")]
    if not all(map(_is_coding, names)) or names.count(b"chunked") > 1:
        raise ProtocolViolation("malformed Transfer-Encoding")
    raise ProtocolViolation("the transfer coding is not implemented", status=501)


def _parse_length(lengths: list[bytes]) -> int:
    if len(lengths) > 1:
        raise ProtocolViolation("more than one Content-Length")
    # isdigit() of bytes knows ASCII digits only; int() alone would take signs, spaces and underscores.
    value = lengths[0]
    if not value.isdigit():
        raise ProtocolViolation("malformed Content-Length")
    if len(value) > 20 or int(value) > MAX_LENGTH:
        raise ProtocolViolation("Content-Length is too large", status=413)
    return int(value)


def _split_list(values: list[bytes]) -> list[bytes]:
    """Return the elements, in lower case, of a list that may be spread over several fields. There is one at least."""
    return [element.strip(b" \t") for value in values for element in value.lower().split(b",")]
