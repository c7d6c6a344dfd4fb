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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from fastserve.addresses import AllowList
from fastserve.net.stream import Address
from fastserve.settings import ProxySettings
from fastserve.wire.events import Field
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
# How many requests' fields are remembered, and of what length.
_MOST_REMEMBERED = 1024
_REMEMBERED_CHARS = 256

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


@dataclass(frozen=True, slots=True)
class Said:
    """What the fields of a request say. A text is "" when they say nothing that can be believed."""

    client: Address | None = None
    is_secure: bool | None = None
    host: str = ""
    port: str = ""
    prefix: str = ""


class ForwardedFields:
    """Puts what trusted proxies say about the client into scopes.

    names: of the fields that are believed.
    """

    __slots__ = ("_kinds", "_known", "_peers", "names")

    def __init__(self, settings: ProxySettings) -> None:
        self._peers = AllowList(settings.trusted, "--forwarded-allow-ips")
        self._kinds = {name: kind for name, kind in _NAMES.items() if kind in settings.field_names}
        self._known: dict[tuple[Field, ...], Said] = {}  # Clients come again, and proxies say the same of all.
        self.names = frozenset(self._kinds)

    def apply(self, scope: dict[str, Any]) -> None:
        """Change the scope of a request that has such fields, if its peer is trusted."""
        if not self._peers.has(_host_of(scope["client"])):
            return
        names = self.names
        fields = tuple([field for field in scope["headers"] if field[0] in names])
        said = self._known.get(fields) or self._read(fields)
        if said.client is not None:
            scope["client"] = said.client
        if said.is_secure is not None:
            scope["scheme"] = _SCHEMES[scope["type"], said.is_secure]
        if said.host or said.port:
            _set_host(scope, said.host, said.port)
        if said.prefix:
            _set_prefix(scope, said.prefix)

    def _read(self, fields: tuple[Field, ...]) -> Said:
        texts: dict[str, str] = {}
        for name, value in fields:
            kind, text = self._kinds[name], value.decode("latin-1")
            texts[kind] = f"{texts[kind]},{text}" if kind in texts else text  # RFC 9110 §5.2
        if "forwarded" in texts:
            said = self._read_forwarded(texts["forwarded"], texts.get("prefix", ""))
        else:
            said = Said(
                self._find_client(_addresses(texts.get("for", ""))),
                _SECURE.get(_last(texts.get("proto", "")).lower()),
                _checked_host(_last(texts.get("host", ""))),
                _checked_port(_last(texts.get("port", ""))),
                _checked_prefix(_last(texts.get("prefix", ""))),
            )
        if sum(map(len, texts.values())) <= _REMEMBERED_CHARS:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[fields] = said
        return said

    def _find_client(self, addresses: Iterable[Address | None]) -> Address | None:
        """Return the first address that is not trusted, or the last one before there is none."""
        client: Address | None = None
        for address in addresses:
            if address is None:
                break
            client = address
            if not self._peers.has(address[0]):
                break
        return client

    def _read_forwarded(self, text: str, prefix: str) -> Said:
        walked: list[dict[str, str]] = []

        def addresses() -> Iterator[Address | None]:
            for element in _elements(text):
                walked.append(element)
                yield parse_node(element.get("for", ""))

        client = self._find_client(addresses())
        last = walked[-1] if walked else {}  # All of an element is from the proxy that has added it.
        is_secure, host = _SECURE.get(last.get("proto", "").lower()), _checked_host(last.get("host", ""))
        return Said(client, is_secure, host, "", _checked_prefix(_last(prefix)))


def named_clients(fields: Iterable[Field]) -> Iterator[Address | None]:
    """Yield every address that these fields name for a client, whoever has written it; None for what is no address."""
    for name, value in fields:
        if name == b"x-forwarded-for":
            yield from _addresses(value.decode("latin-1"))
        elif name == b"forwarded":
            yield from (parse_node(element.get("for", "")) for element in _elements(value.decode("latin-1")))


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


def _checked_host(host: str) -> str:
    """Return a host, with a port if there is one; "" if it is none."""
    return host if host.isascii() and not host.startswith(":") and is_host(host.encode("ascii")) else ""


def _checked_port(port: str) -> str:
    return port if _is_port(port) and 0 < int(port) <= 65535 else ""


def _checked_prefix(prefix: str) -> str:
    """Return a path without a slash at its end, "" if it is none that a proxy can have cut off."""
    prefix = prefix.rstrip("/")
    if not _is_prefix(prefix):
        return ""
    path = _unquoted(prefix)
    is_plain = path.isprintable() and not any(part in ("", ".", "..") for part in path.split("/")[1:])
    return prefix if is_plain else ""


def _unquoted(prefix: str) -> str:
    return unquote_to_bytes(prefix).decode("utf-8", "replace")


def _set_host(scope: dict[str, Any], host: str, port: str) -> None:
    """Set what the client asked for: the field Host, and the server. A port that the host names comes first."""
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
    before, root_path = scope["root_path"], _unquoted(prefix)
    scope["root_path"] = root_path
    if scope["raw_path"] != b"*":
        scope["path"] = root_path + scope["path"][len(before) :]
        scope["raw_path"] = prefix.encode("ascii") + scope["raw_path"][len(quote(before)) :]
