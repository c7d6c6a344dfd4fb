"""The connections that wait in the kernel's queue while a worker has as many as it may, or can, have.

Idle ones make room for them: those that have been idle the longest are closed, one for each that waits. Where none has
been idle for long, the next response to come is the last one of its connection, and says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from fastserve.net.connection import Connection
from fastserve.net.introduction import Introduction
from fastserve.net.state import ServerState
from fastserve.net.tls import TlsTransport

_log = logging.getLogger("fastserve")

# How long a connection must have been idle: the next request of one that is not may be on its way.
_IDLE_S = 1.0
# How often the log is told, of each reason.
_TOLD_S = 60.0


class Crowd:
    """What the listeners of one worker say of those who wait at them. Any object stands for a listener.

    on_full: told when there is no space for another connection any more, and when there is again.
    """

    def __init__(self, state: ServerState, on_full: Callable[[bool], None]) -> None:
        self._state = state
        self._on_full = on_full
        self._is_full = False
        self._waited_at: set[object] = set()
        # The one that has been idle the longest comes last. None until they are looked for, at most once a tick.
        self._idle: list[Connection | Introduction | TlsTransport] | None = None
        self._told_until: dict[str, float] = {}

    def look(self) -> None:
        """See whether there is space for another connection; to be called when there is one more."""
        is_full = self._state.is_crowded or not self._state.has_space()
        if is_full:
            self._state.when_space(self.look)
        if is_full != self._is_full:
            self._is_full = is_full
            self._on_full(is_full)

    def gather(self, listener: object, level: int, reason: str) -> None:
        """Take note that connections wait at a listener, and make room for one. level, reason: why, for the log."""
        self._waited_at.add(listener)
        self._state.is_crowded = True
        now = self._state.deadlines.now
        if now >= self._told_until.get(reason, -math.inf):
            self._told_until[reason] = now + _TOLD_S
            _log.log(level, "%s: new ones wait until others close, as those do that are idle.", reason)
        self.look()
        self._close_idle()

    def disperse(self, listener: object) -> None:
        """Take note that connections are accepted at a listener."""
        self._waited_at.discard(listener)
        self._state.is_crowded = bool(self._waited_at)
        self.look()

    def tick(self) -> None:
        """Look again who is idle, if anyone waits."""
        self._idle = None
        if self._state.is_crowded:
            self._close_idle()

    def _close_idle(self) -> None:
        """Close the connection that has been idle the longest, if any has for long."""
        since = self._state.deadlines.now - _IDLE_S
        if self._idle is None:
            idle = [each for each in self._state.connections if each.idle_since <= since]
            self._idle = sorted(idle, key=lambda each: each.idle_since, reverse=True)
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since <= since and connection.close_if_idle():
                return
