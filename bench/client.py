"""HTTP/1.1 connections in an epoll loop, for the loads that wrk does not make: many that come at once, or that rest."""

from __future__ import annotations

import contextlib
import errno
import re
import select
import socket
import statistics
import time
from collections.abc import Callable

_content_length = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE).search
_MOST_EVENTS = 1024
_READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"


class Session:
    """One connection. began: when it was opened, then when it sent its last request. answered: how many responses."""

    __slots__ = ("answered", "began", "received", "sock")

    def __init__(self, sock: socket.socket, began: float) -> None:
        self.sock = sock
        self.began = began
        self.answered = 0
        self.received = b""


OnResponse = Callable[[Session, float], bool]
"""Called with the seconds that the response took; tells whether to send the next request."""


class Client:
    """Sends one request over and over. errors: connections that failed, or were closed under a request."""

    def __init__(self, port: int, path: str = "/") -> None:
        self._server = ("127.0.0.1", port)
        self._request = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (path.encode(), port)
        self._epoll = select.epoll()
        self._sessions: dict[int, tuple[Session, OnResponse]] = {}
        self.errors = 0
        self.waiting = 0  # sessions with a request under way

    def open(self, on_response: OnResponse, source: str = "127.0.0.1") -> None:
        """Open a connection from this address, and send a request as soon as it stands."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((source, 0))
        session = Session(sock, time.perf_counter())
        result = sock.connect_ex(self._server)
        if result not in (0, errno.EINPROGRESS):
            raise OSError(result, errno.errorcode[result])
        self._sessions[sock.fileno()] = session, on_response
        self._epoll.register(sock, select.EPOLLOUT)
        self.waiting += 1

    def run(self, until: Callable[[], bool], within_s: float) -> None:
        """Go on until this is true.

        Raises:
            TimeoutError: it was not within this time.
        """
        ends_at = time.monotonic() + within_s
        while not until():
            if time.monotonic() > ends_at:
                raise TimeoutError(f"not done within {within_s:g} s")
            for fd, event in self._epoll.poll(0.05, _MOST_EVENTS):
                session, on_response = self._sessions[fd]
                if event & select.EPOLLIN:
                    self._read(session, on_response)
                elif event & select.EPOLLOUT:
                    self._epoll.modify(fd, select.EPOLLIN)
                    session.sock.send(self._request)
                else:
                    self._fail(session)

    def close(self) -> None:
        """Close all connections."""
        for session, _ in self._sessions.values():
            session.sock.close()
        self._sessions.clear()
        self._epoll.close()

    def drop(self, session: Session) -> None:
        """Close this connection, which has no request under way."""
        del self._sessions[session.sock.fileno()]
        session.sock.close()

    def _read(self, session: Session, on_response: OnResponse) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = session.sock.recv(_READ_BYTES)
        if not data:
            self._fail(session)
            return
        session.received += data
        if not _is_whole(session.received):
            return
        now = time.perf_counter()
        session.received = b""
        session.answered += 1
        if on_response(session, now - session.began):
            session.began = now
            session.sock.send(self._request)
        else:
            self.waiting -= 1

    def _fail(self, session: Session) -> None:
        self.errors += 1
        self.waiting -= 1
        self.drop(session)


def _is_whole(received: bytes) -> bool:
    end = received.find(_HEAD_END)
    if end < 0:
        return False
    if not received.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the server answers {received[:80]!r}")
    match = _content_length(received, 0, end)
    if match is None:
        raise RuntimeError("the server answers without a Content-Length")
    return len(received) >= end + len(_HEAD_END) + int(match[1])


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def figures(spent: list[float], seconds: float, requests: int, errors: int) -> dict[str, float]:
    """Return what a load prints: how long responses took, and how many there were in so many seconds."""
    return {
        "requests": requests,
        "seconds": seconds,
        "mean_us": statistics.fmean(spent) * 1e6,
        "p50_us": percentile(spent, 0.5) * 1e6,
        "p99_us": percentile(spent, 0.99) * 1e6,
        "max_us": max(spent) * 1e6,
        "errors": errors,
    }
