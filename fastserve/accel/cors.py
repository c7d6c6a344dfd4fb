"""Starlette's CORSMiddleware, when it is the only middleware of the user."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from fastserve.accel.patches import parts_of, patched, unchanged
from fastserve.accel.watching import swallow
from fastserve.asgi.exchange import respond
from fastserve.asgi.types import Message, Scope, Send

_ORIGIN = b"origin"
_VARY = (b"vary", b"Origin")
_PARTS = """
starlette.middleware.cors:CORSMiddleware.__call__
starlette.middleware.cors:CORSMiddleware.simple_response
starlette.middleware.cors:CORSMiddleware.send
starlette.middleware.cors:CORSMiddleware.allow_explicit_origin
starlette.middleware.cors:MutableHeaders
starlette.middleware.cors:Headers
"""


class Cors:
    """Stands in for a CORSMiddleware. Its attributes are read for each request, as it reads them."""

    __slots__ = ("_is_unpatched", "_middleware")

    def __init__(self, middleware: CORSMiddleware) -> None:
        self._middleware = middleware
        self._is_unpatched = unchanged(parts_of(_PARTS))

    @classmethod
    def of(cls, layer: Any, following: Any) -> Cors | None:
        """Return what stands in for a layer, if it is a plain CORSMiddleware in front of this one."""
        if type(layer) is not CORSMiddleware or layer.app is not following or patched(parts_of(_PARTS)) is not None:
            return None
        return cls(layer)

    def passes(self, scope: Scope) -> bool:
        """Tell whether the middleware would pass a request on: it might answer OPTIONS itself."""
        return scope["method"] != "OPTIONS" and type(scope["headers"]) is list and self._is_unpatched()

    def origin(self, scope: Scope) -> str | None:
        """Return the origin that a request comes from, or None if it does not say."""
        for field in scope["headers"]:
            if field[0] == _ORIGIN:
                return field[1].decode("latin-1")  # type: ignore[no-any-return]
        return None

    def mark(self, message: Message, origin: str | None, scope: Scope) -> None:
        """Put into the start of a response the fields that the middleware would."""
        fields = list(message.get("headers") or ())
        message["headers"] = fields
        for name, _ in fields:
            if name == b"vary" or name.startswith(b"access-control-"):
                self._middleware_marks(message, origin, scope)
                return
        if origin is not None:
            fields += self._origin_fields(origin)
        fields.append(_VARY)

    def marked(self, fields: list[tuple[bytes, bytes]], origin: str | None) -> list[tuple[bytes, bytes]]:
        """Return these fields, of which none is one of CORS, with those that `mark` adds."""
        if origin is None:
            return [*fields, _VARY]
        return [*fields, *self._origin_fields(origin), _VARY]

    def _origin_fields(self, origin: str) -> list[tuple[bytes, bytes]]:
        cors = self._middleware
        fields = {}
        for name, value in cors.simple_headers.items():
            fields[name.lower()] = value
        is_explicit = cors.allow_credentials if cors.allow_all_origins else cors.is_allowed_origin(origin=origin)
        if is_explicit:
            fields["access-control-allow-origin"] = origin
        found = []
        for name, value in fields.items():
            found.append((name.encode("latin-1"), value.encode("latin-1")))
        return found

    def _middleware_marks(self, message: Message, origin: str | None, scope: Scope) -> None:
        """Have the middleware itself do it: it replaces what is there already."""
        marking = self._middleware.send(message, swallow, Headers(scope=scope))
        try:
            marking.send(None)
        except StopIteration:
            return
        raise AssertionError("CORSMiddleware.send waits for nothing else")


class CorsAnswer:
    """A response that gets the fields of CORS.

    is_started: it has been started.
    """

    __slots__ = ("_cors", "_origin", "_scope", "_send", "is_started")

    def __init__(self, cors: Cors, scope: Scope, send: Send) -> None:
        self._cors = cors
        self._origin = cors.origin(scope)
        self._scope = scope
        self._send = send
        self.is_started = False

    def start(self, message: Message) -> None:
        """Take note of the start of the response, and put the fields into it."""
        self.is_started = True
        self._cors.mark(message, self._origin, self._scope)

    def respond(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a complete response with such fields, of which none is one of CORS (see asgi.exchange.respond)."""
        self.is_started = True
        self.is_started = respond(self._send, status, self._cors.marked(fields, self._origin), body)
        return self.is_started
