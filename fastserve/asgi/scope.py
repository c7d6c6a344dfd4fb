"""The scope of an HTTP request or a WebSocket (ASGI HTTP and WebSocket specification, Connection Scope)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from fastserve.asgi.forwarded import ForwardedFields
from fastserve.net.stream import Stream
from fastserve.wire.events import Field, RequestHead

ASGI_VERSION = "3.0"
WEBSOCKET_SPEC_VERSION = "2.5"

_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class _Nothing(dict[str, Any]):
    """The details of an extension that has none. It stays empty, so that all requests can share it."""

    __slots__ = ()

    def __setitem__(self, name: str, value: Any) -> None:
        raise TypeError("this dictionary belongs to all requests, and stays empty")

    def setdefault(self, name: str, value: Any = None) -> Any:
        """Fail."""
        self[name] = value

    def update(self, *others: Any, **more: Any) -> None:
        """Fail."""
        self[""] = others or more

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)


_NOTHING = _Nothing()
_FILES = ("http.response.pathsend", "http.response.zerocopysend")
# HTTP/1.0 has neither interim responses nor trailers.
_NOT_IN_1_0 = ("http.response.early_hint", "http.response.trailers")
_KEYS = (
    "type",
    "asgi",
    "http_version",
    "server",
    "client",
    "scheme",
    "method",
    "root_path",
    "path",
    "raw_path",
    "query_string",
    "headers",
    "extensions",
)


class ScopeBuilder:
    """Makes scopes; one for each worker.

    root_path: what a proxy in front has cut off each path, with or without slashes at its begin and its end. `path` and
    `raw_path` include it, as the specification asks. forwarded: what puts in what proxies say; None when they are not
    asked. spec_version: of the ASGI HTTP specification. state: the lifespan state, copied into each scope; None when
    there is no lifespan.
    """

    __slots__ = (
        "_asgi",
        "_extensions",
        "_extensions_1_0",
        "_forwarded",
        "_forwarded_names",
        "_raw_root_path",
        "_root_path",
        "_usual",
        "state",
    )

    def __init__(self, root_path: str, forwarded: ForwardedFields | None = None, spec_version: str = "2.4") -> None:
        self._asgi = {"version": ASGI_VERSION, "spec_version": spec_version}
        self.offer_paths(True)
        self._forwarded = forwarded
        self._forwarded_names = forwarded.names if forwarded is not None else frozenset()
        self._root_path = f"/{root_path.strip('/')}".rstrip("/")
        self._raw_root_path = quote(self._root_path).encode("ascii")
        # A copy of a dictionary that has all keys already is made faster than one with the same keys anew, and what
        # most requests have need not be set again.
        self._usual: dict[str, Any] = {
            **dict.fromkeys(_KEYS),
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "method": "GET",
            "query_string": b"",
            "root_path": self._root_path,
        }
        self.state: dict[str, Any] | None = None

    def offer_paths(self, offered: bool) -> None:
        """Offer the extension `http.response.pathsend`, which is offered at first, or do not."""
        self._extensions_1_0: dict[str, Any] = dict.fromkeys(_FILES if offered else _FILES[1:], _NOTHING)
        self._extensions = self._extensions_1_0 | dict.fromkeys(_NOT_IN_1_0, _NOTHING)

    def build(self, head: RequestHead, stream: Stream) -> dict[str, Any]:
        """Return a new scope, of which nothing mutable is shared with another one."""
        raw_path = head.raw_path
        path = decode_path(raw_path)
        if self._root_path and raw_path != b"*":
            path = self._root_path + path
            raw_path = self._raw_root_path + raw_path
        scope = self._usual.copy()
        scope["asgi"] = self._asgi.copy()
        scope["server"] = stream.server
        scope["client"] = stream.client
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["headers"] = head.fields
        if head.is_http10:
            scope["http_version"] = head.http_version
        if stream.scheme != "http":
            scope["scheme"] = stream.scheme
        if head.method != "GET":
            scope["method"] = head.method
        if head.query:
            scope["query_string"] = head.query
        extensions = self._extensions_1_0.copy() if head.is_http10 else self._extensions.copy()
        if stream.tls is not None:
            extensions["tls"] = stream.tls.copy()
        scope["extensions"] = extensions
        if self.state is not None:
            scope["state"] = self.state.copy()
        if self._forwarded is not None and _has_any(head.fields, self._forwarded_names):
            self._forwarded.apply(scope)
        return scope

    def build_websocket(self, head: RequestHead, stream: Stream, subprotocols: Sequence[str]) -> dict[str, Any]:
        """Return a new scope for a request that opens a WebSocket, with the subprotocols that the client offers."""
        scope = self.build(head, stream)
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"]["spec_version"] = WEBSOCKET_SPEC_VERSION
        scope["scheme"] = _WEBSOCKET_SCHEMES.get(scope["scheme"], scope["scheme"])
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        if stream.tls is not None:
            scope["extensions"]["tls"] = stream.tls.copy()
        return scope


_F, _X = b"fx"  # what the names of forwarded fields begin with


def _has_any(fields: list[Field], names: frozenset[bytes]) -> bool:
    """Tell whether there is a field of these names, which begin with "f" or "x".

    Of a request that is refused, names may be empty.
    """
    for field in fields:
        name = field[0]
        first = name[0] if name else 0
        if first in (_F, _X) and name in names:
            return True
    return False


def decode_path(raw_path: bytes) -> str:
    """Return the path with percent-escapes and UTF-8 decoded; bytes that are not UTF-8 become U+FFFD."""
    if b"%" in raw_path:
        return unquote_to_bytes(raw_path).decode("utf-8", "replace")
    return raw_path.decode("ascii")
