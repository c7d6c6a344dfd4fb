"""What proxies say about the client: the X-Forwarded fields, and Forwarded (RFC 7239).

Each proxy adds the address that it was connected from at the end of a list, so the list is read from there: as long as
the one who connected is trusted, what it has added is believed. The first address that is not trusted is the client,
and whatever stands before it, the client may have written itself. An entry that is no address ends the walk; then the
last address that is known stands.

The other fields have no such chain. Of several values the last one counts, which is the nearest proxy's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from fastserve.addresses import AllowList
from fastserve.net.stream import Address
from fastserve.settings import ProxySettings
from fastserve.wire.http1.request import is_host

_NAMES = {
    b"x-forwarded-for": "for",
    b"x-forwarded-proto": "proto",
    b"x-forwarded-host": "host",
    b"x-forwarded-port": "port",
    b"x-forwarded-prefix": "prefix",
    b"forwarded": "forwarded",
}
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}
_SCHEMES = {("http", False): "http", ("http", True): "https", ("websocket", False): "ws", ("websocket", True): "wss"}
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# A chain of proxies that is longer is nobody's; what stands before it is not read.
_MOST_HOPS = 64
_MOST_CHARS = 8192
_LONGEST_NODE = 64

_match_node = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._\-]+))?").fullmatch
_is_port = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
# RFC 3986 §3.3, without a comma, which separates the values of several proxies.
_is_prefix = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+;=:@]|%[0-9A-Fa-f]{2})+)*/?", re.ASCII).fullmatch
# RFC 7239 §4. Blanks around separators are not in its grammar, but in the fields that some send.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")'
_find_pairs = re.compile(_PAIR).finditer
_is_element = re.compile(rf"[ \t]*+(?:{_PAIR})?(?:[ \t]*+;[ \t]*+(?:{_PAIR})?)*+[ \t]*+").fullmatch
_drop_escapes = re.compile(r"\\(.)").sub


class ForwardedFields:
    """Puts what trusted proxies say about the client into scopes.

    names: of the fields that are believed.
    """

    __slots__ = ("_believed", "_peers", "names")

    def __init__(self, settings: ProxySettings) -> None:
        self._peers = AllowList(settings.trusted, "--forwarded-allow-ips")
        self._believed = {name: kind for name, kind in _NAMES.items() if kind in settings.field_names}
        self.names = frozenset(self._believed)

    def apply(self, scope: dict[str, Any]) -> None:
        """Change the scope of a request that has such fields, if its peer is trusted."""
        if not self._peers.has(_host_of(scope["client"])):
            return
        said: dict[str, str] = {}
        for name, value in scope["headers"]:
            kind = self._believed.get(name)
            if kind is not None:
                # RFC 9110 §5.2: several lines are one list.
                text = value.decode("latin-1")
                said[kind] = f"{said[kind]},{text}" if kind in said else text
        if "for" in said:
            self._set_client(scope, _addresses(said["for"]))
        if "forwarded" in said:
            self._read_forwarded(scope, said["forwarded"])
        _set_scheme(scope, _last(said.get("proto", "")))
        _set_host(scope, _last(said.get("host", "")), _last(said.get("port", "")))
        _set_prefix(scope, _last(said.get("prefix", "")))

    def _set_client(self, scope: dict[str, Any], addresses: Iterator[Address | None]) -> None:
        for address in addresses:
            if address is None:
                return
            scope["client"] = address
            if not self._peers.has(address[0]):
                return

    def _read_forwarded(self, scope: dict[str, Any], text: str) -> None:
        said: dict[str, str] = {}
        for element in _elements(text):
            said = element
            address = parse_node(element.get("for", ""))
            if address is None:
                break
            scope["client"] = address
            if not self._peers.has(address[0]):
                break
        # All of an element is from the proxy that has added it.
        _set_scheme(scope, said.get("proto", ""))
        _set_host(scope, said.get("host", ""), "")


def _host_of(client: Address | None) -> str | None:
    """Return the IP address of a peer, None when it is on a Unix socket."""
    return client[0] if client is not None and client[1] is not None else None


# Clients.


def parse_node(text: str) -> Address | None:
    """Return the address and port that a proxy gives for a client; the port is 0 if it gives none.

    None is for what is no address: "unknown", and names that only the proxy knows (RFC 7239 §6), too.
    """
    return _parse_short_node(text) if len(text) <= _LONGEST_NODE else None


@lru_cache(maxsize=1024)
def _parse_short_node(text: str) -> Address | None:
    match = _match_node(text)
    try:
        if match is None:
            if "%" in text:
                return None  # a zone, which means nothing on another machine
            return (str(ipaddress.IPv6Address(text)), 0)  # without brackets, as X-Forwarded-For has it
        six, four, port = match.groups()
        if int(port or 0) > 65535:
            return None
        return (str(ipaddress.IPv6Address(six) if six else ipaddress.IPv4Address(four)), int(port or 0))
    except ValueError:
        return None


def _addresses(text: str) -> Iterator[Address | None]:
    """Yield the addresses of X-Forwarded-For, the last one first; None for what is none."""
    for part in reversed(text.rsplit(",", _MOST_HOPS)):
        yield parse_node(part.strip(" \t"))


def _elements(text: str) -> Iterator[dict[str, str]]:
    """Yield the elements of Forwarded, the last one first, as far as they are well-formed.

    From the end: what a client has written, a quotation mark that is never closed too, cannot hide what a proxy has
    added to it.
    """
    if len(text) > _MOST_CHARS:
        text = text[-_MOST_CHARS:].partition(",")[2]
    end = comma = len(text)
    for _ in range(_MOST_HOPS):
        comma = text.rfind(",", 0, comma)
        element = _parse_element(text[comma + 1 : end])
        if element is not None:
            if element:
                yield element
            end = comma
        if comma < 0:
            return


def _parse_element(text: str) -> dict[str, str] | None:
    """Return the pairs of an element, None when it is malformed; a comma in a quoted text is not its end."""
    if not _is_element(text):
        return None
    pairs = {}
    for match in _find_pairs(text):
        name, token, quoted = match.groups()
        if name.lower() in pairs:
            return None  # RFC 7239 §4
        pairs[name.lower()] = token if quoted is None else _drop_escapes(r"\1", quoted)
    return pairs


# The rest.


def _last(text: str) -> str:
    return text.rpartition(",")[2].strip(" \t")


def _set_scheme(scope: dict[str, Any], proto: str) -> None:
    is_secure = _SECURE.get(proto.lower())
    if is_secure is not None:
        scope["scheme"] = _SCHEMES[scope["type"], is_secure]


def _set_host(scope: dict[str, Any], host: str, port: str) -> None:
    """Set what the client asked for: the field Host, and the server. A port that the host names comes first."""
    if port and not (_is_port(port) and 0 < int(port) <= 65535):
        port = ""
    if host and not (host.isascii() and is_host(host.encode("ascii")) and not host.startswith(":")):
        host = ""
    if not host and not port:
        return
    default = _DEFAULT_PORTS[scope["scheme"]]
    if not host:
        server = scope["server"]
        scope["server"] = (server[0] if server is not None else "", int(port))
        host = _without_port(_host_field(scope))
        if not host:
            return
    name = _without_port(host)
    own_port = host[len(name) + 1 :]
    number = int(own_port or port or default)
    scope["server"] = (name.strip("[]"), number)
    value = host if own_port or number == default else f"{name}:{number}"
    others = [field for field in scope["headers"] if field[0] != b"host"]
    scope["headers"] = [(b"host", value.encode("ascii")), *others]


def _host_field(scope: dict[str, Any]) -> str:
    return next((value.decode("ascii") for name, value in scope["headers"] if name == b"host"), "")


def _without_port(host: str) -> str:
    name, colon, _ = host.rpartition(":")
    return name if colon and not host.endswith("]") else host


def _set_prefix(scope: dict[str, Any], prefix: str) -> None:
    """Put what the proxy has cut off the path in place of --root-path."""
    prefix = prefix.rstrip("/")
    if not prefix or not _is_prefix(prefix):
        return
    raw = prefix.encode("ascii")
    root_path = unquote_to_bytes(raw).decode("utf-8", "replace")
    if any(part in ("", ".", "..") for part in root_path.split("/")[1:]) or not root_path.isprintable():
        return
    before = scope["root_path"]
    scope["root_path"] = root_path
    if scope["raw_path"] != b"*":
        scope["path"] = root_path + scope["path"][len(before) :]
        scope["raw_path"] = raw + scope["raw_path"][len(quote(before)) :]
