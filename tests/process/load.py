"""Load that knows what became of every request: a client with many connections, each with one request at a time."""

from __future__ import annotations

import errno
import re
import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

_LOST_S = 15.0  # A request without an answer for so long has failed.
_TURN_S = 0.05


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    sent_at: float
    is_connected: bool = False
    data: bytes = field(default=b"")


class ClosedLoop:
    """Sends the next request as soon as the last one is answered, on each of its connections, in a thread.

    address: text is the path of a Unix socket. keeps: whether connections are kept for the next request. method: of the
    requests. pids: how many answers came from each process (the target is one that answers with its process id).
    failed: how many requests failed, by how. refused: how many connections were refused.
    """

    def __init__(
        self, address: tuple[str, int] | str, *, connections: int = 16, keeps: bool = True, method: str = "GET"
    ) -> None:
        self._address = address
        self._keeps = keeps
        line = "" if keeps else "Connection: close\r\n"
        self._request = f"{method} /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n{line}\r\n".encode()
        self._selector = selectors.DefaultSelector()
        self._wanted = connections
        self._is_ending = False
        self.pids: Counter[int] = Counter()
        self.failed: Counter[str] = Counter()
        self.refused = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> ClosedLoop:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the answers that are due, and end."""
        self._is_ending = True
        self._thread.join()
        self._selector.close()

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return self.pids.total()

    @property
    def is_running(self) -> bool:
        """Whether there is anything under way."""
        return self._thread.is_alive()

    def _run(self) -> None:
        for _ in range(self._wanted):
            self._connect()
        while self._selector.get_map():
            for key, _ in self._selector.select(_TURN_S):
                self._go_on(key.data)
            self._give_up_late_ones()

    def _give_up_late_ones(self) -> None:
        now = time.monotonic()
        for key in list(self._selector.get_map().values()):
            if now - key.data.sent_at > _LOST_S:
                self._fail(key.data, f"no answer within {_LOST_S:g} s")

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET)
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self._address)
        self._selector.register(sock, selectors.EVENT_WRITE, _Connection(sock, time.monotonic()))

    def _go_on(self, connection: _Connection) -> None:
        try:
            if not connection.is_connected:
                self._send_first(connection)
            else:
                self._receive(connection)
        except ConnectionRefusedError:
            self.refused += 1
            time.sleep(0.001)  # Not as fast as the loop turns.
            self._end(connection)
        except OSError as error:
            self._fail(connection, errno.errorcode.get(error.errno or 0, str(error)))

    def _send_first(self, connection: _Connection) -> None:
        problem = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, errno.errorcode[problem])
        connection.is_connected = True
        self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        connection.data = b""
        connection.sent_at = time.monotonic()
        connection.sock.send(self._request)

    def _receive(self, connection: _Connection) -> None:
        data = connection.sock.recv(64 * 1024)
        if not data:
            kind = "closed in the middle of an answer" if connection.data else "closed without an answer"
            self._fail(connection, kind)
            return
        connection.data += data
        head, end, body = connection.data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: ([0-9]+)", head.lower())
        if not end or length is None or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._fail(connection, head.partition(b"\r\n")[0].decode())
            return
        self.pids[int(body)] += 1
        if b"connection: close" in head.lower() or not self._keeps or self._is_ending:
            self._end(connection)
        else:
            self._send(connection)

    def _fail(self, connection: _Connection, kind: str) -> None:
        self.failed[kind] += 1
        self._end(connection)

    def _end(self, connection: _Connection) -> None:
        self._selector.unregister(connection.sock)
        connection.sock.close()
        if not self._is_ending:
            self._connect()
