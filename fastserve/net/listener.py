"""Accepting connections from one listening socket."""

from __future__ import annotations

import errno
import logging
import os
import socket

from fastserve.net.crowd import Crowd
from fastserve.net.state import ServerState
from fastserve.net.transports import Transports

_log = logging.getLogger("fastserve")

# Out of file descriptors or memory.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# After that, or an error that nobody expects: how long to wait, if no connection closes until then.
_PAUSE_S = 0.5
# How many connections are accepted before the others of the event loop get their turn.
_ACCEPTS_PER_TURN = 64
# Errors of the connection that was to be accepted, not of the listening socket (accept(2), "Error handling").
_OF_ONE_CONNECTION = (
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
    errno.ETIMEDOUT,
)


class Listener:
    """Accepts connections until it is stopped; while the worker has as many as it may have, they wait in the kernel."""

    def __init__(self, sock: socket.socket, state: ServerState, transports: Transports, crowd: Crowd) -> None:
        self._socket = sock
        self._state = state
        self._transports = transports
        self._crowd = crowd
        self._is_accepting = False
        self._is_stopped = False
        sock.setblocking(False)

    def start(self) -> None:
        """Accept connections; also again, after a pause."""
        if not self._is_accepting and not self._is_stopped:
            self._is_accepting = True
            self._crowd.disperse(self)
            self._state.loop.add_reader(self._socket, self._accept)

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._state.loop.remove_reader(self._socket)

    def _accept(self) -> None:
        """Accept connections: at least one waits."""
        if not self._state.has_space():
            most = self._state.limits.connections
            self._wait_for_space(
                logging.WARNING, f"All {most} connections of process [{os.getpid()}] are taken (--limit-connections)"
            )
            return
        for _ in range(_ACCEPTS_PER_TURN):
            if not self._state.has_space() or not self._accept_one():
                break
        self._crowd.look()

    def _accept_one(self) -> bool:
        """Accept a connection, and tell whether there may be another one."""
        try:
            return self._transports.accept(self._socket)
        except OSError as error:
            if error.errno in _OF_ONE_CONNECTION:
                return True
            if error.errno in _EXHAUSTED:
                self._wait_for_space(logging.ERROR, f"Cannot accept connections: {error.strerror}")
            else:
                _log.error("Cannot accept connections: %s. Trying again in %s s.", error.strerror, _PAUSE_S)
                self._pause()
            self._state.loop.call_later(_PAUSE_S, self.start)
            return False

    def _wait_for_space(self, level: int, reason: str) -> None:
        self._pause()
        self._state.when_space(self.start)
        self._crowd.gather(self, level, reason)

    async def stop(self) -> None:
        """Accept what is waiting in the kernel, then nothing more, and close the socket."""
        while self._is_accepting and self._state.has_space() and self._accept_one():
            pass
        self._pause()
        self._crowd.disperse(self)
        self._is_stopped = True
        self._socket.close()
        await self._transports.wait_attached()
