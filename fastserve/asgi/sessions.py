"""The WebSockets of one worker: opening them, calling the application, and what happens when that ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence

from fastserve.asgi.application import Application, tell
from fastserve.asgi.calling import call
from fastserve.asgi.scope import ScopeBuilder
from fastserve.asgi.types import ASGIApp
from fastserve.asgi.websocket import Session, SessionCaller
from fastserve.errors import ProtocolViolation
from fastserve.net.stream import Stream
from fastserve.settings import ConnectionLimits, WebSocketSettings
from fastserve.wire.events import RequestHead
from fastserve.wire.ws.handshake import read_handshake

_log = logging.getLogger("fastserve")


class Sessions(SessionCaller):
    """Opens WebSockets, and calls the application for each, beside its other calls.

    on_answered: called with each session whose handshake is accepted or refused. on_ended: with each whose call is
    over.
    """

    def __init__(
        self,
        app: ASGIApp,
        application: Application,
        scopes: ScopeBuilder,
        settings: WebSocketSettings,
        limits: ConnectionLimits,
        *,
        loop: asyncio.AbstractEventLoop,
        on_answered: Sequence[Callable[[Session], None]] = (),
        on_ended: Sequence[Callable[[Session], None]] = (),
    ) -> None:
        super().__init__(loop)
        self._app = app
        self._application = application
        self._loop = loop
        self._scopes = scopes
        self._most = limits.websockets or sys.maxsize
        self._settings = settings
        self._max_unread = limits.unread_bytes
        self._on_answered = list(on_answered)
        self._on_ended = list(on_ended)

    def open(self, head: RequestHead, stream: Stream) -> Session:
        """Return the session for a request that opens a WebSocket.

        Raises:
            ProtocolViolation: the request is no valid handshake, or there are too many sessions already.
        """
        handshake = read_handshake(head)
        if self._application.websockets >= self._most:
            raise ProtocolViolation("too many WebSockets are open", status=503, fields=((b"retry-after", b"1"),))
        scope = self._scopes.build_websocket(head, stream, handshake.subprotocols)
        return Session(head, handshake, scope, stream, self, self._settings, self._max_unread, self._loop)

    def call(self, session: Session) -> None:
        """Call the application for this session, in a task of its own."""
        self._application.websockets += 1
        self._application.start(call(self._app, session.scope, session.receive, session.send, session, self))

    def answered(self, session: Session) -> None:
        """Tell the observers (see SessionCaller)."""
        tell(self._on_answered, session)

    def returned(self, session: Session, result: object) -> None:
        """Take note that a call has returned this."""
        if result is not None:
            _log.error("ASGI callable should return None, but returned %r.", result)
        if not session.is_answered() and not session.peer_is_gone and not self._application.is_cancelled():
            what = "completing response" if session.status else "sending handshake"
            _log.error("ASGI callable returned without %s.", what)
        try:
            session.finish()
        finally:
            self._ended(session)

    def failed(self, session: Session, error: BaseException) -> None:
        """Take note that a call has raised this."""
        if isinstance(error, GeneratorExit) and asyncio.current_task(self._loop) is None:
            return  # It did not end, but was destroyed together with the event loop.
        try:
            self._application.report(error, session)
            session.fail()
        finally:
            self._ended(session)

    def _ended(self, session: Session) -> None:
        self._application.websockets -= 1
        self._application.ended()
        tell(self._on_ended, session)
