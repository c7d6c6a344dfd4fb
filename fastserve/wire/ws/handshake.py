"""The opening handshake, as the request has it (RFC 6455 §4.2, §9.1; RFC 8441 §5 for HTTP/2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import Field, RequestHead
from fastserve.wire.ws.deflate import NAME, Deflating, negotiate

PROTOCOL = b"websocket"
"""What a request that opens a WebSocket asks for, in lower case."""

_VERSION = b"13"
_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_is_token = re.compile(_TOKEN).fullmatch
_EXTENSION_PARAM = rf"[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|\"({_TOKEN})\"))?"
_match_extension = re.compile(rf"[ \t]*({_TOKEN})((?:{_EXTENSION_PARAM})*)[ \t]*").fullmatch
_find_params = re.compile(_EXTENSION_PARAM).findall
# Quotes enclose tokens only here, so that a comma always separates.
_MOST_EXTENSIONS = 64


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client asks for.

    subprotocols: those that it speaks, the one that it likes best first. deflating: what can be agreed on about
    compression, None when nothing can. key: for the accepting response of HTTP/1.1.
    """

    subprotocols: tuple[str, ...]
    deflating: Deflating | None
    key: bytes | None

    def answer(self, subprotocol: str | None, deflating: Deflating | None) -> list[Field]:
        """Return the fields of the accepting response."""
        fields: list[Field] = []
        if self.key is not None:
            fields.append((b"sec-websocket-accept", accept_key(self.key)))
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        if deflating is not None:
            fields.append((b"sec-websocket-extensions", deflating.answer()))
        return fields


def read_handshake(head: RequestHead) -> Handshake:
    """Return what a request asks for that wants to open a WebSocket.

    Raises:
        ProtocolViolation: 400 when it is none that is valid, 426 for another version of the protocol.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in head.fields:
        if name.startswith(b"sec-websocket-"):
            values.setdefault(name, []).append(value)
    if head.has_body():
        raise ProtocolViolation("a WebSocket handshake with a body")
    versions = values.get(b"sec-websocket-version", [])
    if versions != [_VERSION]:
        # RFC 6455 §4.4, RFC 9110 §15.5.22
        fields = ((b"sec-websocket-version", _VERSION), (b"upgrade", PROTOCOL), (b"connection", b"upgrade"))
        raise ProtocolViolation("the version of WebSocket is not 13", status=426, fields=fields)
    return Handshake(
        _read_subprotocols(values.get(b"sec-websocket-protocol", [])),
        _read_extensions(values.get(b"sec-websocket-extensions", [])),
        _read_key(head, values.get(b"sec-websocket-key", [])),
    )


def accept_key(key: bytes) -> bytes:
    """Return what proves that the key was read (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _KEY_SALT, usedforsecurity=False).digest())


def _read_key(head: RequestHead, keys: list[bytes]) -> bytes | None:
    """Return the key, None where there is none because the protocol below has no need for it."""
    if head.http_version != "1.1":
        return None
    if head.method != "GET":
        raise ProtocolViolation("a WebSocket handshake whose method is not GET")
    if len(keys) != 1:
        raise ProtocolViolation("a WebSocket handshake without one Sec-WebSocket-Key")
    try:
        is_key = len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        is_key = False
    if not is_key:
        raise ProtocolViolation("invalid Sec-WebSocket-Key")
    return keys[0]


def _read_subprotocols(values: list[bytes]) -> tuple[str, ...]:
    """Return a list of tokens, which may be spread over several fields."""
    found: dict[str, None] = {}  # in their order; there may be as many as fit in a head
    for value in values:
        for part in value.split(b","):
            name = part.strip(b" \t").decode("latin-1")
            if not name:
                continue  # An element of a list may be empty (RFC 9110 §5.6.1).
            if not _is_token(name) or name in found:
                raise ProtocolViolation("invalid Sec-WebSocket-Protocol")
            found[name] = None
    return tuple(found)


def _read_extensions(values: list[bytes]) -> Deflating | None:
    """Return what to agree on of the first offer that can be accepted, None when there is none."""
    agreed: Deflating | None = None
    offers = [offer for value in values for offer in value.decode("latin-1").split(",")]
    if len(offers) > _MOST_EXTENSIONS:
        raise ProtocolViolation("too many extensions in Sec-WebSocket-Extensions")
    for offer in offers:
        if not offer.strip(" \t"):
            continue
        match = _match_extension(offer)
        if match is None:
            raise ProtocolViolation("invalid Sec-WebSocket-Extensions")
        if match[1].lower() == NAME and agreed is None:
            agreed = negotiate([(name, bare or quoted or None) for name, bare, quoted in _find_params(match[2])])
    return agreed
