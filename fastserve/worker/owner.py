"""What started a worker: the parent process, or a person where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from fastserve.logs import log_colored
from fastserve.worker.repeats import Repeats
from fastserve.worker.scoreboard import Record
from fastserve.worker.server import Server

_log = logging.getLogger("fastserve")

# When the parent has ended: how long running requests have.
_ORPHAN_S = 1.0
# How long a worker remembers that it was told to stop, and not by the parent: later, that is the first time again.
_ASKED_S = 60.0
_BLOCKED_ORPHAN_S = 3.0

GIVE_UP = b"give up\n"
"""What the parent says to a worker that does not become ready in time."""


class Owner(Protocol):
    """Whoever started a worker, and ends it by signals."""

    signals: tuple[signal.Signals, ...]

    def worker_is_ready(self) -> None:
        """Take note that connections are accepted."""

    def worker_failed(self, text: str) -> None:
        """Take note of why the worker could not start."""

    def worker_is_worn(self, reason: str) -> None:
        """Take note that the worker should be replaced."""

    def hear(self, number: int) -> bool:
        """Take note of a signal, and tell whether it is to have an effect, also before there is a server."""

    def tell(self, number: int, server: Server) -> None:
        """Pass a signal on to the server."""

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        """Stop the server when the owner is gone."""


class Person:
    """Someone at a terminal, or an init system: there is no parent process. clock: in seconds."""

    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) has it ignored
            self.signals += (signal.SIGHUP,)
        self._urls = urls
        self._clock = clock
        self._repeats = Repeats()
        self._has_terminal = _has_terminal()

    def worker_is_ready(self) -> None:
        """Say where the server can be reached."""
        announce(self._urls)

    def worker_failed(self, text: str) -> None:
        """Log it."""
        _log.error("%s", text)

    def worker_is_worn(self, reason: str) -> None:
        """Do nothing: limits that wear a worker out need a parent process, and then there is one."""

    def hear(self, number: int) -> bool:
        """See Owner."""
        return True

    def tell(self, number: int, server: Server) -> None:
        """Stop, more urgently with each signal. SIGHUP has no workers to replace here, and a terminal may be gone.

        What comes within half a second is the same signal.
        """
        if self.has_renewed(number, server):
            return
        is_gentle = number in (signal.SIGTERM, signal.SIGHUP)
        if self._repeats.is_repeated(is_gentle, self._clock()):
            return
        if is_gentle:
            server.stop()
        elif number == signal.SIGINT:
            server.interrupt()
        else:
            server.stop_quickly()

    def has_renewed(self, number: int, server: Server) -> bool:
        """Tell whether a signal was for the certificates, which are then read again.

        SIGHUP is, where there was no terminal from the beginning: then it comes from whoever has renewed them.
        """
        return number == signal.SIGHUP and not self._has_terminal and server.reload_certificates()

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        """Do nothing: a person sends a signal."""


class Parent:
    """The parent process, at the other end of a socket. It gets lines of JSON: an event and a text; it says GIVE_UP.

    pid: its process id. record: where it says that it has told the worker to stop. clock: in seconds.
    """

    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGQUIT)

    def __init__(
        self, channel: socket.socket, pid: int, record: Record, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._pid = pid
        self._record = record
        self._clock = clock
        self._repeats = Repeats()
        self._asked_at = -math.inf

    def worker_is_ready(self) -> None:
        """See Owner."""
        self._say("ready", "")

    def worker_failed(self, text: str) -> None:
        """Let the parent log it: with many workers, all say the same."""
        self._say("failed", text)

    def worker_is_worn(self, reason: str) -> None:
        """See Owner."""
        self._say("worn", reason)

    def _say(self, event: str, text: str) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps((event, text)).encode() + b"\n")

    def hear(self, number: int) -> bool:
        """Leave it to the parent when to stop: the first SIGTERM of someone else may be for all processes.

        The parent is told of it, and replaces this worker unless it has got the signal too.
        """
        if number != signal.SIGTERM or self._record.is_told or os.getppid() != self._pid:
            return True
        now = self._clock()
        if self._repeats.is_repeated(signal.SIGTERM, now):
            return False
        counts = now - self._asked_at < _ASKED_S
        self._asked_at = now
        self._say("leaving" if counts else "asked", "")
        return counts

    def tell(self, number: int, server: Server) -> None:
        """Stop: SIGTERM may come twice, from the parent and from whoever sent it to all processes."""
        if os.getppid() != self._pid:
            # The loop may be blocked, and then it does not see that the parent has ended.
            faulthandler.dump_traceback_later(_BLOCKED_ORPHAN_S, exit=True, file=2)
            if not server.is_stopping:
                server.stop_quickly()
        elif number == signal.SIGQUIT:
            server.stop_quickly()
        elif not server.is_stopping:
            server.stop()

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        """Give up when the parent says so, and stop when it has ended, which closes its end of the socket."""

        def listen() -> None:
            if self._is_spoken_to():
                server.give_up_start()
                return
            loop.remove_reader(self._channel)
            _log.error("The parent process has ended. Shutting down.")
            if not server.is_stopping:
                server.stop_quickly()
            loop.call_later(_ORPHAN_S, server.stop_quickly)

        loop.add_reader(self._channel, listen)

    def _is_spoken_to(self) -> bool:
        """Take what the parent has said; tell whether it has not ended."""
        try:
            return bool(self._channel.recv(len(GIVE_UP)))
        except ConnectionResetError:
            return False


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def announce(urls: Sequence[str]) -> None:
    """Log where the server can be reached, as tools know it from uvicorn."""
    for url in urls:
        place = f"unix socket {url.removeprefix('unix:')}" if url.startswith("unix:") else url
        log_colored(_log, "Fastserve running on %s (Press CTRL+C to quit)", place, bold=True)
